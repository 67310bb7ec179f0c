"""The model that comes with eqspike: trained, rounded to 8 bits, packed, and then measured as the file that it is.

python -m benchmarks.shipped --json results/imdb-small.json

    w ← Δ q,  q = round(w/Δ),  Δ = max|w| / 127

One Δ for each weight matrix and for all biases of a layer; for vectors of words and n-grams one for each component, and
only q and Δ are kept. What is written is eqspike_seq/models/imdb-small.zip: settings, counts and figures, n-grams and
their vectors, weights; no text, and no answer to one. Validation accuracy is that of the texts that settings were
chosen on; the test split is read twice, by the run at its end and from the file, and nothing is chosen after that.
"""

import resource
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from safetensors.torch import save
from torch import Tensor

from analysis.energy import part_of
from benchmarks.measure import JsonFile, command
from benchmarks.quantised import quantised
from eqspike.build import config_of, configure
from eqspike.commands.sweep import ended
from eqspike.prediction import SHIPPED, Predictor
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.data.batches import batches_of
from eqspike_seq.data.dataset import Dataset, LastDataset
from eqspike_seq.files import as_json, read_json, write_json
from eqspike_seq.learning.evaluation import Evaluation, dense_reference, evaluate
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.archive import MODELS, VECTORS, WEIGHTS, contents, pack
from eqspike_seq.runs.environment import environment
from eqspike_seq.runs.schema import Ledgers, Result
from eqspike_seq.runs.vocabulary import Vocabulary
from eqspike_seq.runs.weights import read_weights
from neuromorphic.pricing import read_table

BITS = 8
LEFT_OUT = ("samples.npz", "predictions.parquet")  # they hold texts, and answers to them
TABLES = ("horowitz-45nm-fp32", "horowitz-45nm-int8", "loihi")
BANDS = (0.0, 0.6, 0.7, 0.8, 0.9, 0.99)  # of confidence
ASKED = "a dull, overlong film"


def rounded(table: Tensor) -> dict[str, Tensor]:
    """Vectors (V + 1, D) as whole numbers of 8 bits, and the ``scale`` (D,) of each component."""
    scale = table.abs().amax(0) / (2 ** (BITS - 1) - 1)
    return {"vectors": (table / scale).round().to(torch.int8), "scale": scale}


def packed(run: Path, **others: bytes) -> dict[str, bytes]:
    """The files of the shipped zip of a run, ``others`` in their place."""
    found = {name: content for name, content in contents(run).items() if name not in LEFT_OUT}
    weights = {name: quantised(tensor, BITS) for name, tensor in read_weights(run / WEIGHTS).items()}
    found |= {VECTORS: save(rounded(Vocabulary.read(run).table)), WEIGHTS: save(weights)}
    return found | {name.replace("_", "."): content for name, content in others.items()}


def measured(place: Path, data: Dataset) -> tuple[Predictor, Evaluation, Evaluation]:
    """The network in a zip, and what it makes of the validation and the test texts."""
    model = Predictor.open(place, many=False)
    assert model.grams is not None and data.words()[1:] == model.grams.names()
    gather, batch = batches_of(model.config, model.table.numpy()), model.config.learning.batch
    validation, test = (
        evaluate(model.backend, model.network, gather, part, batch) for part in (data.validation, data.test)
    )
    return model, validation, test


def trusted(found: Evaluation) -> list[dict[str, Any]]:
    """How many texts are answered with a confidence from each of ``BANDS`` to the next, and the share that is right."""
    confidence = found.rates.max(1) / found.rates.sum(1)
    rows = []
    for low, high in pairwise((*BANDS, np.inf)):
        mine = (confidence >= low) & (confidence < high)
        right = float((found.predicted == found.labels)[mine].mean()) if mine.any() else None
        rows.append({"from": low, "texts": int(mine.sum()), "accuracy": right})
    return rows


def seconds(repeats: int) -> float:
    """Of processors, from the start of `eqspike predict` to its end, the least; the first start, which may find no
    compiled Python, is left out. A clock would measure what else the machine does."""
    used = list[float]()
    for _ in range(repeats + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "eqspike", "predict", ASKED], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(used[1:])


@torch.no_grad()
def main(json_file: JsonFile, run: Path = Path("runs") / SHIPPED, repeats: int = 5) -> None:
    """Make the model and its figures.

    Args:
        json_file: Where the figures go.
        run: The run folder; trained if it is not there, a minute.
        repeats: Starts of `eqspike predict` that are timed.
    """
    reporter, out, made = Reporter(), MODELS / f"{SHIPPED}.zip", environment()  # before the file changes
    load = LastDataset()
    asked = configure("imdb", "spiking", SHIPPED, out=run, precision="float32")
    before = Result.read(ended(run, asked.run.seed, asked, reporter, load))
    config = config_of(run)
    data = load(config.data, reporter.status)
    pack(packed(run), out)
    model, validation, test = measured(out, data)
    ledger, result = test.ledger, before.content()
    result |= {"validation_accuracy": validation.accuracy, "test_accuracy": test.accuracy}
    result |= {"spikes_per_inference": ledger.total("spikes") / len(test.labels), "test_seconds": test.seconds}
    result |= {"spikes_per_synapse_per_inference": ledger.spikes_per_synapse(), "free_steps": float(test.steps.mean())}
    gather = batches_of(config, model.table.numpy(), data.ratios)
    dense = dense_reference(config, model.network, gather, data.train)
    training = Ledgers.read(read_json(run / "ledger.json")).training
    counted = {"format": FORMAT, "test_texts": len(test.labels), "training_samples": before.n_train}
    counted |= Ledgers(inference=ledger, training=training).content() | {"dense": dense.content()}
    figures = {"result_json": as_json({"format": FORMAT, **result}), "ledger_json": as_json(counted)}
    pack(packed(run, **figures, curves_json=as_json({"format": FORMAT, **test.curves().content()})), out)
    labels, classes = torch.from_numpy(test.labels), len(model.classes)
    confusion = torch.bincount(labels * classes + torch.from_numpy(test.predicted), minlength=classes**2)
    figures_of: dict[str, Any] = {
        "bytes": out.stat().st_size,
        "bits": BITS,
        "patterns": len(model.table) - 1,
        "weights": sum(tensor.numel() for _, tensor in model.network.named()),
        "texts": {"train": before.n_train, "validation": len(validation.labels), "test": len(test.labels)},
        "validation_accuracy": {"float32": before.validation_accuracy, "shipped": validation.accuracy},
        "test_accuracy": {"float32": before.test_accuracy, "shipped": test.accuracy},
        "validation_by_confidence": trusted(validation),
        "confusion": confusion.reshape(classes, classes).tolist(),  # rows: the label; columns: the answer
        "spikes_per_inference": result["spikes_per_inference"],
        "spikes_per_synapse": ledger.spikes_per_synapse(),
        "joules": {name: part_of(ledger, read_table(name))["joules"] for name in TABLES},
        "processor_seconds_to_an_answer": seconds(repeats),
    }
    about = {"command": command(), "settings": config.computed(), "environment": made}
    write_json(json_file, {"format": FORMAT, **about, **figures_of})
    reporter.out.print(figures_of)


if __name__ == "__main__":
    tyro.cli(main)
