"""``eqspike rerun``: a finished run once more, from what its folder says, into another folder."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from analysis.repetition import report
from eqspike.build import config_of, run
from eqspike_seq.config.presets import run_settings
from eqspike_seq.config.settings import RunConfig
from eqspike_seq.data.dataset import Dataset
from eqspike_seq.data.registry import DATASETS
from eqspike_seq.errors import DataError, RunError
from eqspike_seq.files import read_json
from eqspike_seq.learning.parallel import Job, join
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.environment import environment
from eqspike_seq.runs.folder import completed

NEEDED = ("config.toml", "environment.json", "result.json", "metrics.jsonl")
SURROUNDINGS = ("python", "commit", "system", "processor", "threads", "cuda", "processes")  # may change the last bits
REMEDIES = {"threads": "set OMP_NUM_THREADS={}", "processes": "torchrun --nproc-per-node {} starts as many"}


@dataclass
class RerunFlags:
    """Repeat a finished run from its folder and check whether the result is identical, bit for bit.

    Exits with 0 if everything is identical, with 1 if something differs, with 2 if the run cannot be repeated. The
    same command continues what was interrupted.
    """

    run: tyro.conf.Positional[Path]
    """The folder of a finished run."""
    out: Path | None = None
    """Folder of the repetition. Default: the name of RUN with -rerun."""
    data_dir: Path | None = None
    """Folder with the data; your own file or folder is looked up there by its name. Default: where the run had it."""


@dataclass(frozen=True)
class Repetition:
    """A finished run, the ``config`` that repeats it, its environment.json, and what has ``changed`` since."""

    path: Path
    config: RunConfig
    environment: dict[str, Any]
    changed: list[str]

    def check_data(self, dataset: Dataset) -> None:
        """Raises DataError where texts, labels or word vectors are others than the run had."""
        remedy = "Put the old ones back, or give their folder with --data-dir."
        self._check("texts and labels", self.environment.get("data_sha256"), dataset.digest, remedy)
        remedy = (
            "Word vectors that are trained on another machine may differ; its cache (EQSPIKE_CACHE) has the old ones."
        )
        if threads := self.vector_threads:
            remedy = f"{threads} threads trained them, which do not repeat themselves; --workers 1 does."
        self._check("word vectors", self.environment["embedding_sha256"], dataset.embeddings.digest, remedy)

    def _check(self, what: str, before: str | None, now: str, remedy: str) -> None:
        if before not in (None, now):
            raise DataError(f"{self.path}: its {what} have changed (SHA-256 was {before}, is {now}). {remedy}")

    @property
    def vector_threads(self) -> int:
        """Threads that trained the word vectors, which then do not repeat; 0 where it was one, or nothing trained."""
        workers = int(self.config.settings().get("workers", 1))
        return workers if workers > 1 else 0


def main(arguments: list[str]) -> None:
    """In as many processes as the run had; exits with 1 where something differs."""
    job = join()
    before = job.first(prepare, arguments, job.size)
    with job.stoppable():
        after = rerun(before, Reporter(quiet=job.rank > 0), job)
    code = job.first(report, before.path, after, before.changed)
    job.leave(code)
    sys.exit(code)


def prepare(arguments: list[str], processes: int) -> Repetition:
    """What the command line asks for. Raises RunError, ConfigError or DataError where it cannot be repeated."""
    flags = tyro.cli(RerunFlags, args=arguments, prog="eqspike rerun")
    path = flags.run.resolve()
    for name in NEEDED:
        if not (path / name).is_file():
            raise RunError(f"{flags.run} cannot be repeated: it has no {name}. Give the folder of a finished run.")
    if completed(path) is None:
        raise RunError(f"{flags.run}: the run has not ended. Continue it with `eqspike run --resume {flags.run}`.")
    out = flags.out or path.with_name(f"{path.name}-rerun")
    if completed(out) is not None:
        raise RunError(f"--out: {out} holds a finished run. Remove it, or choose another folder.")
    try:
        before = read_json(path / "environment.json")
        before["embedding_sha256"], before["versions"].items()
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise RunError(
            f"{path / 'environment.json'} is not that of a run ({error!r}). The run cannot be repeated."
        ) from error
    return Repetition(path, repeated(path, out, flags.data_dir), before, changes(before, processes))


def repeated(path: Path, out: Path, data_dir: Path | None) -> RunConfig:
    """The settings of the run in ``path``, to be repeated in ``out``. Raises ConfigError, DataError."""
    settings = run_settings(path)
    other: dict[str, Any] = {"out": out, "resume": "auto", "tensorboard": False}
    dataset = settings.get("dataset")
    if settings.get("trust_pickle"):
        raise DataError(
            f"{path}: its word vectors are a pickle, which can run any code; none is opened on the word of a folder. "
            f"If you trust the file: `eqspike run {dataset} --config {path}/config.toml --out {out}`."
        )
    if data_dir is not None:
        other["data_dir"] = data_dir
    if isinstance(dataset, str) and dataset not in DATASETS:
        place = Path(dataset)
        place = place if data_dir is None else data_dir.absolute() / place.name
        if not place.exists():
            raise DataError(f"{path}: its data, {place}, was not found. Give its folder with --data-dir.")
        other["dataset"] = str(place)
    return config_of(path, **other)


def changes(before: dict[str, Any], processes: int) -> list[str]:
    """What may change the last bits and is not as it was: versions, machine, threads; a line each."""
    now = {**environment(), "processes": processes}
    pairs = [(name, before["versions"].get(name), version) for name, version in now["versions"].items()]
    pairs += [(name, before.get(name), now[name]) for name in SURROUNDINGS]
    found = []
    for name, was, new in pairs:
        if was not in (None, new):
            remedy = f" ({REMEDIES[name].format(was)})" if name in REMEDIES else ""
            found.append(f"{name} was {was or 'none'}, is {new or 'none'}{remedy}")
        elif name == "commit" and str(new).endswith("-dirty"):
            found.append(f"commit is {new}: files differed from it, and may have differed otherwise")
    return found


def rerun(before: Repetition, reporter: Reporter, job: Job) -> Path:
    """Train and test again; returns the folder. Raises EqspikeError where that cannot be."""
    for line in before.changed:
        reporter.warn(f"not as in {before.path.name}: {line}; the last bits may differ")
    if threads := before.vector_threads:
        reporter.warn(
            f"{threads} threads trained the word vectors, so the run can only be repeated while they are in the cache"
        )
    if "data_sha256" not in before.environment:
        reporter.warn(f"{before.path.name} has no SHA-256 of its texts, so only its word vectors can be checked")
    result = run(before.config, reporter, job, before.check_data)
    return Path(result["path"])
