"""HopAttn beside change-coded neurons: which token rows are computed anew, from what query, and by what.

A row's query q = x w₁ + F⁻¹(w₂ᵀ h²) is read as it is, or (``query_threshold`` above 0) its units are sigma-delta
neurons too, which send signed unit spikes to the stored patterns, whose potentials q·x_j/√d add them up: scores then
cost additions, and only where a query has changed. A row is computed anew when the root mean square of its query's
change since it was last computed exceeds ``attention_threshold``. What it then puts out is the softmax mix of the
patterns (``Gated``) or the mean pattern of some winners' spikes (``GatedWinners`` in ``winners``).

In the nudges each row goes on from what it put out last, by the change that the change of its query brings. Everything
is sent finely and dithered there, queries too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from eqspike_seq.config.section import Needs, Section
from eqspike_seq.ledger import HopAttnActivity, row_tokens
from eqspike_seq.model.attention import chosen, hopattn
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import State
from eqspike_seq.model.packing import by_projection
from eqspike_seq.model.projection import DenseProjection, Found, Inputs, Layer, Sigma, real
from eqspike_seq.model.synapses import Recall
from neuromorphic.activity import ProjectionActivity
from neuromorphic.neurons import Threshold, send_dithered, send_on_change

CODED_QUERY = Needs("--query-threshold above 0", lambda settings: settings.get("query_threshold", 0) > 0)

Texts = Tensor | slice  # of a batch; a slice is all of them
Dither = Callable[[Tensor], Tensor]  # (B, …) → ξ (B, 1, …), the same in all nudges


@dataclass(frozen=True)
class Circuit(Section):
    """What computes HopAttn for neurons that send changes: it makes the projection of a batch, and of its nudges."""

    query_threshold: Annotated[float, Field(ge=0)] = 0.0
    """Change of a query per spike to the stored patterns. 0: the query is read as a number, without spikes."""
    query_nudge_threshold: Annotated[Threshold, CODED_QUERY] = 2e-3
    """Change of a query per spike to the stored patterns, in the nudges."""
    attention_threshold: Annotated[float, Field(ge=0)] = 0.0
    """Compute a row of HopAttn again when its query has moved by more than this (root mean square)."""

    def projection(self, layer: DenseProjection, batch: Batch) -> "FreeProjection":
        """Before anything has been computed."""
        raise NotImplementedError

    def nudges(self, free: "GatedProjection", groups: int, dither: Dither) -> "GatedNudges":
        """From what the last queries of ``free`` have found."""
        raise NotImplementedError


@dataclass(frozen=True)
class Gated(Circuit):
    """A digital softmax."""

    name: ClassVar[str] = "clocked"
    top_patterns: Annotated[int, Field(ge=0)] = 0
    """Mix only this many patterns with the highest scores of a row. 0: all patterns."""

    def projection(self, layer: DenseProjection, batch: Batch) -> "GatedProjection":
        """Before anything has been computed."""
        return GatedProjection(layer, batch, self.query_threshold, self.attention_threshold, self.top_patterns)

    def nudges(self, free: "GatedProjection", groups: int, dither: Dither) -> "GatedNudges":
        """From what the last queries of ``free`` have found."""
        found = free.found(free.layer.w2.dtype, self.top_patterns)
        return GatedNudges(free, found, groups, self.query_nudge_threshold if self.query_threshold else 0.0, dither)


class FreeProjection:
    """s¹ in the free phase; ``own`` (B, P, N, D) is what it was last. Here σ(q), or the input where it is clamped."""

    def __init__(self, layer: DenseProjection, batch: Batch) -> None:
        self.layer, self.batch, self.retrievals = layer, batch, torch.zeros_like(batch.labels)
        self.own = torch.zeros_like(layer.inputs.drive, dtype=layer.full)

    def free(self, s2: Tensor, texts: Texts, sent: Tensor) -> Tensor:
        """Activations (b, P, N, D) of the texts named, after s² has become ``s2`` (b, H₂), whatever it has ``sent``."""
        layer = self.layer.take(texts)
        self.retrievals[texts] += 1
        own = self.own[texts] = (
            DenseProjection(layer.network, layer.inputs, layer.w2).free(s2, self.own[texts]).to(layer.full)
        )
        return own

    def sent_within(self) -> list[Tensor]:
        """What s¹ below a token layer has sent since this was last asked: (units, neurons) (2, B)."""
        return []

    def anchor(self, circuit: Circuit, base: State, groups: int, dither: Dither) -> "Nudges":
        """For nudges by ``circuit``; ``base`` is what had been transmitted when the free phase ended."""
        query = self.layer.full_query(base.layers[0])
        return Nudges(self.layer, Sigma(self.layer.inputs.rows, query), torch.zeros_like(self.retrievals))

    def activity(self, group: int = 0) -> ProjectionActivity:
        """What it took so far; there is one group."""
        return ProjectionActivity(self.retrievals, None)


@dataclass
class Nudges:
    """The change of s¹, or of a token layer, since the free phase ended, all nudges side by side. Here of s¹ = σ(q)."""

    below: Layer
    sigma: Sigma
    retrievals: Tensor

    def change(self, s2: Tensor, texts: Texts, sent: Tensor) -> Tensor:
        """That of the texts named, by a change of s² (b, G, H₂); ``sent`` is what it has transmitted so far."""
        self.retrievals[texts] += 1
        return self.sigma.take(texts).change(self.below.down(s2))

    def recall(self, s2: Tensor, group: int, sent: Tensor) -> tuple[Recall, Recall]:
        """(change, mean over it) of what the patterns see in one nudge, at whose end s² has changed by ``s2``: here
        there are none."""
        return (), ()

    def activity(self, group: int = 0) -> ProjectionActivity:
        """What one nudge took so far."""
        return ProjectionActivity(self.retrievals, None)

    def sent_within(self) -> list[Tensor]:
        """What s¹ below a token layer has sent since it was last asked, (units, neurons) (2, B, G); none else."""
        return []


class GatedProjection(FreeProjection):
    """s¹ by HopAttn, and what each row was last computed from; a query is sent in steps of ``step`` (0: as it is)."""

    def __init__(self, layer: DenseProjection, batch: Batch, step: float, threshold: float, top: int = 0) -> None:
        super().__init__(layer, batch)
        self.step, self.threshold, self.top, drive = step, threshold, top, layer.inputs.drive
        self.query = torch.zeros_like(drive)  # that each row was last computed from
        self.units = torch.zeros_like(self.own)  # signed units that the query has sent
        self.known = torch.zeros(drive.shape[:3], dtype=torch.bool, device=drive.device)  # rows computed at least once
        self.tokens = row_tokens(layer.network.shape, batch.mask)[0]
        self.rows = torch.zeros_like(self.tokens)
        self.sent = torch.zeros_like(self.tokens, dtype=torch.float64)

    def free(self, s2: Tensor, texts: Texts, sent: Tensor) -> Tensor:
        """Activations of the texts named."""
        layer = self.layer.take(texts)
        return self.retrieved(layer.inputs.drive + layer.down(s2), layer, texts)

    def retrieved(self, query: Tensor, layer: Layer, texts: Texts) -> Tensor:
        """What queries of the texts named find; rows whose query has not moved are left as they are."""
        rows, step = layer.inputs.rows, self.step
        if step:
            query = query if rows is None else query * rows
            sent = send_on_change(self.units[texts], query.to(layer.full), step)
            self.units[texts] += sent
            self.sent[texts] += by_projection(sent.abs().sum(3, dtype=torch.float64), layer.inputs.sums)
            query = (step * self.units[texts]).to(query.dtype)
        if not self.threshold and not step:
            self.rows[texts] += self.tokens[texts]
            self.retrievals[texts] += 1
            own = self._computed(query, layer.inputs, texts)
        else:
            before = chosen(self.query, texts)
            change = (query - before).to(layer.full).square().mean(3).sqrt()
            anew = (change > self.threshold) | ~self.known[texts]
            asked = anew if rows is None else anew & rows[..., 0].bool()
            self.rows[texts] += by_projection(asked, layer.inputs.sums)
            moved = anew.flatten(1).any(1)  # the texts in which there is anything to compute
            self.retrievals[texts] += moved
            if bool(anew.all()):
                own = self._computed(query, layer.inputs, texts)
            else:
                own = chosen(self.own, texts).clone()
                if bool(moved.any()):
                    places = torch.arange(len(self.own), device=moved.device)[texts][moved]
                    new = self._computed(query[moved], layer.inputs.take(moved), places)
                    own[moved] = torch.where(anew[moved].unsqueeze(3), new, own[moved])
                query = torch.where(anew.unsqueeze(3), query, before)
            self.known[texts] = True
        self.query[texts], self.own[texts] = query, own
        return own

    def _computed(self, query: Tensor, inputs: Inputs, texts: Texts) -> Tensor:
        return real(self._mixed(query, inputs, texts), inputs.rows).to(self.layer.full)

    def _mixed(self, query: Tensor, inputs: Inputs, texts: Texts) -> Tensor:
        """Patterns of the texts named, mixed."""
        return hopattn(query, inputs.patterns, inputs.bias, self.top, inputs.values)

    def anchor(self, circuit: Circuit, base: State, groups: int, dither: Dither) -> "GatedNudges":
        """From what the queries have found, by ``circuit``."""
        return circuit.nudges(self, groups, dither)

    def found(self, dtype: torch.dtype, top: int = 0) -> Found:
        """What the last queries have found; shares in ``dtype``."""
        return Found.of(self.query.to(self.layer.full), self.layer.inputs, dtype, top)[1]

    def activity(self, group: int = 0) -> ProjectionActivity:
        """What it took so far; there is one group."""
        query = self.sent if self.step else None
        took = HopAttnActivity(self.rows, self.retrievals, query, self._won(), self.top)
        return ProjectionActivity(self.retrievals, took)

    def _won(self) -> Tensor | None:
        """Unit spikes of the stored patterns."""
        return None


class GatedNudges(Nudges):
    """The change of s¹ since the free phase ended, (B, G, P, N, D)."""

    def __init__(self, free: GatedProjection, found: Found, groups: int, step: float, dither: Dither) -> None:
        self.free, self.found, self.step, shape = free, found, step, free.own.shape
        self.xi = dither(free.own) if step else free.own[:0]
        self.units = free.own.new_zeros((len(free.own), groups, *shape[1:]) if step else (0,))
        self.rows = torch.zeros_like(free.rows).unsqueeze(1).repeat(1, groups, 1)
        self.retrievals = torch.zeros_like(free.retrievals)  # the same for all nudges
        self.sent = torch.zeros_like(self.rows, dtype=torch.float64)

    def change(self, s2: Tensor, texts: Texts, sent: Tensor) -> Tensor:
        """That of the texts named."""
        return self.retrieved(self.free.layer.down(s2), texts)

    def retrieved(self, change: Tensor, texts: Texts) -> Tensor:
        """By a change of the queries of the texts named."""
        found, step = self.found.take(texts), self.step
        self.retrievals[texts] += 1
        if step:
            change = change if found.rows is None else change * found.rows.unsqueeze(1)
            sent = real(send_dithered(self.units[texts], change.to(self.units.dtype), step, self.xi[texts]), found.rows)
            self.units[texts] += sent
            sums = self.free.layer.inputs.take(texts).sums
            self.sent[texts] += by_projection(sent.abs().sum(4, dtype=torch.float64), sums)
            change = (step * self.units[texts]).to(change.dtype)
        self.rows[texts] += self.free.tokens[texts].unsqueeze(1)
        return self._mixed(change, found, texts)

    def _mixed(self, query: Tensor, found: Found, texts: Texts) -> Tensor:
        """By a change of the query."""
        return found.change(query)

    def activity(self, group: int = 0) -> ProjectionActivity:
        """What one nudge took so far."""
        query = self.sent[:, group] if self.step else None
        top = self.found.start.top
        took = HopAttnActivity(self.rows[:, group], self.retrievals, query, self._won(group), top)
        return ProjectionActivity(self.retrievals, took)

    def recall(self, s2: Tensor, group: int, sent: Tensor) -> tuple[Recall, Recall]:
        """(change, mean over it) of what the patterns see in one nudge, at whose end s² has changed by ``s2``."""
        return self.recalled(self.free.layer.down(s2), group)

    def recalled(self, change: Tensor, group: int) -> tuple[Recall, Recall]:
        """The same by a change of the query, which counts as it was sent."""
        turned = (self.step * self.units[:, group] if self.step else change).to(self.found.start.query.dtype)
        moved = self._moved(turned, group)
        return (moved, turned), self.found.after(moved, turned, 0.5)

    def _moved(self, query: Tensor, group: int) -> Tensor:
        """The change of the shares of one nudge, whose query has changed by ``query`` (B, P, R, D)."""
        return self.found.shifted(query)

    def _won(self, group: int) -> Tensor | None:
        """Unit spikes of the stored patterns."""
        return None
