"""What happened since the last line of metrics.jsonl."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from eqspike_seq.learning.estimators import Estimate, losses
from eqspike_seq.model.network import Shape
from eqspike_seq.phases import RELAXED

SILENT, SATURATED = 0.01, 0.99  # rates beyond which a unit tells nothing


@dataclass
class Window:
    """Sums since the last line of metrics; plain numbers, so that a checkpoint can hold them."""

    texts: int = 0
    batches: int = 0
    right: int = 0
    loss: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, estimate: Estimate, labels: Tensor, shape: Shape, share: float = 1.0) -> None:
        """Count a batch, or the ``share`` of one that a process has."""
        free = estimate.equilibria[0]
        rates = free.rates.output
        self.texts += len(labels)
        self.right += int((free.outputs[-1].argmax(1) == labels).sum())
        self.loss += float(losses(shape, rates, labels).sum())
        values = {}
        for phase, found in zip(RELAXED, estimate.equilibria, strict=False):
            values[f"sweeps/{phase}"] = float(found.steps.double().mean())
            values[f"residual/{phase}"] = float(found.residual.double().mean())
            values[f"converged/{phase}"] = float(found.converged.double().mean())
        for index, layer in enumerate(free.rates.layers, start=2):
            values[f"rates/s{index}"] = float(layer.mean())
            values[f"silent/s{index}"] = float((layer < SILENT).double().mean())
            values[f"saturated/s{index}"] = float((layer > SATURATED).double().mean())
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + share * value

    def __iadd__(self, other: "Window") -> "Window":
        self.texts += other.texts
        self.batches += other.batches
        self.right += other.right
        self.loss += other.loss
        for name, value in other.sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        return self

    def means(self) -> dict[str, Any]:
        """Fields of ``Metrics``: {"train_accuracy": …, "sweeps": {"free": …}, "rates": {"s2": …}, …}."""
        groups: dict[str, dict[str, float]] = {}
        for name, total in self.sums.items():
            group, key = name.split("/")
            groups.setdefault(group, {})[key] = total / self.batches
        return {"train_accuracy": self.right / self.texts, "loss": self.loss / self.texts, **groups}
