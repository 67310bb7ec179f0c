"""Read noise: a backend whose synapses have gains of their own for each batch that it is given."""

import zlib
from dataclasses import dataclass, replace
from typing import Any

from eqspike_seq.devices.chip import drawn_for, multiplied
from eqspike_seq.devices.imperfections import ReadNoise
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network
from eqspike_seq.relaxation.equilibrium import Backend, PhaseEnd


@dataclass(frozen=True)
class _Presented:
    """What a free phase saw, and how it ended."""

    network: Network
    batch: Batch
    end: PhaseEnd[Any]


class NoisyReads(Backend):
    """``backend`` on chip number ``seed`` with this ``noise``. A batch has the same gains in all its phases, and
    whenever it comes again with the same seed."""

    def __init__(self, backend: Backend, noise: ReadNoise, seed: int) -> None:
        self.backend, self.noise, self.seed = backend, noise, seed
        self.dtype, self.together = backend.dtype, backend.together  # type: ignore[misc]

    def free(self, network: Network, batch: Batch, record: bool = False) -> PhaseEnd[_Presented]:
        """β = 0, from rest."""
        network, batch = self._read(network, batch)
        end = self.backend.free(network, batch, record)
        return replace(end, kept=_Presented(network, batch, end))

    def nudge(
        self,
        network: Network,
        batch: Batch,
        start: PhaseEnd[_Presented],
        betas: tuple[float, ...],
        record: bool = False,
    ) -> list[PhaseEnd[Any]]:
        """All nudges, of what the free phase saw."""
        seen = start.kept
        return self.backend.nudge(seen.network, seen.batch, seen.end, betas, record)

    def _read(self, network: Network, batch: Batch) -> tuple[Network, Batch]:
        """Both with the gains of this batch."""
        step = batch.seed
        if batch.values is not None and batch.ids is not None:
            step += zlib.crc32(batch.ids.cpu().numpy().tobytes())
            found = drawn_for(batch.ids, batch.stored, self.noise, self.seed, step)
            batch = batch.holding(batch.stored * found(batch.ids))
        return multiplied(network, self.noise, self.seed, step), batch
