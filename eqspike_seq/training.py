"""The training loop: batches → estimator → Adam → run folder."""

import inspect
import math
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, Field

from eqspike_seq.acting import unmet
from eqspike_seq.board import board, check_board
from eqspike_seq.buckets import MakeBackend, make_estimator
from eqspike_seq.config import RunConfig
from eqspike_seq.data.dataset import Batches, Dataset, load_dataset, random_batch, shape_of
from eqspike_seq.dynamics import Backend
from eqspike_seq.errors import ConfigError, DivergenceError, NumericalError, RunError
from eqspike_seq.evaluation import Evaluation, dense_reference, evaluate, prediction_columns, samples
from eqspike_seq.files import save_arrays
from eqspike_seq.learning import Estimate
from eqspike_seq.ledger import KINDS, Ledger, training_ledger
from eqspike_seq.memory import keep_freed_memory, release_freed_memory, resident
from eqspike_seq.meter import Meter
from eqspike_seq.metrics import Window
from eqspike_seq.network import LARGEST_WEIGHT, Network
from eqspike_seq.parallel import ALONE, Job
from eqspike_seq.precision import settled
from eqspike_seq.progress import Reporter
from eqspike_seq.runs import Checkpoint, RunFolder, environment

WORSE = 1.2  # times the loss of answering all classes alike, at which training is told to diverge
KEPT = {"adam": ("step", "exp_avg", "exp_avg_sq"), "sgd": ()}  # by the optimiser, of each parameter
ORDINARY_WEIGHT = 100.0  # above it a weight has run away: they start below 1, and trained ones stay near that
STUCK = 0.95  # share of such units at which a layer is warned of
OPTIMIZERS = {  # their add_param_group would first import torch's compiler, which takes a second and is not used
    name: type(kind.__name__, (kind,), {"add_param_group": inspect.unwrap(kind.add_param_group)})
    for name, kind in (("adam", torch.optim.Adam), ("sgd", torch.optim.SGD))
}


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
        device = torch_device(config.device)
        shape = shape_of(config, dataset)
        generator = torch.Generator().manual_seed(config.seed)
        self.network = Network.create(shape, generator, config.bias, config.gain, config.recall).to(device)
        self.parameters = dict(self.network.named())
        rates = dict(zip((name for name in self.parameters if name[0] == "w"), config.learning_rates(), strict=True))
        self.rates = {name: rates[f"w{name[1:]}"] for name in self.parameters}
        groups = [{"params": [tensor], "lr": self.rates[name]} for name, tensor in self.parameters.items()]
        self.optimizer = OPTIMIZERS[config.optimizer](groups, fused=True)
        self.gather = Batches.of(config, dataset, device)
        self.estimator = make_estimator(config)
        self.rng = np.random.default_rng(config.seed)
        self.batches = math.ceil(len(dataset.train) / config.batch)
        self.total = self.batches * config.epochs
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
        rows = self.order[position * self.config.batch : (position + 1) * self.config.batch]
        words = np.random.default_rng([self.config.seed, self.step])  # which words are left out, anew for each step
        batch = self.gather(self.dataset.train, rows, self.config.word_dropout, words, self.job.share(len(rows)))
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
        unrolled = self.config.bptt_steps if self.config.estimator == "bptt" else 0
        phases = (found.ledger for found in estimate.equilibria)
        optimizer = self.config.optimizer if first else None
        self.ledger += training_ledger(self.network.shape, batch.mask, phases, optimizer, unrolled)

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
        config = self.config
        raised = "" if config.estimator == "bptt" else f", or raise --beta (now {config.beta:g})"
        now = " ".join(f"{rate:g}" for rate in config.learning_rate)
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
            "ledger": {k: v for k, v in self.ledger.as_dict().items() if k != "format"},
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
            raise RunError(f"checkpoint: its state cannot be read ({error!r}). Start the run anew.") from error
        if state.step > self.total:
            raise RunError(
                f"checkpoint: it is of step {state.step}, expected at most {self.total}. Start the run anew."
            )
        self.step, self.seconds, self.joules = state.step, state.seconds, state.joules
        if self.job.rank == 0:
            self.window, self.ledger = state.window, state.ledger
        if any(set(row) != set(KINDS) for phases in self.ledger.counts.values() for row in phases.values()):
            raise RunError("checkpoint: another version of eqspike counted other events. Start the run anew.")
        self.order = self.rng.permutation(len(self.dataset.train))

    def _check(self, saved: Checkpoint) -> None:
        """Raises RunError unless it has every parameter and all that the optimiser keeps of it, in their shapes."""
        for name, tensor in self.parameters.items():
            sizes = {name: tensor.shape, **{f"{name}.{key}": tensor.shape for key in KEPT[self.config.optimizer]}}
            for key, size in sizes.items():
                found = {**saved.model, **saved.optimizer}.get(key)
                size = torch.Size() if key.endswith(".step") else size
                if found is None or found.shape != size or (key.endswith(("step", "sq")) and bool((found < 0).any())):
                    got = None if found is None else tuple(found.shape)
                    raise RunError(f"checkpoint: parameter {key} has shape {got}, expected {tuple(size)}, none below 0")


@torch.no_grad()
def run(
    config: RunConfig,
    make_backend: MakeBackend,
    reporter: Reporter,
    job: Job = ALONE,
    check: Callable[[Dataset], None] = lambda _: None,
) -> dict[str, Any]:
    """Train, test once, and fill the run folder; returns what ``result.json`` holds, with ``path``.

    ``make_backend`` builds what relaxes the network. Of several processes each calls this, with the same ``config``;
    the first one alone reads, writes and tests. ``check`` may refuse the data before anything is written.

    Raises EqspikeError for whatever the user can mend; KeyboardInterrupt leaves a checkpoint behind.
    """
    torch_device(config.device)
    job.take_device(config.device)
    job.first(check_board, config.tensorboard)
    keep_freed_memory()
    folder = job.first(RunFolder.open, config)
    try:
        config = job.first(folder.continued, config)
        dataset = job.first(load_dataset, config, reporter.status)
        job.first(folder.check_data, config, dataset.source)
        job.first(check, dataset)
        reporter.dataset(dataset)
        config = job.first(with_precision, config, dataset)
        release_freed_memory()
        trainer = Trainer(config, dataset, make_backend(config), job)
        metrics: list[dict[str, Any]] = []
        if config.resume is not None and (saved := job.first(folder.load_checkpoint)) is not None:
            trainer.restore(saved)
            metrics = job.first(folder.read_metrics, trainer.step)
            reporter.status(f"resumed at batch {trainer.step} of {trainer.total}")
        job.first(describe, trainer, folder)
        train(trainer, folder, metrics, reporter)
        result = job.first(conclude, trainer, folder, metrics, reporter)
    finally:
        folder.close()
    return {**result, "path": folder.path}


def torch_device(name: str) -> torch.device:
    """The device called ``name``. Raises ConfigError where there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device: got cuda, but torch finds no CUDA device here. Use --device cpu.")
    return torch.device(name)


def with_precision(config: RunConfig, dataset: Dataset) -> RunConfig:
    """``settled``, by a batch of the training texts."""
    return settled(config, shape_of(config, dataset), random_batch(config, dataset, config.batch))


def describe(trainer: Trainer, folder: RunFolder) -> None:
    """``config.toml``, ``environment.json``, and of texts ``vocabulary.json`` and ``vectors.safetensors``."""
    config, dataset = trainer.config, trainer.dataset
    folder.write_config(config)
    folder.write_json(
        "environment.json",
        {
            **environment(),
            "processes": trainer.job.size,
            "device": config.device,
            "product_dtype": str(trainer.backend.dtype),
            "seed": config.seed,
            "embedding_sha256": dataset.embeddings.digest,
            "embeddings": dataset.embeddings.source,
            "data": dataset.source,
            "data_sha256": dataset.digest,
            "counts": dataset.counts,
        },
    )
    if not dataset.images:
        folder.save_vocabulary(dataset.words(), dataset.classes, trainer.gather.table)


def conclude(trainer: Trainer, folder: RunFolder, metrics: list[dict[str, Any]], reporter: Reporter) -> dict[str, Any]:
    """All that follows on training; returns what ``result.json`` holds."""
    test, columns = finish(trainer, folder, reporter)
    result = summary(trainer, metrics, test)
    _write_predictions(folder, columns)
    folder.write_json("result.json", result)
    return result


def train(trainer: Trainer, folder: RunFolder, metrics: list[dict[str, Any]], reporter: Reporter) -> None:
    """All batches that remain; a line of metrics and a checkpoint every so often and after every epoch."""
    config, job, started = trainer.config, trainer.job, time.perf_counter() - trainer.seconds
    meter = Meter.begin(config.device)
    warned: set[str] = set()
    with (
        board(folder.path / "tensorboard", config.tensorboard and job.rank == 0, trainer.step) as log,
        _Interruptible() as interrupted,
        reporter.training(trainer.total, trainer.step) as advance,
    ):

        def record(ended: bool) -> None:
            line = {"step": trainer.step, "epoch": trainer.step / trainer.batches, **trainer.window.line()}
            _warn_of_layers(line, warned, reporter)
            _warn_of_phases(line, config, warned, reporter)
            _warn_of_silence(trainer, warned, reporter)
            if ended:
                part = trainer.dataset.validation
                found = evaluate(trainer.backend, trainer.network, trainer.gather, part, config.batch)
                line["validation_accuracy"] = found.accuracy
                _warn_of_loss(line, trainer.network.shape.classes, reporter)
                reporter.epoch(trainer.step // trainer.batches, line)
            trainer.seconds = time.perf_counter() - started
            trainer.joules += meter.read() or 0.0
            metrics.append({**line, "seconds": trainer.seconds})
            log(metrics[-1])
            trainer.window = Window()
            folder.write_metrics(metrics)
            folder.save_checkpoint(trainer.checkpoint())

        while trainer.step < trainer.total:
            trainer.train_batch()
            trainer.seconds = time.perf_counter() - started
            if trainer.step == trainer.total // 2:
                job.first(trainer.check_weights)
                job.first(folder.save_halfway, trainer.parameters)
            ended = trainer.step % trainer.batches == 0
            due = ended or trainer.step % config.checkpoint_every == 0
            if due:
                trainer.collect()
                job.first(record, ended)
                release_freed_memory()
            if job.agree(interrupted()):
                if not due:
                    trainer.collect()
                    job.first(lambda: folder.save_checkpoint(trainer.checkpoint()))
                raise KeyboardInterrupt
            advance(trainer.step, trainer.window)


def finish(trainer: Trainer, folder: RunFolder, reporter: Reporter) -> tuple[Evaluation, dict[str, Any]]:
    """Read the test split, once, and write what belongs to it."""
    dataset, config, subject = trainer.dataset, trainer.config, (trainer.network, trainer.gather)
    with reporter.testing(len(dataset.test)) as advance:
        test = evaluate(trainer.backend, *subject, dataset.test, config.batch, advance)
    folder.write_json("curves.json", test.curves())
    folder.write_json(
        "ledger.json",
        {
            "inference": test.ledger.as_dict(),
            "training": trainer.ledger.as_dict(),
            "test_texts": len(dataset.test),
            "training_samples": trainer.ledger.samples.get("free", 0),
            **({} if config.backend == "dense" else {"dense": dense_reference(config, *subject, dataset.train)}),
        },
    )
    arrays = samples(trainer.backend, *subject, dataset.test, dataset.words(), config.beta)
    folder.write("samples.npz", lambda path: save_arrays(path, arrays))
    return test, prediction_columns(test, dataset.test_texts, dataset.classes)


def summary(trainer: Trainer, metrics: list[dict[str, Any]], test: Evaluation) -> dict[str, Any]:
    """What ``result.json`` holds."""
    config, spiking = trainer.config, trainer.config.backend != "dense"
    phases = tuple(trainer.ledger.samples)
    peak = torch.cuda.max_memory_allocated() if config.device == "cuda" else resident()
    return {
        "dataset": config.dataset_name(),
        "classes": list(trainer.dataset.classes),
        "synthetic": trainer.dataset.synthetic,
        "backend": config.backend,
        "neuron": config.neuron if spiking else None,
        "circuit": config.circuit if spiking and config.attention else None,
        "rule": config.rule if spiking else None,
        "attention": config.attention,
        "preset": config.preset,
        "seed": config.seed,
        "limit": config.limit,
        "n_train": len(trainer.dataset.train),
        "n_validation": len(trainer.dataset.validation),
        "n_test": len(trainer.dataset.test),
        "test_accuracy": test.accuracy,
        "validation_accuracy": metrics[-1]["validation_accuracy"],
        "train_seconds": trainer.seconds,
        "test_seconds": test.seconds,
        "peak_memory_bytes": peak,
        "measured_joules": {"training": trainer.joules, "testing": test.joules} if test.joules is not None else None,
        "free_steps": float(test.steps.mean()),
        "test_converged": test.converged,
        "spikes": trainer.ledger.spikes() if spiking else None,
        "spikes_per_inference": test.ledger.total("spikes") / len(test.labels) if spiking else None,
        "graded_events_per_inference": test.ledger.total("graded_events") / len(test.labels) if spiking else None,
        "spikes_per_synapse_per_inference": test.ledger.spikes_per_synapse() if spiking else None,
        "spikes_per_synapse_per_training_sample": trainer.ledger.spikes_per_synapse(phases) if spiking else None,
        "complete": True,
    }


def _write_predictions(folder: RunFolder, columns: dict[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(columns).replace_schema_metadata({"format": "1"})
    folder.write("predictions.parquet", lambda path: pq.write_table(table, path))


def _warn_of_layers(line: dict[str, Any], warned: set[str], reporter: Reporter) -> None:
    """Say, once for each, which layers are silent or saturated."""
    for kind in ("silent", "saturated"):
        for layer, share in line[kind].items():
            if share > STUCK and f"{layer} {kind}" not in warned:
                warned.add(f"{layer} {kind}")
                reporter.warn(
                    f"layer {layer}: {share:.1%} of its rates are {kind} at step {line['step']}; "
                    "it can hardly learn. Try another --learning-rate, --seed or --hidden."
                )


def _warn_of_phases(line: dict[str, Any], config: RunConfig, warned: set[str], reporter: Reporter) -> None:
    """Say, once for each, which phases end before most texts converge.

    The neurons of a rate code go on in the nudges from where its free phase ended, so that what that has left is gone
    when gradients are read, unless the nudges do not converge either. A free phase that no text ends in is told of.
    """
    shares = line["converged"]
    early = [phase for phase, share in shares.items() if share < 0.5]
    if early == ["free"] and shares["free"] > 0 and not unmet(config, "window"):
        return
    for phase in early:
        if phase not in warned:
            warned.add(phase)
            reporter.warn(
                f"{phase} phase: only {shares[phase]:.1%} of the texts converged (mean residual "
                f"{line['residual'][phase]:.2g}) by step {line['step']}. "
                f"Raise --{'free' if phase == 'free' else 'nudge'}-steps."
            )


def _warn_of_silence(trainer: Trainer, warned: set[str], reporter: Reporter) -> None:
    """Say, once for each, which spiking layers below the output have sent nothing, and whether nudges have not."""
    shape, changes = trainer.network.shape, trainer.config.neuron == "sigma-delta"
    layers = [f"s{index}" for index in range(2 if shape.clamped else 1, len(shape.sizes))]
    sent = {
        (layer, phase): kinds["spikes"] + kinds["graded_events"]
        for layer in layers
        for phase, kinds in trainer.ledger.counts.get(layer, {}).items()
    }
    if trainer.config.backend == "dense":
        return
    for layer in layers:
        if not sent.get((layer, "free"), 0) and layer not in warned:
            warned.add(layer)
            flag = "--projection-threshold" if layer == "s1" else "--threshold"
            change = f"Lower {flag}." if changes else "Raise --bias, or lower --learning-rate."
            reporter.warn(f"layer {layer}: silent, no spike in any free phase by step {trainer.step}. {change}")
    if changes and not any(sent.get((layer, "nudge+"), 0) for layer in layers) and "nudges" not in warned:
        warned.add("nudges")
        reporter.warn(
            f"nudges: silent, no spike below the output by step {trainer.step}, so that only its weights learn. "
            "Lower --nudge-threshold, or raise --beta."
        )


def loss_of_alike(classes: int) -> float:
    """½(1 − 1/C): the loss ½‖y − ŷ‖² of a network whose output is 1/C for every class."""
    return 0.5 * (1 - 1 / classes)


def _warn_of_loss(line: dict[str, Any], classes: int, reporter: Reporter) -> None:
    """Say that an epoch's loss is above that of a network that answers all classes alike."""
    alike = loss_of_alike(classes)
    if line["loss"] > WORSE * alike:
        reporter.warn(
            f"training diverges: loss {line['loss']:.3g} at step {line['step']}, where answering all classes alike has "
            f"{alike:.3g}. Lower --learning-rate."
        )


class _Interruptible:
    """Ctrl-C and a polite kill are noted; the batch in work is finished before the checkpoint is written."""

    def __init__(self) -> None:
        self.caught = False

    def __enter__(self) -> Any:
        try:
            self.before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not in the main thread: signals are not ours
            self.before = {}
        return lambda: self.caught

    def _note(self, *_: object) -> None:
        self.caught = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            if signal.getsignal(number) == self._note:
                signal.signal(number, handler)
