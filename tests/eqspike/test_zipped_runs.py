"""A run in one file is the run: it answers, is priced, is reported and is learnt from as its folder is."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from analysis.folders import open_run
from eqspike.build import configure, make_backend
from eqspike.prediction import Predictor
from eqspike_seq.data.dataset import load_dataset
from eqspike_seq.errors import ConfigError, EqspikeError
from eqspike_seq.learning.trainer import Trainer
from eqspike_seq.runs.archive import VECTORS, contents, opened, pack
from eqspike_seq.runs.vocabulary import Vocabulary
from tests.conftest import command

TEXTS = ("it is not at all dull", "the plot was superb and moving", "")


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run that has learnt n-grams, and a zip of it."""
    place = tmp_path_factory.mktemp("pooled")
    flags = ("--network", "pooling", "--embeddings", "random", "--dim", 8, "--hidden", 12, "--epochs", 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EQSPIKE_CACHE", str(place / "cache"))
        command("run", "mini", *flags, "--limit", 60, "--no-baseline", "--out", place / "run")
        command("export", place / "run", "--format", "zip", "--out", place / "run.zip")
    return place / "run", place / "run.zip"


def test_it_answers_as_the_folder_does(pooled: tuple[Path, Path], tmp_path: Path) -> None:
    folder, path = pooled
    for text in TEXTS:
        ours, theirs = (Predictor.open(run).predict(text) for run in (path, folder))
        assert ours == theirs
    again = tmp_path / "again.zip"
    pack(contents(opened(path)), again)
    assert again.read_bytes() == path.read_bytes()  # a zip of a zip is the same, byte for byte


def test_it_is_priced_and_reported_as_the_folder_is(
    pooled: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for run in pooled:
        command("energy", run, "--hardware", "loihi", "--json")
        said.append(json.loads(capsys.readouterr().out))
    assert said[0] == said[1] and not list(pooled[1].parent.glob("*.json"))
    command("report", pooled[1], "--out", tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text().count("<svg") > 2
    assert open_run(pooled[1]).name == pooled[0].name


@pytest.mark.parametrize("backend", ["dense", "spiking"])
def test_a_run_starts_from_its_weights_and_from_the_vectors_of_known_ngrams(
    pooled: tuple[Path, Path], tmp_path: Path, backend: str
) -> None:
    own = tmp_path / "own.csv"
    lines = [f"the plot was {'superb' if row % 2 else 'dull'} and new{row % 7} w{row},{row % 2}\n" for row in range(60)]
    own.write_text("text,label\n" + "".join(lines))
    config = configure(str(own), backend, start=pooled[1])
    data = load_dataset(config.data)
    trainer = Trainer(config, data, make_backend(config))
    saved = load_file(pooled[0] / "checkpoint" / "model.safetensors")
    assert all(torch.equal(tensor, saved[name]) for name, tensor in trainer.network.named())
    before = Vocabulary.read(pooled[0])
    known, words = {word: row for row, word in enumerate(before.words, start=1)}, data.words()
    shared = [word for word in words if word in known]
    assert {"plot", "superb"} <= set(shared) and "new1" in words and "new1" not in known
    for row, word in enumerate(words):
        mine = trainer.gather.table[row]
        assert torch.equal(mine, before.table[known[word]]) if word in known else mine.abs().max() < 1
    with pytest.raises(EqspikeError, match="--start: q is of shape"):
        other = configure(str(own), "dense", start=pooled[1], queries=3)
        Trainer(other, data, make_backend(other))
    with pytest.raises(ConfigError, match="nowhere is no run folder"):
        configure(str(own), start=tmp_path / "nowhere")


def test_vectors_at_8_bits_are_their_scale_times_whole_numbers(pooled: tuple[Path, Path], tmp_path: Path) -> None:
    whole = torch.randint(-127, 128, Vocabulary.read(pooled[0]).table.shape, dtype=torch.int8)
    scale = torch.rand(whole.shape[1]) + 0.5
    pack({**contents(pooled[0]), VECTORS: save({"vectors": whole, "scale": scale})}, tmp_path / "small.zip")
    found = Predictor.open(tmp_path / "small.zip").table
    np.testing.assert_array_equal(found.numpy(), whole.numpy() * scale.numpy())
