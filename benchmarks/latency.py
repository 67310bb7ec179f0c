"""Milliseconds from a review's word ids to its decision, one review at a time, four ways.

python -m benchmarks.latency RUN --json results/latency.json

``event``: the event-driven path; ``batched``: the same neurons as a batch of one, padded, in float32, so that its
spikes can be compared; ``batched_default``: the same with the products that the run would take here; ``literal``: the
dense network as in the paper's Algorithm 2 (``benchmarks.literal``), where tokens ask. Tokenising is left out. The ways
take turns of ``STRETCH`` reviews each, and each begins its turn with one that is not timed, so that what it finds in
the caches is its own. All is timed ``rounds`` times, and the median of a review's times is its time: others may be at
work here too.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from benchmarks import literal
from benchmarks.measure import JsonFile, command
from eqspike.build import config_of, make_backend, varied
from eqspike_seq.checks.gradients import stages
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.data.batches import Batches
from eqspike_seq.data.dataset import load_dataset
from eqspike_seq.data.encoding import Encoded
from eqspike_seq.errors import RunError
from eqspike_seq.files import write_json
from eqspike_seq.learning.training import with_precision
from eqspike_seq.ledger import Ledger
from eqspike_seq.model.batch import Batch
from eqspike_seq.phases import Phase
from eqspike_seq.progress import Reporter
from eqspike_seq.relaxation.equilibrium import Equilibrium
from eqspike_seq.runs.environment import environment
from neuromorphic.change_code import SigmaDeltaBackend
from neuromorphic.event_driven import EventDriven, Relaxed

STRETCH = 10
LITERAL_STEPS = 50  # T of the paper
Ids = NDArray[np.int32]


@torch.no_grad()
def main(
    run: tyro.conf.Positional[Path],
    json_file: JsonFile,
    texts: int = 200,
    rounds: int = 3,
) -> None:
    """Time test reviews in every way.

    Args:
        run: A finished run folder with --neuron sigma-delta, and its checkpoint.
        json_file: Where the figures go.
        texts: How many reviews, evenly spaced in the test split.
        rounds: How often each is timed.
    """
    reporter, config = Reporter(), config_of(run)
    data = load_dataset(config.data, reporter.status)
    stage = stages(config, data, run)[-1]
    gather = stage.gather
    backends = [make_backend(with_precision(varied(config, precision=name), data)) for name in ("float32", "auto")]
    single, default = backends
    if stage.name != "end" or not isinstance(single, SigmaDeltaBackend) or not isinstance(default, SigmaDeltaBackend):
        raise RunError(f"{run}: expected a finished run with --neuron sigma-delta and its checkpoint")
    network = stage.network
    ready = EventDriven(network, single, gather.table)

    rows = np.linspace(0, len(data.test) - 1, texts).astype(np.int64)

    def batch(place: int) -> Batch:
        return gather(data.test, rows[[place]])

    def paper(place: int) -> torch.Tensor:
        text = batch(place)
        return literal.free(network, text.x, text.mask, LITERAL_STEPS).output[0]

    reviews = [numbers(data.test, int(row), gather) for row in rows]
    ways: dict[str, Callable[[int], Any]] = {
        "event": lambda place: ready.free(*reviews[place]),
        "batched": lambda place: single.free(network, batch(place)),
        "batched_default": lambda place: default.free(network, batch(place)),
    }
    if not network.shape.pooling:
        ways["literal"] = paper
    seconds = {name: np.zeros((rounds, texts)) for name in ways}
    decisions = {name: np.zeros(texts, dtype=np.int64) for name in ways}
    for again in range(rounds):
        for start in range(0, texts, STRETCH):
            reporter.status(f"round {again + 1} of {rounds}: {start} of {texts} reviews")
            for name, way in ways.items():
                way(start - 1)
                for place in range(start, min(start + STRETCH, texts)):
                    began = time.perf_counter()
                    found = way(place)
                    seconds[name][again, place] = time.perf_counter() - began
                    decisions[name][place] = decided(found)
    ledger, same, steps, distinct = Ledger(), [], [], []
    for place, text in enumerate(reviews):
        mine = ready.free(*text, record=True)
        same.append(identical(mine, single.free(network, batch(place), record=True), single.projection_threshold))
        ledger += mine.ledger(network)
        steps.append(mine.steps)
        distinct.append(len(np.unique(text[0])))
    milliseconds = {name: 1e3 * np.median(taken, axis=0) for name, taken in seconds.items()}
    median = {name: float(np.median(taken)) for name, taken in milliseconds.items()}
    labels = data.test.labels[rows]
    result: dict[str, Any] = {
        "format": FORMAT,
        "command": command(),
        "texts": texts,
        "rounds": rounds,
        "timed": "from word ids to the decision, one review at a time; tokenising excluded",
        "ratio_to_batched": median["batched"] / median["event"],
        "ratio_to_batched_default": median["batched_default"] / median["event"],
        **({"ratio_to_literal": median["literal"] / median["event"]} if "literal" in median else {}),
        "ways": {
            name: {
                "p50_ms": median[name],
                "p99_ms": float(np.percentile(taken, 99)),
                "right": float((decisions[name] == labels).mean()),
                "decisions_as_event": float((decisions[name] == decisions["event"]).mean()),
            }
            for name, taken in milliseconds.items()
        },
        "default_dtype": str(default.dtype).removeprefix("torch."),
        "literal_steps": LITERAL_STEPS,
        "share_identical_spikes": float(np.mean(same)),
        "spikes_per_synapse": ledger.spikes_per_synapse(),
        "spikes_per_text": {name: kinds[Phase.FREE]["spikes"] / texts for name, kinds in ledger.counts.items()},
        "steps": float(np.mean(steps)),
        "tokens": float(np.mean([len(text[0]) for text in reviews])),
        "distinct_words": float(np.mean(distinct)),
        "settings": config.computed(),
        "environment": environment(),
    }
    write_json(json_file, result)
    for name, figures in result["ways"].items():
        reporter.out.print(name, figures)
    for name in ("ratio_to_batched", "ratio_to_batched_default", "ratio_to_literal", "share_identical_spikes"):
        if name in result:
            reporter.out.print(name, result[name])


def numbers(part: Encoded, row: int, gather: Batches) -> tuple[Ids, Ids | None]:
    """What the event-driven path is given of a text: ids, and of counted patterns their counts."""
    if part.counts is None:
        (ids,) = gather.ids(part, np.array([row]))[:, 0]
        return ids[ids > 0], None
    span = slice(part.starts[row], part.starts[row + 1])
    return part.ids[span], part.counts[span]


def decided(found: Relaxed | Equilibrium | torch.Tensor) -> int:
    """The class that a way has found."""
    if isinstance(found, Relaxed):
        return found.predicted
    return int((found.outputs[-1, 0] if isinstance(found, Equilibrium) else found).argmax())


def identical(mine: Relaxed, theirs: Equilibrium, threshold: float) -> bool:
    """Whether every neuron above s¹ sent the same units in every step, and s¹ as many, each neuron the same in all.

    ``threshold`` is that of s¹.
    """
    if mine.steps != len(theirs.outputs):
        return False
    first = theirs.trace["spikes_s1"][:, 0].numpy()
    above = [theirs.trace[f"spikes_s{layer}"][:, 0].numpy() for layer in range(2, 1 + len(mine.sent))]
    units = (theirs.rates.projection[0, 0, : mine.sent[0].shape[1]] / threshold).round().numpy()
    return (
        np.array_equal(mine.spikes[:, 0], first)
        and np.array_equal(mine.sent[0].sum(0), units)
        and all(np.array_equal(a, b) for a, b in zip(mine.sent[1:], above, strict=True))
    )


if __name__ == "__main__":
    tyro.cli(main)
