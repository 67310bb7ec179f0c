"""What changes during a run: parameters, optimiser, order of the texts, counts; a step of it, and how it is saved."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, Field

from eqspike_seq.config.settings import RunConfig
from eqspike_seq.data.batches import Batches
from eqspike_seq.data.dataset import Dataset, shape_of
from eqspike_seq.devices.chip import PATTERNS, Chip
from eqspike_seq.errors import ConfigError, DivergenceError, NumericalError, RunError
from eqspike_seq.learning.cost import training_ledger
from eqspike_seq.learning.estimators import Estimate, make_estimator
from eqspike_seq.learning.evaluation import Evaluation
from eqspike_seq.learning.metrics import Window
from eqspike_seq.learning.optimisers import OPTIMIZERS, RowDescent, make_optimizer
from eqspike_seq.learning.parallel import ALONE, Job
from eqspike_seq.learning.watch import WORSE, loss_of_alike
from eqspike_seq.ledger import Ledger
from eqspike_seq.model.network import LARGEST_WEIGHT
from eqspike_seq.model.synapses import Products, RowProduct, multiplied_out, plain
from eqspike_seq.relaxation.buckets import free_by_length
from eqspike_seq.relaxation.equilibrium import Backend
from eqspike_seq.relaxation.loop import loop_of
from eqspike_seq.runs.archive import opened
from eqspike_seq.runs.folder import Checkpoint
from eqspike_seq.runs.vocabulary import take_known
from eqspike_seq.runs.weights import Rows, start_from

LOOKED_AT = 256  # validation texts whose loop is measured after an epoch
WAKING = 20  # batches at most in which silent output units of a chip are woken
ORDINARY_WEIGHT = 100.0  # above it a weight has run away: they start below 1, and trained ones stay near that


@dataclass
class Best:
    """The epoch that was best on validation so far: by accuracy, where that is the same by ``error``."""

    accuracy: float
    error: float
    epoch: int


class _Saved(BaseModel):
    """``state.json`` of a checkpoint."""

    step: int = Field(ge=1)
    seconds: float = Field(ge=0)
    joules: float = 0.0
    rng: dict[str, Any]
    window: Window
    ledger: Ledger
    square: float = Field(0.0, ge=0)
    square_steps: int = Field(0, ge=0)
    best: Best | None = None


class Trainer:
    """All that changes during a run, and how it is saved."""

    def __init__(self, config: RunConfig, dataset: Dataset, backend: Backend, job: Job = ALONE) -> None:
        self.config, self.dataset, self.backend, self.job = config, dataset, backend, job
        device = torch_device(config.run.device)
        self.network = config.network.create(shape_of(config, dataset), config.run.seed).to(device)
        self.parameters = dict(self.network.named())
        self.gather = Batches.of(config, dataset, device)
        start = None if config.learning.start is None else opened(config.learning.start)
        if start is not None:
            start_from(start, self.parameters)
            if not dataset.images:
                self.gather = replace(self.gather, table=self.gather.table.clone())  # the data set keeps its own
                take_known(start, dataset.words(), self.gather.table)
        arrays = {**self.parameters, **({PATTERNS: self.gather.table} if self.gather.twice else {})}
        self.chip = Chip(config.learning.device, arrays, config.learning.device_seed)
        if start is not None:
            self.chip.drift()
        layers = {name: layer_of(name) for name in self.parameters}
        rates = dict(zip(dict.fromkeys(layers.values()), config.learning_rates(), strict=True))
        self.rates = {name: rates[layer] for name, layer in layers.items()}
        groups = [{"params": [tensor], "lr": self.rates[name]} for name, tensor in self.parameters.items()]
        self.optimizer = make_optimizer(config.learning.optimizer, groups)
        self.patterns: RowDescent | None = None
        if self.network.shape.learnt:
            self.patterns = RowDescent(self.gather.table)
            self.gather = replace(self.gather, table=self.patterns.table)
        self.best: Best | None = None
        self.estimator = make_estimator(config.learning)
        self.rng = np.random.default_rng(config.run.seed)
        self.batches = math.ceil(len(dataset.train) / config.learning.batch)
        self.total = max(1, round(self.batches * config.learning.epochs))
        self.step, self.seconds, self.joules = 0, 0.0, 0.0
        self.window, self.ledger = Window(), Ledger()
        self.drawn_from = self.rng.bit_generator.state  # the random state before this epoch's order was drawn
        self.order = self.rng.permutation(len(dataset.train))

    def train_batch(self) -> None:
        """One step of the optimiser, and of patterns that are learnt, on the next batch.

        Rates decay by a cosine over the whole run.

        Of several processes each relaxes its share of the batch; all make the same step.
        """
        if not self.step and self.chip.arrays and self.config.learning.start is None:
            self._wake()
        position = self.step % self.batches
        if position == 0 and self.step:
            self.drawn_from = self.rng.bit_generator.state
            self.order = self.rng.permutation(len(self.dataset.train))
        learning, seed = self.config.learning, self.config.run.seed
        rows = self.order[position * learning.batch : (position + 1) * learning.batch]
        words = np.random.default_rng([seed, self.step])  # which words are left out, anew for each step
        batch = self.gather.lookup(self.dataset.train, rows, learning.word_dropout, words, self.job.share(len(rows)))
        batch, share = replace(batch, seed=self.job.seed(batch.seed)), len(batch) / len(rows)
        if share:
            estimate = self.estimator(self.backend, *self.chip.at_work(self.network, batch, self.step))
        else:
            estimate = Estimate(self._zero(), [])
        gradients = self.job.mean(multiplied_out(estimate.found, len(self.gather.table)), share)
        decay = 0.5 * (1 + math.cos(math.pi * self.step / self.total))
        for group, (name, tensor) in zip(self.optimizer.param_groups, self.parameters.items(), strict=True):
            group["lr"] = decay * self.rates[name]
            tensor.grad = gradients[name] if self._learns(name) else torch.zeros_like(tensor)
        numbers = plain(gradients)
        if not math.isfinite(sum(float(g.sum()) for g in numbers.values())):
            self.job.first(self._stop_at, [name for name, g in numbers.items() if not bool(g.isfinite().all())])
        self.optimizer.step()
        self.chip.write(self.step)
        if self.patterns is not None and self._learns("X"):
            self.patterns.step(gradients["X"], decay * learning.pattern_rate, self.chip, self.step)
        self.step += 1
        if self.step == self.total and self.config.learning.start is None:
            self.chip.drift() if self.patterns is None else self.patterns.drift(self.chip)
        first = self.job.rank == 0  # counts what happens once for all processes
        self.window.batches += first
        if not share:
            return
        self.window.add(estimate, batch.labels, self.network.shape, share)
        phases = (found.ledger for found in estimate.equilibria)
        optimizer = learning.optimizer if first else None
        seen = len(numbers["X"]) if self.patterns is not None else 0
        self.ledger += training_ledger(self.network.shape, batch.mask, phases, optimizer, learning.unrolled, seen)

    def _wake(self) -> None:
        """Move the output units that are on a flat part of σ for every text of a batch off it, on this chip:

            b ← b + 2 (1/C − mean r)

        by their own rates r alone, until there are none. Mismatch puts some there at the start, no nudge would reach
        them, and they would never learn. (Homeostasis, as in Triesch 2005.)
        """
        learning, random = self.config.learning, np.random.default_rng([self.config.run.seed, WAKING])
        bias = self.network.biases[-1]
        woken = torch.zeros_like(bias, dtype=torch.bool)
        for number in range(WAKING):
            rows = random.permutation(len(self.dataset.train))[: learning.batch]
            texts = self.gather.lookup(self.dataset.train, rows, learning.word_dropout, random)
            free = free_by_length(self.backend, *self.chip.at_work(self.network, texts, -2 - number))
            if self.job.rank == 0:
                self.ledger += free.ledger
            rates = free.rates.output
            flat = ((rates <= 0) | (rates >= 1)).all(0)
            woken |= flat
            bias += 2 * woken * (1 / len(bias) - rates.mean(0))
            if not bool(flat.any()):
                return

    def _learns(self, name: str) -> bool:
        return self.config.learning.learns is None or name.startswith("b")

    def _zero(self) -> Products:
        """The gradients of no text."""
        found: Products = {name: torch.zeros_like(tensor) for name, tensor in self.parameters.items()}
        if self.patterns is not None:
            table = self.patterns.table
            found["X"] = RowProduct(torch.zeros(0, dtype=torch.int64, device=table.device), table[:0])
        return found

    def _stop_at(self, names: list[str]) -> None:
        """Raises DivergenceError for gradients that are not finite, NumericalError where nothing led up to them."""
        what = f"the gradient of {', '.join(names) or 'all layers together'} is not finite at step {self.step + 1}"
        largest = max(float(tensor.abs().max()) for tensor in self.parameters.values())
        loss = self.window.loss / self.window.texts if self.window.texts else None
        alike = loss_of_alike(self.network.shape)
        if largest > ORDINARY_WEIGHT or (loss is not None and loss > WORSE * alike):
            self._diverged(what)
        before = "" if loss is None else f" and the loss ({loss:.3g}; {alike:.3g} for answering all classes alike)"
        raise NumericalError(
            f"{what}, although the largest weight ({largest:.3g}){before} were normal before: a numerical fault, not "
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
        weights = [*self.parameters.values(), *([] if self.patterns is None else [self.patterns.table])]
        extremes = (float(end) for tensor in weights for end in tensor.aminmax())  # no copy of a table is made
        large = [not abs(end) <= LARGEST_WEIGHT for end in extremes]
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
        if self.best is not None:
            state["best"] = vars(self.best)
        if self.patterns is None:
            return Checkpoint(self.parameters, moments, state)
        state |= {"square": self.patterns.square, "square_steps": self.patterns.steps}
        return Checkpoint(self.parameters, moments, state, self.patterns.rows())

    def is_better(self, found: Evaluation) -> bool:
        """Whether the epoch that has ended is the best by what was ``found`` on validation; noted with --patience."""
        if not self.config.learning.patience:
            return False
        best = self.best
        if best is not None and (found.accuracy, -found.error) <= (best.accuracy, -best.error):
            return False
        self.best = Best(found.accuracy, found.error, self.step // self.batches)
        return True

    @property
    def ended(self) -> bool:
        """Whether all epochs are done, or as many since the best one as --patience allows."""
        epoch, within = divmod(self.step, self.batches)
        waited = self.best is not None and not within and epoch - self.best.epoch >= self.config.learning.patience
        return self.step >= self.total or waited

    def loop(self) -> dict[str, float]:
        """What the loop through HopAttn does to some validation texts; {} without pooling queries, or a loop."""
        if not (self.network.shape.pooling or self.network.shape.compared) or self.network.shape.uniform:
            return {}
        part = self.dataset.validation
        rows = np.random.default_rng(0).permutation(len(part))[:LOOKED_AT]
        found = loop_of(self.network, self.gather.lookup(part, rows))
        return {"gain": float(found.gain.max()), "apart": float(found.apart.double().mean())}

    def moved(self) -> Rows | None:
        """The patterns that have been learnt, if any are."""
        if self.patterns is None:
            return None
        ids = self.patterns.moved.nonzero().squeeze(1)
        return Rows(ids, self.patterns.table[ids])

    def written(self, saved: Checkpoint) -> None:
        """``saved`` is on the disk."""
        if self.patterns is not None and saved.rows is not None:
            self.patterns.written(saved.rows)

    def restore(self, saved: Checkpoint) -> None:
        """Go on from a checkpoint. Raises RunError if it belongs to another network or is damaged."""
        self._check(saved)
        for name, tensor in self.parameters.items():
            tensor.copy_(saved.model[name])
            kept = {key.removeprefix(f"{name}."): v for key, v in saved.optimizer.items() if key.startswith(f"{name}.")}
            self.optimizer.state[tensor] = {key: value.to(tensor.device) for key, value in kept.items()}
        self.chip.restored()
        try:
            state = _Saved.model_validate(saved.state)
            self.rng.bit_generator.state = self.drawn_from = state.rng
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise RunError(
                f"checkpoint: its state cannot be read ({error!r}). Start again in another folder."
            ) from error
        if state.step > self.total:
            raise RunError(
                f"checkpoint: its step is {state.step}, expected at most {self.total}. Start again in another folder."
            )
        self.step, self.seconds, self.joules, self.best = state.step, state.seconds, state.joules, state.best
        if self.patterns is not None:
            self.patterns.restore(saved.rows)
            self.patterns.square, self.patterns.steps = state.square, state.square_steps
        if self.job.rank == 0:
            self.window, self.ledger = state.window, state.ledger
        if not self.ledger.has_all_kinds():
            raise RunError(
                "checkpoint: written by a version of eqspike that counted other events. Start again in another folder."
            )
        self.order = self.rng.permutation(len(self.dataset.train))

    def _check(self, saved: Checkpoint) -> None:
        """Raises RunError unless it has every parameter and all that the optimiser keeps of it, in their shapes."""
        if self.patterns is not None:
            there = not saved.state.get("square_steps") if saved.rows is None else fits(saved.rows, self.patterns.table)
            if not there:
                raise RunError("checkpoint: its rows of patterns are missing, or not of this network's table")
        kept = OPTIMIZERS[self.config.learning.optimizer].kept
        for name, tensor in self.parameters.items():
            sizes = {name: tensor.shape, **{f"{name}.{key}": tensor.shape for key in kept}}
            for key, size in sizes.items():
                found = {**saved.model, **saved.optimizer}.get(key)
                size = torch.Size() if key.endswith((".step", ".square")) else size
                never = key.endswith(("step", "sq", "square")) and found is not None and bool((found < 0).any())
                if found is None or found.shape != size or never:
                    got = None if found is None else tuple(found.shape)
                    raise RunError(f"checkpoint: parameter {key} has shape {got}, expected {tuple(size)}, none below 0")


def layer_of(name: str) -> str:
    """The parameter whose learning rate one of this ``name`` has: biases and copies for feedback that of their
    weights, a token layer w₁'s."""
    return "w1" if name in ("wx", "bx", "wa", "va") else name.replace("b", "w").replace("v", "w")


def fits(rows: Rows, table: torch.Tensor) -> bool:
    """Whether these are rows of a table."""
    ids, there = rows.ids, rows.vectors.shape == (len(rows.ids), table.shape[1])
    return there and ids.dtype == torch.int64 and 0 <= int(ids.min()) <= int(ids.max()) < len(table)


def torch_device(name: str) -> torch.device:
    """The device called ``name``. Raises ConfigError where there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device: got cuda, but torch finds no CUDA device here. Use --device cpu.")
    return torch.device(name)
