"""How large a nudge noise wants: contrasts against the mean-field gradient, and accuracy, over β from 0.1 to 5.

python -m benchmarks.large_beta --json results/large-beta.json

*Gradients.* A network is looked at before training and after ``EPOCHS`` epochs of dense EP. The mean-field gradient is
that of dense EP as β → 0 (β = ``SMALL``, float64, converged). Beside it is held the contrast at β of the same rates
without noise, whose bias is that of β alone, and of stochastic neurons, ``DRAWS`` times with other random numbers.
``benchmarks.free_energy`` says which objective a contrast at a large β descends.

What to expect, with g the mean-field gradient. The bias of a contrast grows as β² at first. Of its noise the part that
both nudges do not share falls as 1/β, as the contrast is divided by 2β. Common random numbers are shared but for the
spikes that a nudge adds or takes away, whose number grows as β: their part falls as 1/√β. What a synapse reads matters
as much: ``count`` counts spikes; ``membrane`` of a stochastic neuron sums the probabilities that it fired with, whose
noise is what other neurons bring in alone. At β = 2 the nudge −β(y − s) outweighs what holds an output unit with
σ' = ½: without noise it then leaves for a corner of σ.

*Training.* From scratch, for a few epochs, by the preset's optimiser, whose steps do not depend on the size of
the gradient, at each β; accuracy on the validation split. Test splits are not read.
"""

import json
from dataclasses import replace
from typing import Any

import torch
import tyro

from benchmarks.measure import JsonFile, command
from eqspike.build import configure, make_backend, varied
from eqspike_seq.checks.bptt import SETTLED
from eqspike_seq.config.settings import FORMAT, RunConfig
from eqspike_seq.data.batches import random_batch
from eqspike_seq.data.dataset import Dataset, load_dataset
from eqspike_seq.errors import DivergenceError
from eqspike_seq.files import write_json
from eqspike_seq.learning.estimators import ThreePhase
from eqspike_seq.learning.evaluation import evaluate
from eqspike_seq.learning.trainer import Trainer
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network
from eqspike_seq.model.synapses import Gradients, plain
from eqspike_seq.progress import Reporter
from eqspike_seq.relaxation.equilibrium import Backend
from eqspike_seq.runs.environment import environment

BETAS, TRAINED = (0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 5.0), (0.1, 0.5, 1.0, 2.0, 5.0)
SMALL, DRAWS, TEXTS, EPOCHS, SEEDS = 1e-3, 8, 64, 2, (0,)
POOLING = {"network": "pooling", "dim": 16, "queries": 4, "hidden": (32,), "learning_rate": (3e-3,)}
SUBJECTS: dict[str, dict[str, Any]] = {"digits": {"epochs": 4}, "mini": {"epochs": 2, **POOLING}}
NOISE: dict[str, dict[str, dict[str, Any]]] = {  # by subject; those of WTA draw winners in place of a softmax
    "digits": {
        "membrane, common": {"rule": "membrane"},
        "count, common": {"rule": "count"},
        "count, own": {"rule": "count", "common_noise": False},
    },
    "mini": {
        "systematic winners": {"rule": "membrane", "circuit": "wta"},
        "iid winners": {"rule": "membrane", "circuit": "wta", "sampler": "iid"},
        "iid winners, count, own": {"rule": "count", "circuit": "wta", "sampler": "iid", "common_noise": False},
    },
}
NONE = "none"
BOUNDED = replace(SETTLED, free_steps=300, nudge_steps=300)  # for nudges under which nothing may settle


def config_for(subject: str, noise: str) -> RunConfig:
    """The settings of stochastic neurons with this noise, or of the same network on rates."""
    given = {"precision": "float32", **SUBJECTS[subject]}
    if noise == NONE:
        return configure(subject, "dense", **given)
    return configure(subject, "spiking", neuron="bernoulli", **given, **NOISE[subject][noise])


def cosines(found: Gradients, truth: Gradients) -> dict[str, float]:
    """By weight matrix."""
    found, truth = plain(found), plain(truth)
    pairs = {name: (found[name].double().flatten(), value.flatten()) for name, value in truth.items()}
    return {n: float(torch.nn.functional.cosine_similarity(a, b, 0)) for n, (a, b) in pairs.items() if n[0] != "b"}


def contrasts(backend: Backend, beta: float, network: Network, batch: Batch, draws: int) -> list[Gradients]:
    """The contrast at β, ``draws`` times."""
    return [ThreePhase(beta)(backend, network, replace(batch, seed=seed)).gradients for seed in range(1, draws + 1)]


def mean_of(found: list[Gradients]) -> Gradients:
    """Of several draws."""
    return {name: torch.stack([plain(each)[name] for each in found]).mean(0) for name in found[0]}


def gradient_rows(subject: str, stage: str, network: Network, batch: Batch) -> list[dict[str, Any]]:
    """Of every β and kind of noise, against the mean-field gradient and against rates at the same β."""
    wide, exact, rows = network.to(torch.float64), batch.to(torch.float64), []
    truth = ThreePhase(SMALL)(SETTLED, wide, exact).gradients
    backends = {noise: make_backend(config_for(subject, noise)) for noise in NOISE[subject]}
    for beta in BETAS:
        rates = ThreePhase(beta)(BOUNDED, wide, exact).gradients
        about = {"subject": subject, "stage": stage, "beta": beta}
        rows.append({**about, "noise": NONE, "cosine": [cosines(rates, truth)]})
        for noise, backend in backends.items():
            found = contrasts(backend, beta, network, batch, DRAWS)
            row = {**about, "noise": noise, "cosine": [cosines(each, truth) for each in found]}
            row["cosine_to_rates"] = [cosines(each, rates) for each in found]
            rows.append({**row, "cosine_of_mean": cosines(mean_of(found), truth)})
    return rows


@torch.no_grad()
def trained(config: RunConfig, data: Dataset, epochs: float) -> Trainer:
    """After so many epochs of those that ``config`` has. Raises DivergenceError."""
    trainer = Trainer(config, data, make_backend(config))
    while trainer.step < epochs * trainer.batches:
        trainer.train_batch()
    return trainer


@torch.no_grad()
def accuracy(config: RunConfig, data: Dataset) -> float | None:
    """On validation after training; None where it has diverged."""
    try:
        trainer = trained(config, data, config.learning.epochs)
        found = evaluate(trainer.backend, trainer.network, trainer.gather, data.validation, config.learning.batch)
    except DivergenceError:
        return None
    return found.accuracy


def main(json_file: JsonFile, subjects: tuple[str, ...] = tuple(SUBJECTS), seeds: tuple[int, ...] = SEEDS) -> None:
    """Measure gradients, then train; what is in the file already is not done again.

    Args:
        json_file: Where the figures go, after every row.
        subjects: Which of digits and mini.
        seeds: Of what is trained.
    """
    reporter = Reporter()
    kept = json.loads(json_file.read_text()) if json_file.exists() else {"gradients": [], "training": []}
    gradients, training = kept["gradients"], kept["training"]

    def save() -> None:
        facts = {"command": command(), "settings": SUBJECTS, "draws": DRAWS, "texts": TEXTS, "epochs": EPOCHS}
        found = {"gradients": gradients, "training": training}
        write_json(json_file, {"format": FORMAT, **facts, "environment": environment(), **found})

    for subject in subjects:
        config = config_for(subject, NONE)
        data = load_dataset(config.data, reporter.status)
        for stage, epochs in (("initial", 0), ("trained", EPOCHS)):
            if not any((row["subject"], row["stage"]) == (subject, stage) for row in gradients):
                network = trained(config, data, epochs).network
                gradients += gradient_rows(subject, stage, network, random_batch(config, data, TEXTS))
                save()
        for seed in seeds:
            for noise in (NONE, *NOISE[subject]):
                for beta in TRAINED:
                    about = {"subject": subject, "noise": noise, "beta": beta, "seed": seed}
                    if not any(about.items() <= row.items() for row in training):
                        found = accuracy(varied(config_for(subject, noise), seed=seed, beta=beta), data)
                        training.append({**about, "validation_accuracy": found})
                        save()
                        reporter.out.print(training[-1])


if __name__ == "__main__":
    tyro.cli(main)
