"""One chip of a device model: the synapse arrays of a network, with the gains that they were made with.

    g·w      what the network computes with, where w is stored and g the gain of the synapse

Arrays always hold g·w, so that whatever reads them afterwards finds what the chip computes with; w is g·w over g.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from eqspike_seq.devices.device_model import DeviceModel
from eqspike_seq.devices.imperfections import Injected, Mismatch, ReadNoise, normal
from eqspike_seq.model.batch import Lookup
from eqspike_seq.model.network import Network

PATTERNS = "X"  # keys and, after them in each row, values
LEAST_GAIN = 1e-20  # that a number can be divided by


class Chip:
    """``arrays`` by name as device number ``seed`` of ``model`` has them, changed in place; none where it is ideal.
    Biases are among them, and hold the offsets of their units from then on.

    They are the weights w, their copies for feedback v, the queries q, and the table X of patterns (V + 1, 2 D), which
    holds each as a key and as a value. Each has gains and faults of its own, by the seed and its name alone, whatever
    is trained on the chip. A component of X has a range of its own, √3 ``limit`` times its root mean square over all
    patterns as they are programmed (a hundredth of that of all components at least): weights uniform in ±1/√fan-in have
    as many times theirs.
    """

    def __init__(self, model: DeviceModel, arrays: Mapping[str, Tensor], seed: int) -> None:
        self.model, self.seed = model, seed
        known = {name: array for name, array in arrays.items() if name[0] in "wvqX"}
        self.arrays = known if model.synaptic else {}
        if model.thresholds is not None:
            for name in set(arrays) - set(known):
                arrays[name].add_(model.thresholds.sigma * normal(arrays[name], generator(seed, name, -1)))
        self.limits: dict[str, float | Tensor] = {}
        self.gains: dict[str, Tensor] = {}
        self.faults: dict[str, tuple[Tensor, Tensor]] = {}  # which synapses are stuck, and where
        for name, array in self.arrays.items():
            random = generator(seed, name, -1)
            self.limits[name] = limit = model.limit(like_fan_in(array) if name == PATTERNS else array.shape[-1])
            self.gains[name] = gains(array, model.mismatch, random)
            if model.stuck is not None:
                which = torch.rand(array.shape, generator=random) < model.stuck.share
                place = (2 * torch.rand(array.shape, generator=random) - 1) * limit
                self.faults[name] = which.to(array.device), place.to(array)
            self._make_asymmetric(name, array)
            every = slice(None)
            array.copy_(self._held(name, every, model.programmed(array, limit, random)))
        self.before = {name: array.clone() for name, array in self.arrays.items() if name != PATTERNS}

    def _make_asymmetric(self, name: str, array: Tensor) -> None:
        """Give copies for feedback, and values of patterns, weights of their own."""
        asymmetry, random = self.model.asymmetry, generator(self.seed, f"{name} asymmetry", -1)
        if asymmetry is not None and (name[0] == "v" or name == PATTERNS):
            copy = array.chunk(2, 1)[1] if name == PATTERNS else array
            squares = copy.square()
            size = (squares.mean(0) if name == PATTERNS else squares.mean()).sqrt()
            copy.copy_(asymmetry.copied(copy, size, random))

    def _held(self, name: str, rows: slice | Tensor, stored: Tensor) -> Tensor:
        """g·w of ``rows`` of an array into which ``stored`` was written."""
        if name in self.faults:
            which, place = self.faults[name]
            stored = torch.where(which[rows], place[rows], stored)
        return self.gains[name][rows] * stored

    def _written(self, name: str, rows: slice | Tensor, before: Tensor, change: Tensor, step: int) -> Tensor:
        """What rows that were ``before`` become when they are told to ``change``."""
        stored, random = before / self.gains[name][rows], generator(self.seed, name, step)
        return self._held(name, rows, self.model.written(stored, change, self.limits[name], random))

    def write(self, step: int) -> None:
        """Let each synapse make what it can of the update since the last one, from what it then was to what the arrays
        have become."""
        for name, before in self.before.items():
            array = self.arrays[name]
            array.copy_(self._written(name, slice(None), before, array - before, step))
            before.copy_(array)

    def add(self, table: Tensor, ids: Tensor, change: Tensor, scale: float, step: int) -> None:
        """The same of an update ``scale`` times ``change`` (M, 2 D) of the rows ``ids`` (M,) of the table of patterns;
        where there is no chip it is added."""
        if PATTERNS in self.arrays:
            table[ids] = self._written(PATTERNS, ids, table[ids], scale * change, step)
        else:
            table.index_add_(0, ids, change, alpha=scale)

    def at_work(self, network: Network, batch: Lookup, step: int) -> tuple[Network, Lookup]:
        """``network`` and ``batch`` as a training step has them: with its ``injected`` gains, where there are any.

        What a text's own part in its patterns is, is less by the gains of these.
        """
        injected, shift, width = self.model.injected, batch.shift, batch.table.shape[1]
        if PATTERNS in self.arrays and shift is not None:

            def shifted(ids: Tensor, labels: Tensor) -> Tensor:
                own = shift(ids, labels)
                whole = own.new_zeros(*own.shape[:-1], 2, width // 2)
                whole[..., : own.shape[-1]] = own.unsqueeze(-2)
                return whole.flatten(-2) * self.gains[PATTERNS][ids]

            batch = replace(batch, shift=shifted)
        if injected is None:
            return network, batch
        if PATTERNS in self.arrays:
            batch = replace(batch, noise=drawn_for(batch.ids, batch.table[:0], injected, self.seed, step))
        return multiplied(network, injected, self.seed, step), batch

    def drift(self, table: Tensor | None = None) -> None:
        """Let time pass over everything that is stored, of patterns in ``table``."""
        if (drift := self.model.drift) is None:
            return
        for name, array in self.arrays.items():
            held = array if name != PATTERNS or table is None else table
            factor = drift.factor(held, generator(self.seed, f"{name} drift", -1))
            held.copy_(self._held(name, slice(None), factor * held / self.gains[name]))
        self.restored()

    def restored(self) -> None:
        """The arrays are those of a checkpoint."""
        for name, before in self.before.items():
            before.copy_(self.arrays[name])


def like_fan_in(table: Tensor) -> Tensor:
    """The fan-in whose new weights, uniform in ±1/√fan-in, have the mean square of each component of a table."""
    squares = table.square().mean(0)
    return 1 / (3 * squares.clamp(min=1e-4 * float(squares.mean()) + LEAST_GAIN))


def multiplied(network: Network, noise: Injected | ReadNoise, seed: int, step: int) -> Network:
    """``network`` with gains of its synapses that are drawn for one ``step``, or one presentation."""
    named = dict(network.named())
    for name in named:
        if name[0] in "wvq":
            named[name] = named[name] * drawn(named[name], noise, seed, name, step)
    return Network.of(network.shape, named)


def drawn_for(
    ids: Tensor, like: Tensor, noise: Injected | ReadNoise, seed: int, step: int
) -> Callable[[Tensor], Tensor]:
    """The same of patterns, rows of which are ``like``: a function that gives the gains of some of these ``ids``."""
    seen = ids.unique()
    found = drawn(like.new_empty(len(seen), like.shape[-1]), noise, seed, PATTERNS, step)
    return lambda some: found[torch.searchsorted(seen, some.contiguous())]


def drawn(array: Tensor, noise: Injected | ReadNoise, seed: int, name: str, step: int) -> Tensor:
    """Gains of an array for one ``step``."""
    return gains(array, noise, generator(seed, f"{name} {type(noise).__name__.lower()}", step))


def gains(array: Tensor, mismatch: Mismatch | None, random: torch.Generator) -> Tensor:
    """g of each synapse, 1 without mismatch."""
    if mismatch is None:
        return array.new_ones(()).expand_as(array)
    return (mismatch.sigma * normal(array, random) - mismatch.sigma**2 / 2).exp().clamp(min=LEAST_GAIN)


def generator(seed: int, name: str, step: int) -> torch.Generator:
    """Random numbers of one array of a chip: at its manufacture (step −1), or at one update."""
    mixed = (seed * 1_000_003 + zlib.crc32(name.encode())) * 1_000_003 + step
    return torch.Generator().manual_seed(mixed % 2**63)
