"""Optimisers that a synapse can afford: accuracy on validation, and the energy of an update of one synapse.

python -m benchmarks.local_optimisers --json results/local-optimisers.json

    adam             w ← w − η m/√v, both moments kept at each synapse
    sgd              w ← w − η g, one η for all layers
    sgd by layer     the same, η of each parameter over the root mean square of its gradient in the first batches
    normalised-sgd   w ← w − η g/√v, v one number a layer
    sign             w ← w − η sign g (Bernstein et al. 2018, arXiv 1802.04434)
    … at b bits      the weight is one of 2ᵇ − 1 levels and nothing else is kept of it; the new weight is rounded
                     stochastically (``Bits``), within the range of the device model ``loihi-8bit``

Rates are multiples of those of the preset, layer by layer; those of ``sgd`` are numbers. Each is tuned with seed 0 on
the validation split, and the best is trained with the seeds 1 and 2 too; of IMDB there are a part and one seed. Test
splits are not read. The vectors of patterns learn by ``RowDescent`` throughout: it touches the rows of a batch and
keeps nothing of them.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import tyro
from torch import Tensor

from analysis.energy import DIGITAL
from benchmarks.measure import JsonFile, command
from eqspike.build import configure, make_backend, varied
from eqspike_seq.config.settings import FORMAT, RunConfig
from eqspike_seq.data.dataset import Dataset, load_dataset
from eqspike_seq.devices.device_model import DeviceModel, read_device
from eqspike_seq.errors import DivergenceError
from eqspike_seq.files import write_json
from eqspike_seq.learning.evaluation import evaluate
from eqspike_seq.learning.optimisers import OPTIMIZERS, Optimizer
from eqspike_seq.learning.trainer import Trainer
from eqspike_seq.ledger import Ledger
from eqspike_seq.phases import Phase
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.environment import environment
from neuromorphic.pricing import price, read_table, total

SEEDS = (0, 1, 2)
DEVICE = "loihi-8bit"
SETTINGS: dict[str, dict[str, Any]] = {
    "digits": {"epochs": 5},
    "mini": {"epochs": 3, "network": "pooling", "dim": 16, "queries": 4, "hidden": (32,), "learning_rate": (3e-3,)},
    "imdb": {"limit": 3000},
}
BRIEF = (0.3, 1.0, 2.0)  # rates that are tried on IMDB, with one seed
MEASURED = 10  # batches by which the rates of ``sgd by layer`` are set
COUNTED = 1000  # synapses whose update is priced, so that shares of a word are whole numbers


class Sign(torch.optim.Optimizer):
    """w ← w − η sign g."""

    def __init__(self, groups: list[dict[str, object]]) -> None:
        super().__init__(groups, {"lr": 1e-3})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of each parameter."""
        for group in self.param_groups:
            for weight in group["params"]:
                weight.add_(weight.grad.sign(), alpha=-group["lr"])


STEPS = {**OPTIMIZERS, "sgd by layer": OPTIMIZERS["sgd"], "sign": Optimizer(Sign, (), 2, 2, 0, 0)}


@dataclass(frozen=True)
class Rival:
    """An optimiser by its ``name``, on weights of so many ``bits`` (None: not rounded), and the ``rates`` tried."""

    name: str
    rates: tuple[float, ...]
    bits: int | None = None

    @property
    def label(self) -> str:
        """As tables have it."""
        return self.name if self.bits is None else f"{self.name}, {self.bits} bits"

    def joules(self) -> dict[str, float]:
        """Of an update of one synapse, with its range, on ``DIGITAL``.

        The gathered gradient, and moments, are whole words; a weight of b bits takes its share of a word. A sign is an
        addition, and so is rounding, by a random number that a shift register makes.
        """
        found, step, ledger = read_table(DIGITAL), STEPS[self.name], Ledger(samples={Phase.FREE: 1})
        spared = 0.0 if self.bits is None else 1 - self.bits / found.word_bits
        ledger.add(
            "w",
            Phase.UPDATE,
            optimiser_reads=round(COUNTED * (step.reads - spared)),
            optimiser_writes=round(COUNTED * (step.writes - spared)),
            accumulates=COUNTED * ((self.name == "sign") + (self.bits is not None)),
            multiply_accumulates=COUNTED * step.products,
            divisions=COUNTED * step.divisions,
        )
        return vars(total(price(ledger, found)) / COUNTED)


RIVALS = (
    Rival("adam", (0.5, 1.0, 2.0, 4.0)),
    Rival("sgd", (0.03, 0.1, 0.3, 1.0)),
    Rival("sgd by layer", (0.5, 1.0, 2.0, 4.0)),
    Rival("normalised-sgd", (0.5, 1.0, 2.0, 4.0)),
    Rival("normalised-sgd", (0.5, 1.0, 2.0), 8),
    Rival("sign", (0.3, 1.0, 2.0), 8),
    Rival("sign", (0.3, 1.0), 4),
)


class Rounded:
    """An optimiser whose steps end on the levels of a device; ``weights`` are what has levels, biases have none."""

    def __init__(self, inner: torch.optim.Optimizer, weights: list[Tensor], device: DeviceModel, seed: int) -> None:
        self.inner, self.weights, self.device = inner, weights, device
        self.random = torch.Generator().manual_seed(seed)
        for weight in weights:
            weight.copy_(device.programmed(weight, device.limit(weight.shape[-1]), self.random))

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Of the optimiser inside."""
        return self.inner.param_groups

    @torch.no_grad()
    def step(self) -> None:
        """A step, then rounded."""
        before = [weight.clone() for weight in self.weights]
        self.inner.step()
        for weight, old in zip(self.weights, before, strict=True):
            limit = self.device.limit(weight.shape[-1])
            weight.copy_(self.device.written(old, weight - old, limit, self.random))


def trainer_of(rival: Rival, rate: float, config: RunConfig, data: Dataset) -> Trainer:
    """A trainer that learns by ``rival``."""
    trainer = Trainer(config, data, make_backend(config))
    if rival.name == "sgd":
        trainer.rates = dict.fromkeys(trainer.rates, 1.0)
    elif rival.name == "sgd by layer":
        trainer.rates = by_layer(config, data)
    trainer.rates = {name: rate * each for name, each in trainer.rates.items()}
    kind: Any = STEPS[rival.name].kind
    optimizer = kind([{"params": [tensor]} for tensor in trainer.parameters.values()])
    if rival.bits is not None:
        model = read_device(DEVICE)
        assert model.bits is not None
        device = replace(model, bits=replace(model.bits, bits=rival.bits))
        weights = [tensor for name, tensor in trainer.parameters.items() if name[0] != "b"]
        optimizer = Rounded(optimizer, weights, device, config.run.seed)
    trainer.optimizer = optimizer
    return trainer


@torch.no_grad()
def by_layer(config: RunConfig, data: Dataset) -> dict[str, float]:
    """The preset's rate of each parameter over the root mean square of its gradient, before anything is learnt."""
    trainer, squares = Trainer(config, data, make_backend(config)), dict[str, float]()
    rates, trainer.rates = trainer.rates, dict.fromkeys(trainer.rates, 0.0)
    for _ in range(MEASURED):
        trainer.train_batch()
        for name, tensor in trainer.parameters.items():
            assert tensor.grad is not None
            squares[name] = squares.get(name, 0.0) + float(tensor.grad.square().mean()) / MEASURED
    return {name: rate / math.sqrt(squares[name]) for name, rate in rates.items()}


@torch.no_grad()
def accuracy(trainer: Trainer) -> float | None:
    """On validation after all epochs; None where training has diverged."""
    try:
        while not trainer.ended:
            trainer.train_batch()
        part = trainer.dataset.validation
        return evaluate(trainer.backend, trainer.network, trainer.gather, part, trainer.config.learning.batch).accuracy
    except DivergenceError:
        return None


def runs(dataset: str, rows: list[dict[str, Any]]) -> Iterator[tuple[Rival, float, int]]:
    """(rival, rate, seed) of all runs; those with the best rate once seed 0 has ``rows`` of every one."""
    for rival in RIVALS:
        brief = dataset == "imdb"
        yield from ((rival, rate, 0) for rate in rival.rates if not brief or rate in BRIEF)
        mine = [row for row in rows if (row["dataset"], row["optimiser"], row["seed"]) == (dataset, rival.label, 0)]
        best = max(mine, key=lambda row: row["validation_accuracy"] or 0.0)
        yield from ((rival, best["rate"], seed) for seed in SEEDS[1:] if not brief)


def main(json_file: JsonFile, datasets: tuple[str, ...] = tuple(SETTINGS)) -> None:
    """Train them all; what is in the file already is not done again.

    Args:
        json_file: Where the figures go, after every row.
        datasets: Which of ``SETTINGS``.
    """
    reporter = Reporter()
    rows: list[dict[str, Any]] = json.loads(json_file.read_text())["rows"] if json_file.exists() else []
    joules = {rival.label: rival.joules() for rival in RIVALS}
    for dataset in datasets:
        base = configure(dataset, "dense", precision="float32", **SETTINGS[dataset])
        data = load_dataset(base.data, reporter.status)
        for rival, rate, seed in runs(dataset, rows):
            about = {"dataset": dataset, "optimiser": rival.label, "rate": rate, "seed": seed}
            if any(about.items() <= row.items() for row in rows):
                continue
            trainer = trainer_of(rival, rate, varied(base, seed=seed), data)
            found = accuracy(trainer)
            rows.append({**about, "validation_accuracy": found})
            facts = {"command": command(), "settings": SETTINGS, "environment": environment(), "joules": joules}
            write_json(json_file, {"format": FORMAT, **facts, "rows": rows})
            reporter.out.print(rows[-1])


if __name__ == "__main__":
    tyro.cli(main)
