"""Event counts per layer and phase: what the modelled hardware does for one text at a time, never joules.

``mask`` (B, inputs, N) says which places of each text hold a token, or with pooling queries a pattern: equal ones are
stored once, with their count. A *connection* joins two neighbouring layers and is counted in both directions; only rows
of real tokens count. Weights are fetched at each use (no batch to share them with), except w₁ and those of a token
layer, which stay while the tokens of a text pass; stored patterns are fetched once for all rows that are computed
together. Of a token layer w₂ reads the sums over the tokens, and what comes back is added at each of them.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field
from torch import Tensor

from eqspike_seq.errors import RunError
from eqspike_seq.model.network import Shape
from eqspike_seq.phases import Phase

KINDS = (
    "spikes",  # unit events sent
    "graded_events",  # real values sent, one event each
    "payload_bits",  # that graded events carry
    "synaptic_events",  # events × fan-out
    "accumulates",  # additions of a weight, one for each unit event at each synapse
    "multiply_accumulates",  # products with a real value
    "exponentials",  # of HopAttn's scores
    "divisions",  # by HopAttn's normaliser, and in the optimiser
    "neuron_updates",  # steps of a neuron that has received something
    "idle_updates",  # steps of a neuron that has not, until its text is done
    "state_reads",  # words of activations, membranes, traces and summed inputs
    "state_writes",
    "weight_reads",  # words
    "pattern_reads",  # words of the patterns stored in HopAttn
    "pattern_writes",  # once a text
    "plasticity_reads",  # words of what a synapse has gathered of its gradient
    "plasticity_writes",
    "optimiser_reads",  # words: weights, gathered gradients, moments; once a batch
    "optimiser_writes",
    "lookup_reads",  # words of the table of word vectors
    "io_bytes",  # token numbers or pixels in, labels in and out
)
PAYLOAD_BITS = 16  # of a graded event: bf16 carries them without harm to the gradient
Natural = Annotated[int, Field(ge=0, le=2**62, strict=True)]


@dataclass
class Ledger:
    """``counts[layer][phase][kind]``; ``samples`` says over how many texts. Ledgers of one network add up.

    ``steps`` are sweeps or time steps by phase, ``synapses`` both directions of each connection, summed over the texts
    of the free phase, ``sizes`` the units of each layer.
    """

    __pydantic_config__ = ConfigDict(strict=False)  # a file has it as an object of JSON

    counts: dict[str, dict[str, dict[str, Natural]]] = field(default_factory=dict)
    samples: dict[str, Natural] = field(default_factory=dict)
    steps: dict[str, Natural] = field(default_factory=dict)
    synapses: dict[str, Natural] = field(default_factory=dict)
    sizes: list[Natural] = field(default_factory=list)

    def of(self, by_text: Tensor) -> Any:
        """The count of all texts from that of each, (B,) or (B, P)."""
        return int(by_text.sum())

    def add(self, layer: str, phase: str, **counts: int) -> None:
        """Add counts of the kinds named in ``KINDS``."""
        row = self.counts.setdefault(layer, {}).setdefault(phase, dict.fromkeys(KINDS, 0))
        for kind, value in counts.items():
            row[kind] += value

    def __iadd__(self, other: "Ledger") -> "Ledger":
        """Raises RunError unless both are of one network."""
        if self.sizes and other.sizes and self.sizes != other.sizes:
            raise RunError(
                f"ledgers of different networks do not add up: layers of {self.sizes} units and of {other.sizes}"
            )
        self.sizes = self.sizes or list(other.sizes)
        for layer, phases in other.counts.items():
            for phase, kinds in phases.items():
                self.add(layer, phase, **kinds)
        for name in ("samples", "steps", "synapses"):
            mine = getattr(self, name)
            for key, value in getattr(other, name).items():
                mine[key] = mine.get(key, 0) + value
        return self

    def total(self, kind: str, phases: tuple[str, ...] | None = None) -> int:
        """All layers' count of one kind, over the phases named (all, if none is)."""
        return sum(
            kinds[kind]
            for by_phase in self.counts.values()
            for phase, kinds in by_phase.items()
            if phases is None or phase in phases
        )

    def spikes(self) -> dict[str, dict[str, int]]:
        """{layer: {phase: unit spikes}}."""
        return {layer: {phase: kinds["spikes"] for phase, kinds in rows.items()} for layer, rows in self.counts.items()}

    def spikes_per_synapse(self, phases: tuple[str, ...] = (Phase.FREE,)) -> float | None:
        """Σ events × fan-out ÷ (texts × synapses of both directions); None where nothing was sent."""
        synapses = sum(self.synapses.values())
        events = self.total("synaptic_events", phases)
        return events / synapses if synapses and events else None

    def has_all_kinds(self) -> bool:
        """Whether it counts the events of ``KINDS``, no others: one of another version of eqspike does not."""
        return all(set(kinds) == set(KINDS) for phases in self.counts.values() for kinds in phases.values())


@dataclass(frozen=True)
class HopAttnActivity:
    """What HopAttn took in one phase.

    ``rows`` (B, P): how often token rows were computed, in all; ``retrievals`` (B,): at how many moments. ``query``
    (B, P): unit spikes that the queries sent to the stored patterns, None where the scores are products with the query
    itself. ``winners`` (B, P): unit spikes of the stored patterns, None where a softmax mixes them; ``top``: patterns
    that it mixes, 0 for all.
    """

    rows: Tensor
    retrievals: Tensor
    query: Tensor | None = None
    winners: Tensor | None = None
    top: int = 0

    def count(self, ledger: Ledger, shape: Shape, mask: Tensor, phase: str) -> None:
        """Add it to ``ledger``: layer "query" sends to the patterns, layer "hopattn" back to the units of s¹.

        Scores take n_k·D products and n_k exponentials a row, or n_k additions a spike of the query; mixing n_k·D
        products (top: fewer) and D divisions, or D additions a spike of a pattern: winners need no division. In a token
        layer 2 D more, of the token with its query's change and with what it retrieves.
        """
        tokens, stored = row_tokens(shape, mask)
        pairs = ledger.of(tokens * stored) * shape.dim
        scored, units = ledger.of(self.rows * stored), ledger.of(self.rows) * shape.dim
        fetched = shape.dim * ledger.of(self.retrievals.unsqueeze(1) * stored)  # all patterns, once each retrieval
        if self.query is None:
            ledger.add("hopattn", phase, multiply_accumulates=scored * shape.dim, pattern_reads=fetched)
        else:
            _add_spikes(ledger, "query", phase, ledger.of(self.query), ledger.of(self.query.long() * stored))
            ledger.synapses |= {"query": pairs} if phase == Phase.FREE else {}
        if self.winners is None:
            mixed = stored.clamp(max=self.top) if self.top else stored
            products = shape.dim * ledger.of(self.rows * mixed)
            ledger.add("hopattn", phase, multiply_accumulates=products, pattern_reads=fetched, divisions=units)
        else:
            _add_spikes(ledger, "hopattn", phase, ledger.of(self.winners), ledger.of(self.winners) * shape.dim)
            ledger.synapses |= {"patterns": pairs} if phase == Phase.FREE else {}
        ledger.add("hopattn", phase, exponentials=scored, state_reads=units)
        if shape.compared:
            ledger.add("hopattn", phase, multiply_accumulates=2 * units, state_reads=2 * units)


def _add_spikes(ledger: Ledger, layer: str, phase: str, spikes: int, reached: int) -> None:
    """Unit spikes inside HopAttn: at each synapse a component of a pattern is fetched and added to a sum."""
    at_synapses = ("synaptic_events", "accumulates", "pattern_reads", "state_reads", "state_writes")
    ledger.add(layer, phase, spikes=spikes, **dict.fromkeys(at_synapses, reached))


def dense_ledger(
    shape: Shape, mask: Tensor, steps: Tensor, phase: str, rounds: int = 1, still: Tensor | None = None
) -> Ledger:
    """What a dense relaxation does: ``steps`` (B,) sweeps of each text's real tokens; in the free phase its loading.

    A sweep uses w₂ twice, up and down, and the weights above it twice in each of its ``rounds``; it reads both layers
    that a weight joins and writes every activation. In ``still`` (B,) of a text's sweeps s¹ and w₂ had nothing to do.
    """
    ledger = Ledger(samples={phase: len(steps)}, steps={phase: int(steps.sum())}, sizes=list(shape.sizes))
    count_sweeps(ledger, shape, mask, phase, steps if still is None else steps - still, steps * rounds)
    return ledger


def count_sweeps(ledger: Ledger, shape: Shape, mask: Tensor, phase: str, looks: Tensor, turns: Tensor) -> None:
    """``looks`` (B,) at s¹, and ``turns`` (B,) of the layers above s²."""
    units = real_units(shape, mask)
    if phase == Phase.FREE:
        load(ledger, shape, mask)
        if shape.clamped:
            once = ledger.of(units) * shape.sizes[1]  # w₂ x
            ledger.add("s2", phase, multiply_accumulates=once, weight_reads=once, state_reads=ledger.of(units))
    if shape.attention and not shape.uniform:
        HopAttnActivity(looks.unsqueeze(1) * row_tokens(shape, mask)[0], looks).count(ledger, shape, mask, phase)
    swept = 0 if shape.clamped else ledger.of(looks * units)
    ledger.add("s1", phase, neuron_updates=swept, state_writes=swept)
    if shape.compared:
        count_token_layer(ledger, shape, mask, looks, phase)
    below, taken, products = read_units(shape, mask), looks, layer_products(shape, mask)
    for index, size in enumerate(shape.sizes[1:], start=2):
        uses, active = ledger.of(taken * products[f"s{index}"]), ledger.of(turns) * size
        if shape.softmax and index == len(shape.sizes):
            ledger.add(f"s{index}", phase, exponentials=active, divisions=active)
            uses = uses // 2 if phase == Phase.FREE else uses  # what it reads does not feel it, unless it is nudged
        read = active + (0 if index == 2 and shape.clamped else ledger.of(taken * below))
        ledger.add(
            f"s{index}",
            phase,
            multiply_accumulates=uses,
            weight_reads=uses,
            neuron_updates=active,
            state_reads=read,
            state_writes=active,
        )
        below, taken = torch.full_like(below, size), turns


def load(ledger: Ledger, shape: Shape, mask: Tensor) -> None:
    """A text comes in: vectors are looked up and stored as patterns, x w₁ is formed, or q fetched, and kept; the label
    goes out. A counted pattern is a number of four bytes and a count of one."""
    tokens, units, texts = (ledger.of(each) for each in (mask.sum((1, 2)), real_units(shape, mask), one_each(mask)))
    if shape.clamped:
        ledger.add("input", Phase.FREE, io_bytes=units + texts, state_writes=units)
        return
    each = 5 if shape.pooling else 4
    copies = 2 if shape.feedback else 1  # keys and values
    ledger.add("input", Phase.FREE, io_bytes=each * tokens + texts, lookup_reads=copies * tokens * shape.dim)
    if shape.pooling:
        ledger.add("q", Phase.FREE, weight_reads=units, state_writes=units)
    else:
        ledger.add(
            "w1",
            Phase.FREE,
            multiply_accumulates=units * shape.dim,
            weight_reads=texts * math.prod(shape.parameters["w1"]),
            state_reads=units,
            state_writes=units,
        )
    if shape.compared:
        asked = units * shape.compared
        each = shape.compared * (shape.dim + 1)
        ledger.add(
            "wx",
            Phase.FREE,
            multiply_accumulates=asked,
            weight_reads=texts * each,
            state_reads=units,
            state_writes=asked // shape.dim,
        )
    if shape.attention:
        stored = ledger.of(row_tokens(shape, mask)[1]) * shape.dim
        means = (
            {"multiply_accumulates": stored, "pattern_reads": stored}
            if shape.uniform
            else {"pattern_writes": copies * stored}
        )
        ledger.add("hopattn", Phase.FREE, **means)


def count_token_layer(ledger: Ledger, shape: Shape, mask: Tensor, sweeps: Tensor, phase: str) -> None:
    """s^c of real tokens in ``sweeps`` (B,): w_a twice a token, fetched twice for all; their sums, and back."""
    compared = compared_units(shape, mask)
    updated, each = ledger.of(sweeps * compared), shape.compared * shape.dim
    ledger.add(
        "sc",
        phase,
        multiply_accumulates=2 * shape.dim * updated,
        accumulates=2 * updated,
        weight_reads=2 * each * ledger.of(sweeps),
        neuron_updates=updated,
        state_reads=3 * updated,
        state_writes=updated,
    )


def compared_units(shape: Shape, mask: Tensor) -> Tensor:
    """Units of s^c that belong to real tokens, by text, (B,)."""
    return real_units(shape, mask) // shape.dim * shape.compared


def read_units(shape: Shape, mask: Tensor) -> Tensor:
    """What w₂ reads of each text, (B,): real units of s¹, or the sums of a token layer."""
    units = real_units(shape, mask)
    return torch.full_like(units, shape.flat) if shape.compared else units


def real_units(shape: Shape, mask: Tensor) -> Tensor:
    """Units of s¹ that belong to real tokens (all, where it is clamped), by text, (B,); ``mask`` (B, inputs, N).

    Where padding is not masked, it is computed as tokens are. Pooling queries are all real.
    """
    tokens = _tokens(shape, mask)
    if shape.clamped or shape.pooling:
        return torch.full_like(tokens[:, 0], shape.flat)
    return sum((tokens[:, query] for query in shape.queries), tokens.new_zeros(len(tokens))) * shape.dim


def one_each(mask: Tensor) -> Tensor:
    """1 of each text, (B,)."""
    return torch.ones(len(mask), dtype=torch.int64, device=mask.device)


def row_tokens(shape: Shape, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(rows that ask, stored patterns) of each projection, for each text; both (B, P)."""
    tokens = _tokens(shape, mask)
    asking, stored = tokens[:, shape.queries], tokens[:, shape.keys]
    return torch.full_like(asking, shape.rows) if shape.pooling else asking, stored


def _tokens(shape: Shape, mask: Tensor) -> Tensor:
    return mask.sum(-1) if shape.masked else torch.full_like(mask.sum(-1), mask.shape[-1])


def layer_products(shape: Shape, mask: Tensor, rounds: int = 1) -> dict[str, Tensor]:
    """Multiply-accumulates of one sweep of each text, (B,): n_q·n_k·D scores, as many to mix, each weight twice; in a
    token layer 2·n_q·D besides, see ``HopAttnActivity.count``.

    Those above s² ``rounds`` times. Where s¹ is clamped, w₂ is not used in a sweep: w₂ x is formed once a text.
    """
    products = {}
    if shape.attention and not shape.uniform:
        rows, patterns = row_tokens(shape, mask)
        products["hopattn"] = 2 * shape.dim * (rows * (patterns + bool(shape.compared))).sum(1)
    if shape.compared:
        products["sc"] = 2 * shape.dim * compared_units(shape, mask)
    below, uses = read_units(shape, mask), 0 if shape.clamped else 2
    for index, size in enumerate(shape.sizes[1:], start=2):
        products[f"s{index}"] = uses * size * below
        below, uses = below.new_full(below.shape, size), 2 * rounds
    return products


def sweep_products(shape: Shape, mask: Tensor, rounds: int = 1, above: bool = False) -> Tensor:
    """All multiply-accumulates of one sweep for each text, (B,); ``above``: of the layers above s² alone."""
    products = layer_products(shape, mask, rounds)
    kept = [value for layer, value in products.items() if not (above and layer in ("hopattn", "sc", "s2"))]
    return sum(kept, mask.new_zeros(len(mask), dtype=mask.sum().dtype))
