"""One chip of a device model: the synapses of a network, with the gains that they were made with and what they store.

    g·w      what the network computes with, where w is stored and g the gain of the synapse

A network's parameters are always g·w, so that whatever reads them afterwards finds what the chip computes with.
"""

import zlib

import torch
from torch import Tensor

from eqspike_seq.devices.device_model import DeviceModel
from eqspike_seq.devices.imperfections import Mismatch, normal
from eqspike_seq.model.network import Network

STORED = "stored"  # what a checkpoint keeps of each weight beside its optimiser's moments, by this name


class Chip:
    """The synapses of ``network`` as device number ``seed`` of ``model`` has them; none where it is ideal.

    ``stored`` w of each weight by its name, copies for feedback among them. Each has gains and faults of its own, by
    the seed and its name alone, whatever is trained on the chip.
    """

    def __init__(self, model: DeviceModel, network: Network, seed: int) -> None:
        self.model, self.seed = model, seed
        self.parameters = {name: tensor for name, tensor in network.named() if model.imperfections and name[0] in "wv"}
        self.stored: dict[str, Tensor] = {}
        self.gains: dict[str, Tensor] = {}
        self.faults: dict[str, tuple[Tensor, Tensor]] = {}  # which synapses are stuck, and where
        for name, weight in self.parameters.items():
            random = generator(seed, name, -1)
            self.gains[name] = gains(weight, model.mismatch, random)
            if model.stuck is not None:
                which = torch.rand(weight.shape, generator=random) < model.stuck.share
                place = (2 * torch.rand(weight.shape, generator=random) - 1) * model.limit(weight.shape[-1])
                self.faults[name] = which.to(weight.device), place.to(weight)
            self._store(name, model.programmed(weight, random))

    def _store(self, name: str, value: Tensor) -> None:
        if name in self.faults:
            which, place = self.faults[name]
            value = torch.where(which, place, value)
        self.stored[name] = value
        self.parameters[name].copy_(self.gains[name] * value)

    def write(self, step: int) -> None:
        """Let each synapse make what it can of the update since the last one, from what it then had to what the
        parameters have become."""
        for name, weight in self.parameters.items():
            change = weight - self.gains[name] * self.stored[name]
            self._store(name, self.model.written(self.stored[name], change, generator(self.seed, name, step)))

    def at_work(self, network: Network, step: int) -> Network:
        """``network`` as a training step uses it: with the gains of that step, where there are ``injected`` ones."""
        if self.model.injected is None:
            return network
        named = dict(network.named())
        for name, weight in self.parameters.items():
            named[name] = weight * gains(weight, self.model.injected, generator(self.seed, f"{name} injected", step))
        return Network.of(network.shape, named)

    def restore(self, stored: dict[str, Tensor]) -> None:
        """Go on from what the synapses of this chip stored."""
        for name, value in stored.items():
            self._store(name, value.to(self.parameters[name]))


def gains(weight: Tensor, mismatch: Mismatch | None, random: torch.Generator) -> Tensor:
    """g of each synapse, 1 without mismatch."""
    if mismatch is None:
        return torch.ones_like(weight)
    return (mismatch.sigma * normal(weight, random) - mismatch.sigma**2 / 2).exp()


def generator(seed: int, name: str, step: int) -> torch.Generator:
    """Random numbers of one weight matrix of a chip: at its manufacture (step −1), or at one update."""
    mixed = (seed * 1_000_003 + zlib.crc32(name.encode())) * 1_000_003 + step
    return torch.Generator().manual_seed(mixed % 2**63)
