"""Whatever there are several kinds of gets another one by one entry in its table, and nothing else is touched."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from eqspike import build
from eqspike.flags import parse_run
from eqspike_seq.data import registry, vectors
from eqspike_seq.data.corpus import Corpus
from eqspike_seq.data.embeddings import Embeddings, standardise
from eqspike_seq.data.encoding import Progress
from eqspike_seq.data.mini import load_mini
from eqspike_seq.data.tokens import TokeniserName
from eqspike_seq.learning import optimisers
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.projection import Layer
from neuromorphic.attention.clocked import Circuit, ClockedProjection, Tick
from neuromorphic.attention.gated import Gated
from neuromorphic.neurons import IntegrateAndFire
from neuromorphic.plasticity import Count
from neuromorphic.pricing import names, read_table
from tests.conftest import command


@dataclass(frozen=True)
class Sluggish(IntegrateAndFire):
    """Integrate-and-fire that starts from a setting of its own."""

    name: ClassVar[str] = "sluggish"
    charge: float = 0.25
    """Where the membrane starts."""

    def rest(self, like: torch.Tensor):  # type: ignore[no-untyped-def]
        return replace(super().rest(like), v=torch.full_like(like, self.charge))


@dataclass(frozen=True)
class Halved(Count):
    """Counts, and learns half as much."""

    name: ClassVar[str] = "halved"

    def input(self, post):  # type: ignore[no-untyped-def]
        return 0.5**0.5 * super().input(post)


@dataclass(frozen=True)
class Softmax(Circuit):
    """The clocked one under another name."""

    name: ClassVar[str] = "softmax"

    def projection(self, layer: Layer, batch: Batch, tick: Tick) -> ClockedProjection:
        return ClockedProjection(layer, batch, tick)


@dataclass(frozen=True)
class Few(Gated):
    """Mixes two patterns."""

    name: ClassVar[str] = "few"
    top_patterns: int = 2


@dataclass(frozen=True)
class Ones(vectors.Vectors):
    """Alternating signs."""

    name: ClassVar[str] = "signs"

    def embed(self, corpus: Corpus, tokeniser: TokeniserName, min_count: int, progress: Progress) -> Embeddings:
        words = vectors.vocabulary(corpus, tokeniser, min_count)
        return standardise(words, np.where(np.arange(4 * len(words)).reshape(-1, 4) % 3, 1.0, -1.0), "signs")


ADDED = {
    "neuron": (build, "NEURONS", Sluggish, ["--neuron", "sluggish", "--charge", "0.5"]),
    "rule": (build, "RULES", Halved, ["--rule", "halved"]),
    "circuit of rates": (build, "RATE_CIRCUITS", Softmax, ["--circuit", "softmax"]),
    "circuit of changes": (build, "CHANGE_CIRCUITS", Few, ["--neuron", "sigma-delta", "--circuit", "few"]),
    "word vectors": (vectors, "EMBEDDINGS", Ones, ["--embeddings", "signs"]),
}


@pytest.mark.parametrize("what", ADDED)
def test_one_entry_adds_a_kind(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It trains, its name is in config.toml and result.json, and help lists it."""
    module, table, kind, flags = ADDED[what]
    monkeypatch.setitem(getattr(module, table), kind.name, kind)
    settings = parse_run(["mini", "--backend", "spiking", *flags]).settings()
    assert kind.name in settings.values() and ("charge" not in flags[-2] or settings["charge"] == 0.5)
    small = ("--limit", "40", "--epochs", "1", "--out", tmp_path / "run")
    command("run", "mini", "--backend", "spiking", *flags, *small)
    assert f'"{kind.name}"' in (tmp_path / "run" / "config.toml").read_text()


def test_one_entry_adds_an_optimiser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adagrad = optimisers.Optimizer(torch.optim.Adagrad, ("step", "sum"), 3, 2, 4, 1)
    monkeypatch.setitem(optimisers.OPTIMIZERS, "adagrad", adagrad)
    small = ("--limit", "40", "--epochs", "1", "--out", tmp_path / "run")
    command("run", "mini", "--optimizer", "adagrad", *small)
    assert 'optimizer = "adagrad"' in (tmp_path / "run" / "config.toml").read_text()


def test_one_entry_adds_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = registry.DataSet(lambda _: replace(load_mini(), name="mine"), "mini", "mine", "my texts", embedded=True)
    monkeypatch.setitem(registry.DATASETS, "mine", entry)
    command("run", "mine", "--limit", "40", "--epochs", "1", "--out", tmp_path / "run")
    assert 'dataset = "mine"' in (tmp_path / "run" / "config.toml").read_text()


def test_a_file_adds_a_cost_table(tmp_path: Path) -> None:
    """By its path, or by its name from the folder of tables."""
    known = Path(build.__file__).parent.parent / "neuromorphic" / "costs" / "loihi.toml"
    (tmp_path / "mine.toml").write_text(known.read_text().replace('name = "loihi"', 'name = "mine"'))
    assert read_table(str(tmp_path / "mine.toml")).name == "mine"
    assert {path.stem for path in known.parent.glob("*.toml")} == set(names())
