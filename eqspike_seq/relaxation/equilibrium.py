"""What a backend is, and what it returns: where a phase ended, and how."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from eqspike_seq.config.section import Section
from eqspike_seq.ledger import Ledger
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import FeedbackRule, Network, State
from eqspike_seq.model.synapses import Synapses

Kept = TypeVar("Kept", covariant=True)


@dataclass(frozen=True)
class Equilibrium:
    """What is reported of a phase.

    ``rates`` is the state at its end. ``residual`` (B,) is the largest change of any unit above s¹ in the last step,
    ``steps`` (B,) those taken, ``converged`` (B,) whether the residual passed the tolerance. ``outputs`` (R, B, C) are
    the output rates at R readings, ``reading_steps`` apart, and ``events`` (R, B) what it took until then: synaptic
    events where there are spikes, else multiply-accumulates. ``trace`` holds what a recorded phase adds, each
    (steps or R, B, …): residual, phi, spikes.
    """

    rates: State
    residual: Tensor
    steps: Tensor
    converged: Tensor
    outputs: Tensor
    events: Tensor
    ledger: Ledger
    reading_steps: int = 1
    trace: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PhaseEnd(Equilibrium, Generic[Kept]):
    """A phase as its backend leaves it: what its ``synapses`` hold, and what it has ``kept`` to nudge from here."""

    synapses: Synapses
    kept: Kept


class Backend(Section):
    """Relaxes a network: the free phase, then nudges that start where it ended. Its settings are its fields.

    ``together`` is the number of texts of a bucket on a processor (``buckets``), at least; ``feedback_rules`` are those
    by which weights with copies for feedback can learn, none where it relaxes no such network.
    """

    together: ClassVar[int]
    feedback_rules: ClassVar[tuple[FeedbackRule, ...]] = ()
    dtype: torch.dtype  # of large products

    def free(self, network: Network, batch: Batch, record: bool = False) -> PhaseEnd[Any]:
        """β = 0, from rest."""
        raise NotImplementedError

    def nudge(
        self, network: Network, batch: Batch, start: PhaseEnd[Any], betas: tuple[float, ...], record: bool = False
    ) -> list[PhaseEnd[None]]:
        """One equilibrium for each β, all from ``start``; the output is pulled towards the one-hot labels."""
        raise NotImplementedError
