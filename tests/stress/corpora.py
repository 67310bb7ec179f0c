"""Corpora that nobody has tuned for, and what must hold on each: `python -m tests.stress.corpora` tries twenty of them.

Words follow Zipf's law; each class has some of its own, so that there is something to learn. Every corpus is trained
for two epochs by dense EP in both precisions and by neurons that send changes. Lost is a run that ends in an error or
holds a number that is not finite, and one in which a text's answer depends on what else is in its batch.
"""

import csv
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro

from benchmarks.measure import command
from eqspike.build import make_backend, run
from eqspike.flags import parse_run
from eqspike_seq.config.settings import FORMAT, RunConfig
from eqspike_seq.data.batches import Batches
from eqspike_seq.data.dataset import load_dataset, shape_of
from eqspike_seq.files import parse_json, read_arrays, read_tensors, write_json
from eqspike_seq.progress import Reporter
from eqspike_seq.relaxation.buckets import free_by_length
from eqspike_seq.runs.environment import environment
from eqspike_seq.runs.weights import network_of

LETTERS = {
    "latin": "abcdefghijklmnopqrstuvwxyz",
    "accents": "aeiouäöüßéèçñøåł" + "bdfgklmnprst",
    "cyrillic": "абвгдежзийклмнопрстуфхцчшщъыьэюя",
    "greek": "αβγδεζηθικλμνξοπρστυφχψω",
    "arabic": "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "devanagari": "कखगघचछजझटठडढतथदधनपफबभमयरलवशसह",
    "hangul": "가나다라마바사아자차카타파하거너더러머버서어저처커터퍼허",
    "han": "".join(map(chr, range(0x4E00, 0x4E00 + 400))),
    "emoji": "".join(map(chr, range(0x1F600, 0x1F640))),
}
UNSPACED = ("han", "emoji")
MODES: dict[str, tuple[str, ...]] = {
    "dense, float32": ("--precision", "float32"),
    "dense, bfloat16": ("--precision", "bfloat16"),
    "sigma-delta": ("--backend", "spiking", "--neuron", "sigma-delta"),
}
# of an output rate, between a text alone and in a batch
LARGEST_DIFFERENCE = {"dense, float32": 1e-4, "dense, bfloat16": 5e-3, "sigma-delta": 1e-4}
ALONE = 24  # texts that are also relaxed alone


@dataclass(frozen=True)
class Spec:
    """A corpus: ``texts`` of ``shortest`` to ``longest`` words, of which the share ``own`` belongs to their class."""

    name: str
    classes: int
    texts: int
    shortest: int
    longest: int
    script: str
    words: int = 2000
    own: float = 0.2
    skew: float = 0.0

    def rows(self, seed: int = 0) -> Iterator[tuple[str, str]]:
        """(text, label) of each; every class at least four times."""
        rng = np.random.default_rng([seed, len(self.name), self.classes, self.texts])
        letters = LETTERS[self.script]
        longest = 1 if self.script in UNSPACED else 7
        vocabulary = ["".join(rng.choice(list(letters), rng.integers(1, longest + 1))) for _ in range(self.words)]
        zipf = 1 / np.arange(1, self.words + 1)
        shares = np.exp(-self.skew * np.arange(self.classes))
        labels = np.concatenate(
            [np.arange(self.classes).repeat(4), rng.choice(self.classes, self.texts, p=shares / shares.sum())]
        )[: max(self.texts, 4 * self.classes)]
        own = rng.integers(0, self.words, (self.classes, 12))
        for number, label in enumerate(rng.permutation(labels)):
            length = int(rng.integers(self.shortest, self.longest + 1))
            drawn = rng.choice(self.words, length, p=zipf / zipf.sum())
            drawn = np.where(rng.random(length) < self.own, rng.choice(own[label], length), drawn)
            words = [vocabulary[place] for place in drawn]
            text = ("" if self.script in UNSPACED else " ").join(words)
            yield text if number % 7 else f"{text}!", f"c{label}"

    def write(self, folder: Path) -> Path:
        """The corpus as a CSV file."""
        path = folder / f"{self.name}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("text", "label"))
            writer.writerows(self.rows())
        return path


CORPORA = (
    Spec("one-word", 2, 400, 1, 1, "latin", words=60, own=0.8),
    Spec("short-sentences", 2, 7000, 1, 40, "latin", words=8000),
    Spec("questions", 6, 5000, 3, 12, "latin", words=5000, own=0.3),
    Spec("few-texts", 2, 200, 5, 30, "latin"),
    Spec("many-classes", 20, 3000, 2, 20, "latin", own=0.4),
    Spec("skewed", 5, 2000, 1, 15, "latin", skew=1.2),
    Spec("nothing-to-learn", 3, 600, 1, 20, "latin", own=0.0),
    Spec("nearly-all-own", 4, 800, 1, 10, "latin", own=0.95),
    Spec("same-length", 2, 1000, 40, 40, "latin"),
    Spec("tiny-vocabulary", 3, 1500, 1, 40, "latin", words=15),
    Spec("large-vocabulary", 2, 4000, 5, 40, "latin", words=40000),
    Spec("two-words", 10, 1200, 1, 2, "latin", words=300, own=0.7),
    Spec("accents", 3, 800, 2, 25, "accents"),
    Spec("cyrillic", 4, 1500, 2, 30, "cyrillic"),
    Spec("greek", 2, 300, 1, 12, "greek"),
    Spec("arabic", 3, 900, 3, 20, "arabic"),
    Spec("devanagari", 2, 700, 2, 18, "devanagari"),
    Spec("hangul", 5, 1000, 1, 15, "hangul"),
    Spec("han", 3, 8000, 4, 40, "han", words=400),
    Spec("emoji", 2, 500, 1, 8, "emoji", words=64, own=0.5),
)


def finite(folder: Path) -> None:
    """Raises ValueError or AssertionError unless every number in the folder is one."""
    for path in folder.rglob("*"):
        if path.suffix == ".json":
            parse_json(path.read_text())
        elif path.suffix == ".jsonl":
            [parse_json(line) for line in path.read_text().splitlines()]
        elif path.suffix == ".npz":
            arrays = read_arrays(path)
            assert all(np.isfinite(a).all() for a in arrays.values() if a.dtype.kind == "f"), path
        elif path.suffix == ".safetensors":
            read_tensors(path)


@torch.no_grad()
def difference_alone(config: RunConfig, folder: Path) -> float:
    """The largest difference of an output rate between test texts relaxed alone and in one batch."""
    dataset = load_dataset(config.data, lambda _: None)
    network = network_of(shape_of(config, dataset), folder / "checkpoint" / "model.safetensors")
    backend, gather = make_backend(config), Batches.of(config, dataset)
    rows = np.arange(min(256, len(dataset.test)))
    together = free_by_length(backend, network, gather(dataset.test, rows)).outputs[-1]
    alone = [free_by_length(backend, network, gather(dataset.test, rows[i : i + 1])).outputs[-1] for i in rows[:ALONE]]
    return float((together[: len(alone)] - torch.cat(alone)).abs().max())


def examine(spec: Spec, mode: str, folder: Path, epochs: int = 2) -> dict[str, Any]:
    """Train on a corpus in one of ``MODES``; what came of it. Raises whatever the run raises."""
    started = time.perf_counter()
    out = folder / f"{spec.name}-{mode.replace(', ', '-')}"
    arguments = [str(spec.write(folder)), "--epochs", str(epochs), "--out", str(out), *MODES[mode]]
    config = parse_run(arguments)
    result = run(config, Reporter(quiet=True))
    finite(out)
    return {
        "test_accuracy": result["test_accuracy"],
        "difference_alone": difference_alone(config, out),
        "seconds": round(time.perf_counter() - started, 1),
    }


def main(json_file: Annotated[Path | None, tyro.conf.arg(aliases=["--json"])] = None) -> None:
    """Try every corpus in every mode; exit with 1 where one is lost.

    Args:
        json_file: Write what was found to this file.
    """
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for spec in CORPORA:
            for mode in MODES:
                row: dict[str, Any] = {"corpus": spec.name, "mode": mode}
                try:
                    row |= examine(spec, mode, Path(folder))
                    row["lost"] = row["difference_alone"] > LARGEST_DIFFERENCE[mode]
                except Exception as error:
                    row |= {"error": f"{type(error).__name__}: {error}", "lost": True}
                found.append(row)
                print("LOST" if row["lost"] else "held", row, flush=True)
    lost = sum(row["lost"] for row in found)
    print(f"{len(found)} tried, {lost} lost")
    if json_file is not None:
        about = {"format": FORMAT, "command": command(), "environment": environment()}
        write_json(json_file, {**about, "corpora": [asdict(spec) for spec in CORPORA], "runs": found})
    if lost:
        raise SystemExit(1)


if __name__ == "__main__":
    tyro.cli(main)
