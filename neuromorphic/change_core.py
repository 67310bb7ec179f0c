"""HopAttn beside change-coded neurons: which token rows are computed anew, from what query, and by what.

A row's query q = x w₁ + F⁻¹(w₂ᵀ h²) is read as it is, or (``query_threshold`` above 0) its units are sigma-delta
neurons too, which send signed unit spikes to the stored patterns, whose potentials q·x_j/√d add them up: scores then
cost additions, and only where a query has changed. A row is computed anew when the root mean square of its query's
change since it was last computed exceeds ``attention_threshold``. What it then puts out is the softmax mix of the
patterns (``clocked``) or the mean pattern of ``winners`` spikes (``wta``, see ``winners``).

In the nudges each row goes on from what it put out last, by the change that the change of its query brings. Everything
is sent finely and dithered there, queries too; and the units of the patterns, whose winners are far too coarse for
that, send the change of their own probability, each signed unit spike ``pattern_nudge_threshold`` of it.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from eqspike_seq.config.section import Needs, Section
from eqspike_seq.ledger import row_tokens
from eqspike_seq.model.attention import Retrieval, hopattn, hopattn_and_weights, weights_change
from eqspike_seq.model.network import Batch, Network, State
from eqspike_seq.model.projection import Anchor, Inputs, feedback, full_query, make_anchor, project, project_change
from neuromorphic.events import AttentionEvents
from neuromorphic.neurons import send_dithered, send_on_change
from neuromorphic.winners import pattern_sum, uniform


@dataclass(frozen=True)
class Reading(Section):
    """Settings of the above; ``top_patterns`` above 0 mixes only that many patterns with the highest scores."""

    query_threshold: Annotated[float, Field(ge=0)] = 0.0
    """Change of the query that one spike to the stored patterns stands for; 0: it is read as it is."""
    query_nudge_threshold: Annotated[
        float, Field(ge=1e-6), Needs("--query-threshold above 0", lambda s: s.get("query_threshold", 0) > 0)
    ] = 2e-3
    """The same in the nudges."""
    attention_threshold: Annotated[float, Field(ge=0)] = 0.0
    """A token row is computed again when its query has moved by more than this (root mean square)."""
    sampler = "systematic"
    pattern_nudge_threshold = 2e-4
    winners = 0
    top_patterns = 0


@dataclass(frozen=True)
class Gated(Reading):
    """g"""

    name: ClassVar[str] = "clocked"
    circuit = "clocked"
    spikes = 0
    top_patterns: Annotated[int, Field(ge=0)] = 0
    """Mix only this many patterns with the highest scores of a row; 0: all."""


@dataclass(frozen=True)
class GatedWinners(Reading):
    """w"""

    name: ClassVar[str] = "wta"
    circuit = "wta"
    sampler: Literal["systematic", "iid", "sigma-delta"] = "systematic"
    """How winners are drawn: evenly over the cumulative probabilities, independently, or by what is owed."""
    winners: Annotated[int, Field(ge=1, le=256)] = 32
    """Spikes of a token row each time it is computed."""
    pattern_nudge_threshold: Annotated[float, Field(ge=1e-6)] = 2e-4
    """Change of a pattern's probability that one of its spikes stands for in the nudges."""

    @property
    def spikes(self) -> int:
        return self.winners


class FreeCore:
    """s¹ in the free phase: (B, P, N, D) of the texts asked for."""

    def __init__(self, reading: Reading, network: Network, batch: Batch, inputs: Inputs, w2: Tensor) -> None:
        self.reading, self.network, self.batch, self.inputs, self.w2 = reading, network, batch, inputs, w2
        drive, full = inputs.drive, network.w1.dtype
        self.query = torch.zeros_like(drive)  # that each row was last computed from
        self.own = torch.zeros_like(drive, dtype=full)
        self.units = torch.zeros_like(drive, dtype=full)  # signed units that the query has sent
        self.known = torch.zeros(drive.shape[:3], dtype=torch.bool, device=drive.device)  # rows computed at least once
        self.rows = torch.zeros(drive.shape[:2], dtype=torch.int64, device=drive.device)
        self.readings = torch.zeros_like(batch.labels)
        self.sent = torch.zeros(drive.shape[:2], dtype=torch.float64, device=drive.device)
        self.tokens = row_tokens(network.shape, batch.mask)[0]
        self.u: Tensor | None = None
        if reading.spikes:
            self.u = uniform(reading.sampler, reading.winners, drive.shape[:3], batch.seed).to(self.own)

    def read(self, texts: Tensor | slice, first: Tensor) -> Tensor:
        """Their activations after s² has become ``first`` (b, H₂)."""
        part, full = self.inputs.take(texts), self.own.dtype
        if not self.network.shape.attention:
            self.readings[texts] += 1
            own = self.own[texts] = project(self.network, part, first, self.w2).to(full)
            return own
        reading = self.reading
        query = part.drive + feedback(first, self.w2).view(part.drive.shape)
        if reading.query_threshold:
            query = query if part.rows is None else query * part.rows
            sent = send_on_change(self.units[texts], query.to(full), reading.query_threshold)
            self.units[texts] += sent
            self.sent[texts] += sent.abs().sum((2, 3), dtype=torch.float64)
            query = (reading.query_threshold * self.units[texts]).to(query.dtype)
        u = None if self.u is None else self.u[texts]
        if not reading.attention_threshold and not reading.query_threshold:
            self.rows[texts] += self.tokens[texts]
            self.readings[texts] += 1
            own = self._computed(query, part, u)
        else:
            change = (query - self.query[texts]).to(full).square().mean(3).sqrt()
            anew = (change > reading.attention_threshold) | ~self.known[texts]
            real = anew if part.rows is None else anew & part.rows[..., 0].bool()
            self.rows[texts] += real.sum(2)
            own = self.own[texts].clone()
            moved = anew.flatten(1).any(1)  # the texts in which there is anything to compute
            self.readings[texts] += moved
            if bool(moved.any()):
                new = self._computed(query[moved], part.take(moved), None if u is None else u[moved])
                own[moved] = torch.where(anew[moved].unsqueeze(3), new, own[moved])
            query = torch.where(anew.unsqueeze(3), query, self.query[texts])
            self.known[texts] = True
        self.query[texts], self.own[texts] = query, own
        return own

    def _computed(self, query: Tensor, part: Inputs, u: Tensor | None) -> Tensor:
        reading = self.reading
        if u is None:
            own = hopattn(query, part.patterns, part.bias, reading.top_patterns)
        else:
            own = pattern_sum(reading.sampler, reading.winners, query, part.patterns, part.bias, u) / reading.winners
        return (own if part.rows is None else own.mul_(part.rows)).to(self.own.dtype)

    def events(self, group: int = 0) -> AttentionEvents | None:
        """What it took so far; there is one group."""
        if not self.network.shape.attention:
            return None
        query = self.sent if self.reading.query_threshold else None
        patterns = self.rows * self.reading.spikes if self.reading.spikes else None
        return AttentionEvents(self.rows, self.readings, query, patterns, self.reading.top_patterns)


class NudgeCore:
    """The change of s¹ since the free phase ended, (B, G, P, N, D)."""

    def __init__(self, reading: Reading, free: FreeCore, base: State, groups: int, xi: Tensor) -> None:
        """``base`` is what had been transmitted then; ``xi`` (B, 1, P, N, D) dithers the query."""
        self.reading, self.free, self.xi = reading, free, xi
        network, drive = free.network, free.inputs.drive
        attention = network.shape.attention
        start = self._retrieval() if attention else full_query(network, free.inputs, base.layers[0])
        self.anchor = make_anchor(network, free.inputs, base, start)
        shape = (len(drive), groups, *drive.shape[1:])
        self.units = drive.new_zeros(shape if reading.query_threshold and attention else (0,), dtype=network.w1.dtype)
        self.rows = torch.zeros_like(free.rows).unsqueeze(1).repeat(1, groups, 1)
        self.readings = torch.zeros_like(free.readings)  # the same for all nudges
        self.sent = torch.zeros_like(self.rows, dtype=torch.float64)
        self.patterns: Tensor | None = None  # signed units that the patterns have sent, (B, G, P, N, N)
        if isinstance(start, Retrieval) and reading.spikes:
            generator = torch.Generator().manual_seed(free.batch.seed + 3)
            self.xi_patterns = torch.rand(start.shares.shape, generator=generator).to(start.shares)
            self.patterns = start.shares.new_zeros(len(drive), groups, *start.shares.shape[1:])
            self.sent_patterns = torch.zeros_like(self.sent)

    def _retrieval(self) -> Retrieval:
        """What the queries of the free phase's end have found; shares at full precision where spikes send them."""
        network, inputs, top = self.free.network, self.free.inputs, self.reading.top_patterns
        query = self.free.query.to(network.w1.dtype)
        dtype = query.dtype if self.reading.spikes else inputs.drive.dtype
        found, shares = hopattn_and_weights(query, inputs.patterns, inputs.bias, dtype, top)
        return Retrieval.of(query, inputs.patterns, inputs.bias, shares, found, top)

    def read(self, texts: Tensor | slice, first: Tensor) -> Tensor:
        """That of the texts named, after s² has changed by ``first`` (b, G, H₂)."""
        free, reading, anchor = self.free, self.reading, self.anchor.take(texts)
        shape = (len(first), first.shape[1], *free.inputs.drive.shape[1:])
        change = feedback(first.flatten(0, 1), free.w2).view(shape)
        self.readings[texts] += 1
        if not free.network.shape.attention:
            return project_change(anchor, change)
        if reading.query_threshold:
            change = change if anchor.rows is None else change * anchor.rows.unsqueeze(1)
            full = self.units.dtype
            sent = send_dithered(self.units[texts], change.to(full), reading.query_nudge_threshold, self.xi[texts])
            sent = sent if anchor.rows is None else sent * anchor.rows.unsqueeze(1)
            self.units[texts] += sent
            self.sent[texts] += sent.abs().sum((3, 4), dtype=torch.float64)
            change = (reading.query_nudge_threshold * self.units[texts]).to(change.dtype)
        self.rows[texts] += free.tokens[texts].unsqueeze(1)
        if self.patterns is None:
            return project_change(anchor, change)
        return self._by_spikes(anchor, texts, change)

    def _by_spikes(self, anchor: Anchor, texts: Tensor | slice, change: Tensor) -> Tensor:
        """The change of s¹ that the spikes of the patterns bring, which send the change of their probabilities."""
        assert self.patterns is not None and isinstance(anchor.start, Retrieval)
        theta, stored, moved = self.reading.pattern_nudge_threshold, anchor.start.patterns, []
        for group in range(change.shape[1]):
            units = self.patterns[texts, group]
            shift = weights_change(change[:, group], anchor.start)
            fired = send_dithered(units, shift, theta, self.xi_patterns[texts])
            if anchor.rows is not None:
                fired *= anchor.rows
            self.patterns[texts, group] = units + fired
            self.sent_patterns[texts, group] += fired.abs().sum((2, 3), dtype=torch.float64)
            moved.append((theta * (units + fired)).to(stored.dtype) @ stored)
        return torch.stack(moved, 1)

    def events(self, group: int) -> AttentionEvents | None:
        """What one nudge took so far."""
        reading = self.reading
        if not self.free.network.shape.attention:
            return None
        query = self.sent[:, group] if reading.query_threshold else None
        patterns = None if self.patterns is None else self.sent_patterns[:, group]
        return AttentionEvents(self.rows[:, group], self.readings, query, patterns, reading.top_patterns)
