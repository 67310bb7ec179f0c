"""``--precision auto``: float32 or bfloat16 for the large products, whichever is faster on this machine.

A processor that has instructions for bfloat16 need not be faster with them. Without matrix units (AMX) its products
gain little, and casts, softmax and exponentials of bf16 numbers cost more than those of fp32. So the dense backend is
timed in both types, on real texts and at the sizes of the network, scaled down where these are large. A run chooses
once, before it trains, and its config.toml holds what was chosen.
"""

import math
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from eqspike_seq.config.section import flat
from eqspike_seq.config.settings import RunConfig
from eqspike_seq.learning.estimators import ThreePhase
from eqspike_seq.ledger import sweep_products
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network, Shape
from eqspike_seq.relaxation.buckets import buckets
from eqspike_seq.relaxation.dense import DenseBackend

SWEEPS = 2, 3  # that are timed, of the free phase and of the nudges
FEWEST = 2**25  # multiply-accumulates of a bucket in a sweep, below which casts and calls cost more than is gained
MOST = 2 * 10**8  # the same, of what is timed
GAIN = 1.1  # by how much bfloat16 has to be faster
ROUNDS, SECONDS = 5, 0.15  # of timing, at most; two rounds at least


def product_dtype(config: RunConfig) -> torch.dtype:
    """The type of the large products; float32 while it is to be chosen."""
    return torch.bfloat16 if config.run.precision == "bfloat16" else torch.float32


def settled(config: RunConfig, shape: Shape, batch: Batch) -> RunConfig:
    """``config`` with float32 or bfloat16 in place of auto, for a network of ``shape`` trained on such a ``batch``.

    Without bfloat16 in the hardware float32 is taken; with it, a CUDA device takes bfloat16, and a processor what is
    faster. Where products are small float32 is taken without timing.
    """
    if config.run.precision != "auto" or "precision" not in flat(config):
        return config
    if config.run.device == "cuda":
        pays = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        pays = bool(torch.cpu.get_capabilities().get("avx512_bf16")) and faster(config, shape, batch)
    return replace(config, run=replace(config.run, precision="bfloat16" if pays else "float32"))


@torch.no_grad()
def faster(config: RunConfig, shape: Shape, batch: Batch) -> bool:
    """Whether a processor trains faster with products in bfloat16, by ``GAIN``.

    What counts is the least processor time of a few rounds, which other work on the machine hardly changes.
    """
    if (cut := sample(shape, batch)) is None:
        return False
    tasks = [three_phases(config, *cut, dtype) for dtype in (torch.float32, torch.bfloat16)]
    for task in tasks:  # oneDNN compiles
        task()
    least, began = [math.inf] * len(tasks), time.process_time()
    for done in range(ROUNDS):
        if done > 1 and time.process_time() - began > SECONDS:
            break
        for place, task in enumerate(tasks):
            started = time.process_time()
            task()
            least[place] = min(least[place], time.process_time() - started)
    return least[0] > GAIN * least[1]


def sample(shape: Shape, batch: Batch) -> tuple[Shape, Batch] | None:
    """(shape of a network, texts) that stand for the middle one of the batch's buckets; None where that is small.

    Tokens and units of s² are scaled down alike, as HopAttn takes N²·D products a text and w₂ N·D·H₂; with pooling
    queries the patterns of a text, of which it takes Q·N·D.
    """
    thin = Network.create(replace(shape, hidden=(1,)), torch.Generator())
    found = list(buckets(DenseBackend(), thin, batch))
    _, narrow, texts = found[len(found) // 2]
    whole = replace(narrow.shape, hidden=shape.hidden)
    if large_products(whole, texts) < FEWEST:
        return None
    every = -(-len(texts) // DenseBackend.together)
    places = texts.mask.shape[2]
    texts = texts.take(slice(None, None, every), places)
    scale = min(1.0, math.sqrt(MOST / large_products(whole, texts)))
    if shape.pooling:
        return whole, texts.take(slice(None), math.ceil(scale**2 * places))
    tokens, units = (math.ceil(scale * size) for size in (whole.rows, whole.hidden[0]))
    return replace(whole, rows=tokens, hidden=(units, *whole.hidden[1:])), texts.take(slice(None), tokens)


def large_products(shape: Shape, batch: Batch) -> int:
    """Multiply-accumulates of HopAttn and w₂ in a sweep of a batch."""
    swept, above = (sweep_products(shape, batch.mask, above=above).sum() for above in (False, True))
    return int(swept - above)


def three_phases(config: RunConfig, shape: Shape, batch: Batch, dtype: torch.dtype) -> Callable[[], object]:
    """The phases of a training batch, of always as many sweeps; w₂ is cast before, as once for all buckets."""
    backend, estimator = DenseBackend(*SWEEPS, tolerance=-1.0, dtype=dtype), ThreePhase(config.learning.beta)
    network = config.network.create(shape, seed=0)
    network = replace(network, large=network.w2(dtype))
    return lambda: estimator(backend, network, batch)
