"""Ledgers of several texts, each by itself, from one pass of counting."""

from typing import Any

import numpy as np
from torch import Tensor

from eqspike_seq.ledger import Ledger, count_sweeps
from eqspike_seq.model.network import Shape
from eqspike_seq.phases import Phase


class LedgerByText(Ledger):
    """A ledger whose counts are those of each text, (B,), until they are told apart."""

    def of(self, by_text: Tensor) -> Any:
        """The count of each text, (B,)."""
        return by_text.flatten(1).sum(1) if by_text.dim() > 1 else by_text

    def apart(self, texts: int) -> list[Ledger]:
        """The ledger of each of so many texts."""
        rows = [row for phases in self.counts.values() for row in phases.values()]
        columns = _columns([value for row in rows for value in row.values()], texts)
        totals = [*self.samples.values(), *self.steps.values(), *self.synapses.values()]
        found = []
        for counted, numbers in zip(columns, _columns(totals, texts), strict=True):
            values, others = iter(counted), iter(numbers)
            counts = {
                layer: {phase: {kind: next(values) for kind in row} for phase, row in phases.items()}
                for layer, phases in self.counts.items()
            }
            samples, steps, synapses = (
                {name: next(others) for name in part} for part in (self.samples, self.steps, self.synapses)
            )
            found.append(Ledger(counts, samples, steps, synapses, list(self.sizes)))
        return found


def _columns(values: list[Any], texts: int) -> list[list[int]]:
    """Those of each text, of numbers (B,) or one for all."""
    table = np.zeros((len(values), texts), dtype=np.int64)
    for row, value in zip(table, values, strict=True):
        row[:] = value
    return table.T.tolist()


def dense_ledgers(shape: Shape, mask: Tensor, steps: Tensor, rounds: int = 1) -> list[Ledger]:
    """``dense_ledger`` of the free phase, of each text by itself."""
    totals: dict[str, Any] = {"samples": {Phase.FREE: 1}, "steps": {Phase.FREE: steps}}
    ledger = LedgerByText(**totals, sizes=list(shape.sizes))
    count_sweeps(ledger, shape, mask, Phase.FREE, steps, steps * rounds)
    return ledger.apart(len(steps))
