"""Event counts per layer and phase: what the modelled hardware does, never joules.

A *connection* joins two neighbouring layers and is counted in both directions; only rows of real tokens count.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from eqspike_seq.network import Shape

KINDS = (
    "spikes",  # unit events sent
    "graded_events",  # real values sent, one event each
    "synaptic_events",  # events × fan-out
    "accumulates",  # additions of a weight, one for each unit event at each synapse
    "multiply_accumulates",  # products with a real value
    "neuron_updates",  # steps of a neuron
)


@dataclass
class Ledger:
    """``counts[layer][phase][kind]``; ``samples`` says over how many texts. Ledgers add up."""

    counts: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    samples: dict[str, int] = field(default_factory=dict)  # texts seen, by phase
    synapses: dict[str, int] = field(default_factory=dict)  # both directions, summed over the texts of the free phase

    def add(self, layer: str, phase: str, **counts: int) -> None:
        """Add counts of the kinds named in ``KINDS``."""
        row = self.counts.setdefault(layer, {}).setdefault(phase, dict.fromkeys(KINDS, 0))
        for kind, value in counts.items():
            row[kind] += int(value)

    def __iadd__(self, other: "Ledger") -> "Ledger":
        for layer, phases in other.counts.items():
            for phase, kinds in phases.items():
                self.add(layer, phase, **kinds)
        for mine, theirs in ((self.samples, other.samples), (self.synapses, other.synapses)):
            for key, value in theirs.items():
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

    def spikes_per_synapse(self, phases: tuple[str, ...] = ("free",)) -> float | None:
        """Σ events × fan-out ÷ (texts × synapses of both directions); None where nothing was sent."""
        synapses = sum(self.synapses.values())
        events = self.total("synaptic_events", phases)
        return events / synapses if synapses and events else None

    @classmethod
    def dense(cls, shape: Shape, mask: Tensor, steps: Tensor, phase: str) -> "Ledger":
        """What a dense relaxation multiplies: ``steps`` (B,) sweeps of each text's real tokens, and x w₁ once."""
        ledger = cls(samples={phase: len(steps)})
        for layer, products in layer_products(shape, mask).items():
            ledger.add(layer, phase, multiply_accumulates=int((steps * products).sum()))
        units = real_units(shape, mask)
        reached = shape.sizes[1] if shape.clamped else shape.dim  # once a text: w₂ x, or x w₁
        drive = int(units.sum()) * reached if phase == "free" else 0
        updates = 0 if shape.clamped else int((steps * units).sum())
        ledger.add("s1", phase, neuron_updates=updates, multiply_accumulates=drive)
        for index, size in enumerate(shape.sizes[1:], start=2):
            ledger.add(f"s{index}", phase, neuron_updates=int(steps.sum()) * size)
        return ledger

    def as_dict(self) -> dict[str, object]:
        """What ``ledger.json`` holds."""
        return {"format": 1, "samples": self.samples, "synapses": self.synapses, "counts": self.counts}


def real_units(shape: Shape, mask: Tensor) -> Tensor:
    """Units of s¹ that belong to real tokens (all, where it is clamped), by text, (B,); ``mask`` (B, inputs, N)."""
    tokens = mask.sum(-1)
    if shape.clamped:
        return torch.full_like(tokens[:, 0], shape.flat)
    return sum((tokens[:, query] for query, _ in shape.projections), tokens.new_zeros(len(tokens))) * shape.dim


def row_tokens(shape: Shape, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(token rows, stored patterns) of each projection, for each text; both (B, P)."""
    tokens = mask.sum(-1)
    return tokens[:, [query for query, _ in shape.projections]], tokens[:, [key for _, key in shape.projections]]


def layer_products(shape: Shape, mask: Tensor) -> dict[str, Tensor]:
    """Multiply-accumulates of one sweep of each text, (B,): n_q·n_k·D scores, as many to mix, each weight twice.

    Where s¹ is clamped, w₂ is not used in a sweep: w₂ x is formed once a text.
    """
    products = {}
    if shape.attention:
        rows, patterns = row_tokens(shape, mask)
        products["hopattn"] = 2 * shape.dim * (rows * patterns).sum(1)
    below = real_units(shape, mask)
    for index, size in enumerate(shape.sizes[1:], start=2):
        products[f"s{index}"] = (0 if index == 2 and shape.clamped else 2) * size * below
        below = below.new_full(below.shape, size)
    return products


def sweep_products(shape: Shape, mask: Tensor) -> Tensor:
    """All multiply-accumulates of one sweep for each text, (B,)."""
    return sum(layer_products(shape, mask).values(), mask.new_zeros(len(mask), dtype=mask.sum().dtype))
