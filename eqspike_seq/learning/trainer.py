"""What changes during a run: parameters, optimiser, order of the texts, counts; a step of it, and how it is saved."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, Field

from eqspike_seq.config.settings import RunConfig
from eqspike_seq.data.batches import Batches
from eqspike_seq.data.dataset import Dataset, shape_of
from eqspike_seq.errors import ConfigError, DivergenceError, NumericalError, RunError
from eqspike_seq.learning.estimators import Estimate, make_estimator
from eqspike_seq.learning.metrics import Window
from eqspike_seq.learning.optimisers import OPTIMIZERS, make_optimizer
from eqspike_seq.learning.parallel import ALONE, Job
from eqspike_seq.learning.watch import WORSE, loss_of_alike
from eqspike_seq.ledger import Ledger, training_ledger
from eqspike_seq.model.network import LARGEST_WEIGHT
from eqspike_seq.relaxation.equilibrium import Backend
from eqspike_seq.runs.folder import Checkpoint

ORDINARY_WEIGHT = 100.0  # above it a weight has run away: they start below 1, and trained ones stay near that


class _Saved(BaseModel):
    """``state.json`` of a checkpoint."""

    step: int = Field(ge=1)
    seconds: float = Field(ge=0)
    joules: float = 0.0
    rng: dict[str, Any]
    window: Window
    ledger: Ledger


class Trainer:
    """All that changes during a run, and how it is saved."""

    def __init__(self, config: RunConfig, dataset: Dataset, backend: Backend, job: Job = ALONE) -> None:
        self.config, self.dataset, self.backend, self.job = config, dataset, backend, job
        device = torch_device(config.run.device)
        self.network = config.network.create(shape_of(config, dataset), config.run.seed).to(device)
        self.parameters = dict(self.network.named())
        rates = dict(zip((name for name in self.parameters if name[0] == "w"), config.learning_rates(), strict=True))
        self.rates = {name: rates[f"w{name[1:]}"] for name in self.parameters}
        groups = [{"params": [tensor], "lr": self.rates[name]} for name, tensor in self.parameters.items()]
        self.optimizer = make_optimizer(config.learning.optimizer, groups)
        self.gather = Batches.of(config, dataset, device)
        self.estimator = make_estimator(config.learning)
        self.rng = np.random.default_rng(config.run.seed)
        self.batches = math.ceil(len(dataset.train) / config.learning.batch)
        self.total = self.batches * config.learning.epochs
        self.step, self.seconds, self.joules = 0, 0.0, 0.0
        self.window, self.ledger = Window(), Ledger()
        self.drawn_from = self.rng.bit_generator.state  # the random state before this epoch's order was drawn
        self.order = self.rng.permutation(len(dataset.train))

    def train_batch(self) -> None:
        """One step of Adam on the next batch, its rate by cosine decay over the whole run.

        Of several processes each relaxes its share of the batch; all make the same step.
        """
        position = self.step % self.batches
        if position == 0 and self.step:
            self.drawn_from = self.rng.bit_generator.state
            self.order = self.rng.permutation(len(self.dataset.train))
        learning, seed = self.config.learning, self.config.run.seed
        rows = self.order[position * learning.batch : (position + 1) * learning.batch]
        words = np.random.default_rng([seed, self.step])  # which words are left out, anew for each step
        batch = self.gather(self.dataset.train, rows, learning.word_dropout, words, self.job.share(len(rows)))
        batch, share = replace(batch, seed=self.job.seed(batch.seed)), len(batch) / len(rows)
        if share:
            estimate = self.estimator(self.backend, self.network, batch)
        else:
            estimate = Estimate({name: torch.zeros_like(tensor) for name, tensor in self.parameters.items()}, [])
        gradients = self.job.mean(estimate.gradients, share)
        decay = 0.5 * (1 + math.cos(math.pi * self.step / self.total))
        for group, (name, tensor) in zip(self.optimizer.param_groups, self.parameters.items(), strict=True):
            group["lr"] = decay * self.rates[name]
            tensor.grad = gradients[name]
        if not math.isfinite(sum(float(g.sum()) for g in gradients.values())):
            self.job.first(self._stop_at, [name for name, g in gradients.items() if not bool(g.isfinite().all())])
        self.optimizer.step()
        self.step += 1
        first = self.job.rank == 0  # counts what happens once for all processes
        self.window.batches += first
        if not share:
            return
        self.window.add(estimate, batch.labels, self.network.shape.classes, share)
        phases = (found.ledger for found in estimate.equilibria)
        optimizer = learning.optimizer if first else None
        self.ledger += training_ledger(self.network.shape, batch.mask, phases, optimizer, learning.unrolled)

    def _stop_at(self, names: list[str]) -> None:
        """Raises DivergenceError for gradients that are not finite, NumericalError where nothing led up to them."""
        what = f"the gradient of {', '.join(names) or 'all layers together'} is not finite at step {self.step + 1}"
        largest = max(float(tensor.abs().max()) for tensor in self.parameters.values())
        loss = self.window.loss / self.window.texts if self.window.texts else None
        alike = loss_of_alike(self.network.shape.classes)
        if largest > ORDINARY_WEIGHT or (loss is not None and loss > WORSE * alike):
            self._diverged(what)
        before = "" if loss is None else f" and the loss ({loss:.3g}; {alike:.3g} for answering all classes alike)"
        raise NumericalError(
            f"{what}, although the largest weight ({largest:.3g}){before} were ordinary before: a numerical fault, not "
            f"divergence. Run again with --precision float32 (this run: {str(self.backend.dtype)[6:]}); if it fails "
            "again, please report it with the run folder. The last checkpoint is kept."
        )

    def _diverged(self, what: str) -> None:
        learning = self.config.learning
        raised = "" if learning.unrolled else f", or raise --beta (now {learning.beta:g})"
        now = " ".join(f"{rate:g}" for rate in learning.learning_rate)
        raise DivergenceError(
            f"training diverged: {what}. Lower --learning-rate (now {now}){raised}; the last checkpoint is kept."
        )

    def check_weights(self) -> None:
        """Raises DivergenceError where one is too large or not finite, or what the optimiser keeps of it."""
        kept = (value for state in self.optimizer.state.values() for value in state.values() if value is not None)
        large = (not float(tensor.abs().max()) <= LARGEST_WEIGHT for tensor in self.parameters.values())
        if any(large) or not all(bool(tensor.isfinite().all()) for tensor in kept):
            self._diverged(f"a weight after step {self.step} is not finite, or above {LARGEST_WEIGHT:g}")

    def collect(self) -> None:
        """Move what all processes have counted to the first one."""
        self.window, self.ledger = self.job.total(self.window), self.job.total(self.ledger)
        if self.job.rank:
            self.window, self.ledger = Window(), Ledger()

    def checkpoint(self) -> Checkpoint:
        """Everything a resumed run needs to go on as if nothing had happened.

        Raises DivergenceError where a number in it is not finite.
        """
        moments = {
            f"{name}.{key}": value
            for name, tensor in self.parameters.items()
            for key, value in self.optimizer.state[tensor].items()
            if value is not None
        }
        self.check_weights()
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "joules": self.joules,
            "rng": self.drawn_from,
            "window": vars(self.window),
            "ledger": vars(self.ledger),
        }
        return Checkpoint(self.parameters, moments, state)

    def restore(self, saved: Checkpoint) -> None:
        """Go on from a checkpoint. Raises RunError if it belongs to another network or is damaged."""
        self._check(saved)
        for name, tensor in self.parameters.items():
            tensor.copy_(saved.model[name])
            moments = {key: value for key, value in saved.optimizer.items() if key.startswith(f"{name}.")}
            self.optimizer.state[tensor] = {
                key.removeprefix(f"{name}."): value.to(tensor.device) for key, value in moments.items()
            }
        try:
            state = _Saved.model_validate(saved.state)
            self.rng.bit_generator.state = self.drawn_from = state.rng
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise RunError(
                f"checkpoint: its state cannot be read ({error!r}). Start again in another folder."
            ) from error
        if state.step > self.total:
            raise RunError(
                f"checkpoint: it is of step {state.step}, expected at most {self.total}. Start again in another folder."
            )
        self.step, self.seconds, self.joules = state.step, state.seconds, state.joules
        if self.job.rank == 0:
            self.window, self.ledger = state.window, state.ledger
        if not self.ledger.has_all_kinds():
            raise RunError(
                "checkpoint: another version of eqspike counted other events. Start again in another folder."
            )
        self.order = self.rng.permutation(len(self.dataset.train))

    def _check(self, saved: Checkpoint) -> None:
        """Raises RunError unless it has every parameter and all that the optimiser keeps of it, in their shapes."""
        kept = OPTIMIZERS[self.config.learning.optimizer].kept
        for name, tensor in self.parameters.items():
            sizes = {name: tensor.shape, **{f"{name}.{key}": tensor.shape for key in kept}}
            for key, size in sizes.items():
                found = {**saved.model, **saved.optimizer}.get(key)
                size = torch.Size() if key.endswith(".step") else size
                if found is None or found.shape != size or (key.endswith(("step", "sq")) and bool((found < 0).any())):
                    got = None if found is None else tuple(found.shape)
                    raise RunError(f"checkpoint: parameter {key} has shape {got}, expected {tuple(size)}, none below 0")


def torch_device(name: str) -> torch.device:
    """The device called ``name``. Raises ConfigError where there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device: got cuda, but torch finds no CUDA device here. Use --device cpu.")
    return torch.device(name)
