import json
import os
import re
from pathlib import Path

import pytest
import torch

from eqspike_seq.config.settings import FORMAT
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network, Shape
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.schema import Schema

MARKUP = re.compile(r"\$[^$<>]*\$|mathdefault|\\(?:times|mathrm|mathregular|frac)|10\^")  # what no picture may print


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache."""
    monkeypatch.setenv("EQSPIKE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished run of neurons that send changes; tests copy it before they harm it."""
    place = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EQSPIKE_CACHE", str(place / "cache"))
        flags = ("--backend", "spiking", "--neuron", "sigma-delta", "--limit", 40, "--epochs", 1)
        command("run", "mini", *flags, "--out", place / "run")
    return place / "run"


@pytest.fixture
def real_data() -> Path:
    """The folder with the real data sets."""
    place = os.environ.get("EQSPIKE_DATA")
    if not place:
        pytest.skip("EQSPIKE_DATA is not set: no real data here")
    return Path(place)


def command(*arguments: object) -> None:
    """``eqspike`` with these arguments, in this process."""
    from eqspike.cli import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["eqspike", *map(str, arguments)])
        main()


def is_whole(path: Path, schema: type[Schema], *heads: str) -> bool:
    """Whether a file holds what its schema declares and, but for its format and ``heads``, nothing else."""
    found = json.loads(path.read_text())
    rest = {name: value for name, value in found.items() if name not in ("format", *heads)}
    return found["format"] == FORMAT and schema.read(found).content() == rest


class Listener(Reporter):
    """Keeps what it warns of."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.said: list[str] = []

    def warn(self, text: str) -> None:
        self.said.append(text)


def make_network(
    hidden: tuple[int, ...] = (8, 5),
    tokens: int = 6,
    dim: int = 4,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    **shape: object,
) -> Network:
    """A small network with ordinary random weights."""
    made = Shape(tokens, dim, hidden, 2, **shape)  # type: ignore[arg-type]
    return Network.create(made, torch.Generator().manual_seed(seed)).to(dtype)


def make_batch(
    size: int = 7, tokens: int = 6, dim: int = 4, seed: int = 1, dtype: torch.dtype = torch.float64
) -> Batch:
    """Random embeddings, padding at the end of most texts, at least one token each."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, tokens + 1, (size, 1, 1), generator=generator)
    mask = torch.arange(tokens).view(1, 1, tokens) < lengths
    x = torch.randn(size, 1, tokens, dim, generator=generator, dtype=dtype) * mask.unsqueeze(-1)
    return Batch(x, mask, torch.randint(0, 2, (size,), generator=generator))


def make_clamped(hidden: tuple[int, ...] = (9, 5)) -> tuple[Network, Batch]:
    """A network whose first layer is the input, and inputs for it."""
    generator = torch.Generator().manual_seed(0)
    network = Network.create(Shape(6, 1, hidden, 3, projections=(), attention=False), generator).to(torch.float64)
    x = torch.rand(8, 1, 6, 1, generator=generator, dtype=torch.float64)
    return network, Batch(x, torch.ones(8, 1, 6, dtype=torch.bool), torch.arange(8) % 3)
