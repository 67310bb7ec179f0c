"""What a backend is, and what it returns: where a phase ended, and how."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from eqspike_seq.config.section import Section
from eqspike_seq.ledger import Ledger
from eqspike_seq.model.network import Batch, Network, Product, State


@dataclass(frozen=True)
class Equilibrium:
    """Where a phase ended, and how.

    ``rates`` is the state that Eq. 18 reads; ``deviation`` its change since the nudge began where the backend relaxes
    changes (None where it does not). ``residual`` (B,) is the largest change of any unit above s¹ in the last step,
    ``steps`` (B,) those taken, ``converged`` (B,) whether the residual passed the tolerance. ``outputs`` (R, B, C) are
    the output rates at R readings, ``reading_steps`` apart, and ``events`` (R, B) what it took until then: synaptic
    events where there are spikes, else multiply-accumulates. ``memory`` is what the backend needs to start a nudge
    from here. ``trace`` holds what a recorded phase adds, each (steps or R, B, …): residual, phi, spikes. ``local``
    gives, where synapses do not learn from ``rates``, what each of them holds at the end of the phase in place of
    r_post r_pre, summed over the batch, by parameter name.
    """

    rates: State
    residual: Tensor
    steps: Tensor
    converged: Tensor
    outputs: Tensor
    events: Tensor
    ledger: Ledger
    reading_steps: int = 1
    deviation: State | None = None
    memory: object = None
    trace: dict[str, Tensor] = field(default_factory=dict)
    local: Callable[[], dict[str, Tensor | Product]] | None = None


class Backend(Section):
    """Relaxes a network: the free phase, then nudges that start where it ended. Its settings are its fields.

    ``together`` is the number of texts of a bucket on a processor (``buckets``), at least.
    """

    together: ClassVar[int]
    dtype: torch.dtype  # of large products

    def free(self, network: Network, batch: Batch, record: bool = False) -> Equilibrium:
        """β = 0, from rest."""
        raise NotImplementedError

    def nudge(
        self, network: Network, batch: Batch, start: Equilibrium, betas: tuple[float, ...], record: bool = False
    ) -> list[Equilibrium]:
        """One equilibrium for each β, all from ``start``; the output is pulled towards the one-hot labels."""
        raise NotImplementedError
