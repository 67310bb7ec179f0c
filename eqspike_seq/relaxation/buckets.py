"""Batches by length: texts of much the same length are relaxed together, cut to the longest of them.

Padding is then hardly computed, what a few texts need stays in a processor's cache, and only their s¹ is held in memory
at once. Texts do not see each other, so the gradients of a batch are the weighted sum of those of its buckets.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace

import numpy as np
import torch
from torch import Tensor

from eqspike_seq.ledger import Ledger
from eqspike_seq.model.batch import Batch, Lookup
from eqspike_seq.model.network import Network, Shape, State
from eqspike_seq.relaxation.equilibrium import Backend, Equilibrium

ON_CUDA = 512  # texts of a bucket, at least; on a processor the backend says
NUMBERS = 2**20  # of s¹ of a bucket, that it may have more texts: small networks are quicker in few buckets
CALLS = 2**18  # numbers that are computed in the time that the calls of one more bucket take
MOST = 4096  # texts of a bucket with pooling queries
STEP = 32  # tokens: lengths are rounded up to a multiple, so that few sizes of tensors come and memory is used again
SHORT = 4  # the same with a token layer, whose texts are sentences


def lengths(shape: Shape, mask: Tensor) -> Tensor:
    """Places up to the last real token of any input of each text, (B,); all, where padding takes part."""
    if shape.clamped or not shape.masked:
        return torch.full_like(mask[:, 0, 0], mask.shape[-1], dtype=torch.int64)
    places = torch.arange(1, mask.shape[-1] + 1, device=mask.device)
    return (mask.any(1) * places).amax(1)


def rounded(length: int, shape: Shape) -> int:
    """Up to a multiple of ``STEP``, or of ``SHORT`` with a token layer, one at least."""
    step = SHORT if shape.compared else STEP
    return -(-max(1, length) // step) * step


def trimmed(
    network: Network, batch: Batch | Lookup, rows: Tensor | slice = slice(None), seed: int | None = None
) -> tuple[Network, Batch]:
    """Network and texts, of them the ``rows``, without the places that are padding in all of them."""
    places = rounded(int(lengths(network.shape, batch.mask[rows]).max()), network.shape)
    narrow = network if network.shape.pooling or places >= network.shape.rows else network.first(places)
    return narrow, batch.take(rows, places, batch.seed if seed is None else seed)


def most_texts(backend: Backend, shape: Shape, device: str) -> int:
    """Of a bucket, where patterns are not counted."""
    least = backend.together if device == "cpu" else ON_CUDA
    return least if shape.compared else max(least, NUMBERS // shape.flat)


def spans(shape: Shape, longest_first: Tensor, most: int, device: str) -> list[slice]:
    """Which texts make a bucket, of those of these lengths, the longest first.

    Buckets of equal numbers of texts, at ``most`` so many. With pooling queries, whose s¹ is small, those that cost
    least: a bucket costs the components of its patterns, each text as long as the longest, and ``CALLS`` more.
    """
    count = len(longest_first)
    if not shape.pooling:
        ends = torch.arange(count).tensor_split(math.ceil(count / most))
        return [slice(int(part[0]), int(part[-1]) + 1) for part in ends]
    scale, first = 1 if device == "cpu" else 64, 0
    each = np.array([rounded(length, shape) * shape.dim for length in longest_first.tolist()])
    costs, starts = np.zeros(count + 1), np.zeros(count + 1, dtype=np.int64)  # of the first texts in their best buckets
    for end in range(1, count + 1):
        while first < end - 1 and (end - first > MOST or (end - first) * each[first] > scale * NUMBERS):
            first += 1
        total = costs[first:end] + np.arange(end - first, 0, -1) * each[first:end] + scale * CALLS
        starts[end] = first + total.argmin()
        costs[end] = total.min()
    found, end = list[slice](), count
    while end:
        found.append(slice(int(starts[end]), end))
        end = found[-1].start
    return found[::-1]


def buckets(backend: Backend, network: Network, batch: Batch | Lookup) -> Iterator[tuple[Tensor, Network, Batch]]:
    """(rows, network, texts) of each bucket, the longest texts first; each with a seed of its own."""
    found = batch.mask.sum((1, 2)) if network.shape.compared else lengths(network.shape, batch.mask)
    order, device = found.argsort(descending=True, stable=True), batch.labels.device.type
    most = most_texts(backend, network.shape, device)
    for place, span in enumerate(spans(network.shape, found[order], most, device)):
        rows = order[span]
        yield rows, *trimmed(network, batch, rows, batch.seed + place)


def by_bucket(
    pieces: Iterable[tuple[Tensor, Network, Batch]], relax: Callable[[Network, Batch], list[Equilibrium]]
) -> list[Equilibrium]:
    """The phases that ``relax`` gives of each of ``pieces``, (rows, network, texts), as phases of all their texts."""
    order, found = [], []
    for rows, narrow, texts in pieces:
        order.append(rows)
        found.append(relax(narrow, texts))
        del narrow, texts  # before the next are made
    inverse = torch.cat(order).argsort()
    return [joined(list(phases), inverse) for phases in zip(*found, strict=True)]


def free_by_length(backend: Backend, network: Network, batch: Batch | Lookup) -> Equilibrium:
    """The free phase of a batch, by buckets; ``released``."""
    network = replace(network, large=network.w2(backend.dtype))
    return free_by_bucket(backend, network, buckets(backend, network, batch))


def free_by_bucket(backend: Backend, network: Network, pieces: Iterable[tuple[Tensor, Network, Batch]]) -> Equilibrium:
    """The free phase of ``pieces`` of ``network``; ``released``."""
    (free,) = by_bucket(pieces, lambda narrow, texts: [released(backend.free(narrow, texts), network.shape)])
    return free


def released(found: Equilibrium, shape: Shape) -> Equilibrium:
    """What is reported of it, without s¹ and all else of its size, as if it were of the whole network."""
    reported = {each.name: getattr(found, each.name) for each in fields(Equilibrium)}
    nothing = found.rates.projection[:, :, :0].clone()  # a view would hold all of s¹
    ledger = replace(found.ledger, sizes=list(shape.sizes))
    return Equilibrium(**{**reported, "rates": State(nothing, found.rates.layers), "ledger": ledger, "trace": {}})


def joined(parts: list[Equilibrium], inverse: Tensor) -> Equilibrium:
    """Released equilibria of one phase as one, ``inverse`` the place of each text in them."""
    readings, ledger = max(len(part.outputs) for part in parts), Ledger()
    for part in parts:
        ledger += part.ledger
    layers = zip(*(part.rates.layers for part in parts), strict=True)
    return Equilibrium(
        rates=State(
            torch.cat([part.rates.projection for part in parts])[inverse],
            tuple(torch.cat(layer)[inverse] for layer in layers),
        ),
        residual=torch.cat([part.residual for part in parts])[inverse],
        steps=torch.cat([part.steps for part in parts])[inverse],
        converged=torch.cat([part.converged for part in parts])[inverse],
        outputs=torch.cat([lasting(part.outputs, readings) for part in parts], 1)[:, inverse],
        events=torch.cat([lasting(part.events, readings) for part in parts], 1)[:, inverse],
        ledger=ledger,
        reading_steps=parts[0].reading_steps,
    )


def lasting(readings: Tensor, length: int) -> Tensor:
    """The last reading repeated up to ``length``."""
    missing = length - len(readings)
    return torch.cat([readings, readings[-1:].expand(missing, *readings.shape[1:])]) if missing else readings
