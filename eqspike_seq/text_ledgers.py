"""Ledgers of several texts, each by itself, from one pass of counting."""

from typing import Any

import numpy as np
from torch import Tensor

from eqspike_seq.ledger import Ledger, count_sweeps
from eqspike_seq.model.network import Shape
from eqspike_seq.phases import Phase


class LedgerByText(Ledger):
    """A ledger whose counts are those of each text, arrays (B,); a count that all texts share may be one number."""

    def of(self, by_text: Tensor) -> Any:
        """The count of each text, (B,)."""
        return (by_text.flatten(1).sum(1) if by_text.dim() > 1 else by_text).numpy()

    def text(self, row: int) -> Ledger:
        """The ledger of one text."""

        def own(values: dict[str, Any]) -> dict[str, int]:
            return {name: int(value[row] if np.ndim(value) else value) for name, value in values.items()}

        counts = {
            layer: {phase: own(kinds) for phase, kinds in phases.items()} for layer, phases in self.counts.items()
        }
        return Ledger(counts, own(self.samples), own(self.steps), own(self.synapses), list(self.sizes))


def dense_ledgers(shape: Shape, mask: Tensor, steps: Tensor, rounds: int = 1) -> LedgerByText:
    """``dense_ledger`` of the free phase, of each text by itself."""
    totals: dict[str, Any] = {"samples": {Phase.FREE: 1}, "steps": {Phase.FREE: steps.numpy()}}
    ledger = LedgerByText(**totals, sizes=list(shape.sizes))
    count_sweeps(ledger, shape, mask, Phase.FREE, steps, steps * rounds)
    return ledger
