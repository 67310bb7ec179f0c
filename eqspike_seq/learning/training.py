"""A run: data → training → test → run folder."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch

from eqspike_seq.config.examples import Texts
from eqspike_seq.config.settings import FORMAT, RunConfig
from eqspike_seq.data.batches import random_batch
from eqspike_seq.data.dataset import Dataset, load_dataset, load_splits, shape_of
from eqspike_seq.data.sight import CountedPatterns
from eqspike_seq.data.sizes import fewest
from eqspike_seq.files import save_arrays
from eqspike_seq.learning.baseline import tfidf_logistic, tfidf_logistic_of
from eqspike_seq.learning.chance import chance
from eqspike_seq.learning.closeup import samples
from eqspike_seq.learning.estimators import MakeBackend
from eqspike_seq.learning.evaluation import Evaluation, dense_reference, evaluate, prediction_columns
from eqspike_seq.learning.metrics import Window
from eqspike_seq.learning.parallel import ALONE, Job
from eqspike_seq.learning.precision import settled
from eqspike_seq.learning.trainer import Trainer, torch_device
from eqspike_seq.learning.watch import warn_of_layers, warn_of_loop, warn_of_loss, warn_of_phases, warn_of_silence
from eqspike_seq.memory import keep_freed_memory, release_freed_memory, resident
from eqspike_seq.meter import Meter
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.board import board, check_board
from eqspike_seq.runs.environment import environment
from eqspike_seq.runs.folder import RunFolder
from eqspike_seq.runs.schema import Baseline, LedgerFile, MeasuredJoules, Metrics, Result


@torch.no_grad()
def run(
    config: RunConfig,
    make_backend: MakeBackend,
    reporter: Reporter,
    job: Job = ALONE,
    check: Callable[[Dataset], None] = lambda _: None,
    load: Callable[..., Dataset] = load_dataset,
) -> dict[str, Any]:
    """Train, test once, and fill the run folder; returns what ``result.json`` holds, with ``path``.

    ``make_backend`` builds what relaxes the network. Of several processes each calls this, with the same ``config``;
    the first one alone reads, writes and tests. ``check`` may refuse the data, which ``load`` reads, before anything is
    written.

    Raises EqspikeError for whatever the user can mend; KeyboardInterrupt leaves a checkpoint behind.
    """
    torch_device(config.run.device)
    job.take_device(config.run.device)
    job.first(check_board, config.run.tensorboard)
    keep_freed_memory()
    folder = job.first(RunFolder.open, config)
    try:
        config = job.first(folder.continued, config)
        dataset = job.first(load, config.data, reporter.status)
        job.first(folder.check_data, config, dataset.source, dataset.embeddings.digest)
        job.first(check, dataset)
        reporter.dataset(dataset)
        config = job.first(with_precision, config, dataset)
        release_freed_memory()
        trainer = Trainer(config, dataset, make_backend(config), job)
        metrics: list[Metrics] = []
        if config.run.resume is not None and (saved := job.first(folder.load_checkpoint)) is not None:
            trainer.restore(saved)
            if trainer.best is not None and trainer.step == trainer.best.epoch * trainer.batches:
                job.first(folder.keep_best)  # it may have been killed before it did
            metrics = job.first(folder.read_metrics, trainer.step)
            reporter.status(f"resumed at batch {trainer.step} of {trainer.total}")
        job.first(describe, trainer, folder)
        train(trainer, folder, metrics, reporter)
        result = job.first(conclude, trainer, folder, metrics, reporter)
    finally:
        folder.close()
    return {**result.content(), "path": folder.path}


def with_precision(config: RunConfig, dataset: Dataset) -> RunConfig:
    """``settled``, by a batch of the training texts."""
    return settled(config, shape_of(config, dataset), random_batch(config, dataset, config.learning.batch))


def describe(trainer: Trainer, folder: RunFolder) -> None:
    """``config.toml``, ``environment.json``, and of texts ``vocabulary.json`` and ``vectors.safetensors``."""
    config, dataset = trainer.config, trainer.dataset
    if not (folder.path / "config.toml").exists():  # a resumed run keeps its own
        folder.write_bytes("config.toml", config.to_toml())
    folder.write_json(
        "environment.json",
        {
            **environment(),
            "processes": trainer.job.size,
            "device": config.run.device,
            "product_dtype": str(trainer.backend.dtype),
            "seed": config.run.seed,
            "embedding_sha256": dataset.embeddings.digest,
            "embeddings": dataset.embeddings.source,
            "data": dataset.source,
            "data_sha256": dataset.digest,
            "counts": dataset.counts,
            **({} if config.learning.device_model is None else {"device_model": asdict(config.learning.device)}),
        },
    )
    if not dataset.images and trainer.step == 0:  # a resumed run has learnt its vectors in part
        folder.save_vocabulary(dataset.words(), dataset.classes, trainer.gather.table)


def conclude(trainer: Trainer, folder: RunFolder, metrics: list[Metrics], reporter: Reporter) -> Result:
    """All that follows on training."""
    if trainer.best is not None and (best := folder.take_best()) is not None:
        trainer.restore(best)
    test, columns = finish(trainer, folder, reporter)
    result = summary(trainer, metrics, test)
    _write_predictions(folder, columns)
    simple, dataset = baseline(trainer.config, trainer.dataset, reporter), trainer.dataset
    looks = 1 if trainer.best is None else sum(line.validation_accuracy is not None for line in metrics)
    found = chance(dataset, result.validation_accuracy, looks, test, simple)
    result = result.model_copy(update={"baseline": simple, "chance": found})
    folder.write_json("result.json", result.content())
    return result


def baseline(config: RunConfig, dataset: Dataset, reporter: Reporter) -> Baseline | None:
    """What ``tfidf_logistic`` reaches on the texts of a run, which are read again unless the run has counted the same
    patterns; None where it is not asked for."""
    if not config.run.baseline or not isinstance(config.data, Texts):
        return None
    reporter.status("baseline: logistic regression on TF-IDF of words and word pairs")
    sight = config.data.sight
    if isinstance(sight, CountedPatterns) and sight.ngrams > 1 and sight.min_texts == fewest(len(dataset.train)):
        return tfidf_logistic_of(dataset)
    return tfidf_logistic(load_splits(config.data), config.data.tokeniser)


def train(trainer: Trainer, folder: RunFolder, metrics: list[Metrics], reporter: Reporter) -> None:
    """All batches that remain; a line of metrics and a checkpoint every so often and after every epoch."""
    config, job, started = trainer.config, trainer.job, time.perf_counter() - trainer.seconds
    meter = Meter.begin(config.run.device)
    warned: set[str] = set()
    with (
        board(folder.path / "tensorboard", config.run.tensorboard and job.rank == 0, trainer.step) as log,
        _interruptible() as interrupted,
        reporter.training(trainer.total, trainer.step) as advance,
    ):

        def record(ended: bool) -> None:
            better = False
            means, epoch = trainer.window.means(), trainer.step / trainer.batches
            line = Metrics(step=trainer.step, epoch=epoch, seconds=trainer.seconds, **means)
            warn_of_layers(line, warned, reporter)
            warn_of_phases(line, config, warned, reporter)
            warn_of_silence(config, trainer.network.shape, trainer.ledger, trainer.step, warned, reporter)
            if ended:
                part = trainer.dataset.validation
                found = evaluate(trainer.backend, trainer.network, trainer.gather, part, config.learning.batch)
                line = line.model_copy(update={"validation_accuracy": found.accuracy})
                better = trainer.is_better(found)
                line = line.model_copy(update={"loop": trainer.loop()})
                warn_of_loop(line, warned, reporter)
                warn_of_loss(line, trainer.network.shape, reporter)
                reporter.epoch(-(-trainer.step // trainer.batches), line)
            trainer.seconds = time.perf_counter() - started
            trainer.joules += meter.read() or 0.0
            metrics.append(line.model_copy(update={"seconds": trainer.seconds}))
            log(metrics[-1].content())
            trainer.window = Window()
            folder.write_metrics(metrics)
            save()
            if better:
                folder.keep_best()

        def save() -> None:
            checkpoint = trainer.checkpoint()
            folder.save_checkpoint(checkpoint)
            trainer.written(checkpoint)

        while not trainer.ended:
            trainer.train_batch()
            trainer.seconds = time.perf_counter() - started
            if trainer.step == trainer.total // 2:
                job.first(trainer.check_weights)
                job.first(lambda: folder.save_halfway(trainer.parameters, trainer.moved()))
            ended = trainer.step % trainer.batches == 0 or trainer.step == trainer.total
            due = ended or trainer.step % config.run.checkpoint_every == 0
            if due:
                trainer.collect()
                job.first(record, ended)
                trainer.best = job.first(lambda: trainer.best)
                release_freed_memory()
            if job.agree(interrupted()):
                if not due:
                    trainer.collect()
                    job.first(save)
                raise KeyboardInterrupt
            advance(trainer.step, trainer.window)


def finish(trainer: Trainer, folder: RunFolder, reporter: Reporter) -> tuple[Evaluation, dict[str, Any]]:
    """Read the test split, once, and write what belongs to it."""
    dataset, config, subject = trainer.dataset, trainer.config, (trainer.network, trainer.gather)
    with reporter.counting("reading the test split", len(dataset.test)) as advance:
        test = evaluate(trainer.backend, *subject, dataset.test, config.learning.batch, advance)
    folder.write_json("curves.json", test.curves().content())
    dense = {} if config.backend.name == "dense" else {"dense": dense_reference(config, *subject, dataset.train)}
    counted = LedgerFile(
        inference=test.ledger,
        training=trainer.ledger,
        test_texts=len(dataset.test),
        training_samples=trainer.ledger.samples.get("free", 0),
        **dense,
    )
    folder.write_json("ledger.json", counted.content())
    arrays = samples(config, trainer.backend, *subject, dataset, test)
    folder.write("samples.npz", lambda path: save_arrays(path, arrays))
    return test, prediction_columns(test, dataset.test_texts, dataset.classes)


def summary(trainer: Trainer, metrics: list[Metrics], test: Evaluation) -> Result:
    """The figures of the run."""
    config, spiking = trainer.config, trainer.config.backend.name != "dense"
    settings = config.settings()
    phases = tuple(trainer.ledger.samples)
    validation = [line.validation_accuracy for line in metrics if line.validation_accuracy is not None]
    taken = validation[-1] if trainer.best is None else trainer.best.accuracy
    peak = torch.cuda.max_memory_allocated() if config.run.device == "cuda" else resident()
    return Result(
        dataset=config.data.dataset_name,
        classes=list(trainer.dataset.classes),
        synthetic=trainer.dataset.synthetic,
        backend=config.backend.name,
        neuron=settings.get("neuron"),
        circuit=settings.get("circuit"),
        rule=settings.get("rule"),
        attention=trainer.network.shape.attention,
        preset=config.run.preset,
        seed=config.run.seed,
        limit=config.data.limit,
        n_train=len(trainer.dataset.train),
        n_validation=len(trainer.dataset.validation),
        n_test=len(trainer.dataset.test),
        test_accuracy=test.accuracy,
        validation_accuracy=taken,
        train_seconds=trainer.seconds,
        test_seconds=test.seconds,
        peak_memory_bytes=peak,
        measured_joules=None if test.joules is None else MeasuredJoules(training=trainer.joules, testing=test.joules),
        free_steps=float(test.steps.mean()),
        test_converged=test.converged,
        spikes=trainer.ledger.spikes() if spiking else None,
        spikes_per_inference=test.ledger.total("spikes") / len(test.labels) if spiking else None,
        graded_events_per_inference=test.ledger.total("graded_events") / len(test.labels) if spiking else None,
        spikes_per_synapse_per_inference=test.ledger.spikes_per_synapse() if spiking else None,
        spikes_per_synapse_per_training_sample=trainer.ledger.spikes_per_synapse(phases) if spiking else None,
        complete=True,
    )


def _write_predictions(folder: RunFolder, columns: dict[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(columns).replace_schema_metadata({"format": str(FORMAT)})
    folder.write("predictions.parquet", lambda path: pq.write_table(table, path))


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or a polite kill has come; the batch in work is finished before the checkpoint is written."""
    caught = []

    def note(*_: object) -> None:
        caught.append(True)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: signals are not ours
        before = {}
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) == note:
                signal.signal(number, handler)
