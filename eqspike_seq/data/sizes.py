"""How large a network for how much text: settings that suit a data set nobody has tuned for."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def sizes(lengths: Sequence[int], classes: int, texts: int) -> dict[str, Any]:
    """Settings of a run for ``texts`` training texts of ``classes`` classes, ``lengths`` tokens each (or a sample).

    N holds nineteen texts of twenty whole, up to 256 tokens. More words make longer vectors and drop rarer words.
    Few texts are seen more often, in smaller batches. Steps are shorter where a neuron of s2 has more inputs, N · D.
    In long texts words are left out in training, the more the fewer there are: they are learnt by heart otherwise.
    """
    longest = int(np.quantile(lengths, 0.95)) if len(lengths) else 1
    tokens = min(max(8, 8 * -(-longest // 8)), 256)
    words = float(np.mean(lengths)) * texts if len(lengths) else 0.0
    small = words < 1_000_000
    dim = 32 if small else 100
    batch = 16 if texts < 500 else 32 if texts < 1500 else 64 if texts < 10_000 else 128
    return {
        "tokens": tokens,
        "dim": dim,
        "hidden": (max(64, 8 * classes) if small else 256,),
        "min_count": 1 if words < 100_000 else 2 if small else 5,
        "batch": batch,
        "epochs": min(max(2, round(600 * batch / texts)), 30),
        "word_dropout": 0.0 if tokens < 128 else 0.3 if small else 0.15,
        "learning_rate": (8e-3 if small else 1e-3, 2.5 / (tokens * dim), 2e-3 if small else 3e-4),
    }
