"""``eqspike sweep``: many runs of one command with some settings varied; an Optuna study keeps who does what.

All points are drawn when the study is made, so that every one is checked before the first is run, the number that
remains is known, and any number of processes or machines that share the folder can take the next.
"""

import itertools
import re
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import optuna
import tyro
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from analysis import sweep_report
from analysis.units import duration
from eqspike.build import run
from eqspike.flags import everything, parse_run, raw_flags
from eqspike.provenance import command
from eqspike_seq.config.settings import FORMAT, WHERE, RunConfig
from eqspike_seq.data.dataset import LastDataset
from eqspike_seq.errors import ConfigError, DivergenceError, RunError
from eqspike_seq.files import write_json
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.folder import completed
from eqspike_seq.runs.schema import Sweep, Trial

Point = dict[str, str]  # setting: value, as it is typed on the command line
RANGE = re.compile(r"[\d.eE+-]+?\.\.[\d.eE+-]+(:log)?")
TRIALS = 20  # of a random search
FIXED = {"dataset", "seed", *WHERE}  # not to be varied


@dataclass
class SweepFlags:
    """Repeat a run with some settings varied, and rank the results by validation accuracy.

    All flags of `eqspike run` apply to every run. The same command continues an interrupted sweep. Given in
    several shells, or on several machines that see the same folder, it shares the work.
    """

    vary: list[str]
    """One entry for each setting: NAME=VALUE,VALUE,… or, for a random search, NAME=LOW..HIGH (LOW..HIGH:log is
    uniform in the logarithm). Join several numbers of one value by x, as in hidden=256x40. Flags are true or false."""
    search: Literal["grid", "random"] = "grid"
    """grid: every combination. random: --trials of them, drawn from a fixed seed."""
    trials: int | None = None
    """random: number of combinations. Default: 20."""
    seeds: tuple[int, ...] = ()
    """Run every combination with each of these seeds, and rank by the mean. Default: --seed."""
    out: Path = Path("sweep")
    """Folder for study.journal, a folder for each run, sweep.json and the comparison."""


def main(arguments: list[str]) -> None:
    """Run the study, then show it."""
    if arguments.count("--vary") > 1:  # the last would count alone
        raise ConfigError(
            "--vary: got twice, expected once, with all settings after it: --vary beta=0.1,0.2 batch=16,32"
        )
    flags, others = tyro.cli(SweepFlags, args=arguments, prog="eqspike sweep", return_unknown_args=True)
    sweep_report.main(sweep(flags, others, Reporter()), command)


def sweep(flags: SweepFlags, arguments: list[str], reporter: Reporter, load: LastDataset | None = None) -> Path:
    """Run all that remains of the study; returns ``sweep.json``, which lists its trials.

    ``arguments`` are those of ``eqspike run``. Raises ConfigError for what cannot be varied so, EqspikeError where a
    run fails for another reason than divergence; the study then goes on with the same command.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    axes = dict(map(axis, flags.vary))
    if len(axes) < len(flags.vary):
        raise ConfigError(f"--vary: got a setting twice in {' '.join(flags.vary)}, expected each once")
    if flags.search == "grid" and flags.trials is not None:
        raise ConfigError("--trials: acts with --search random only; got --search grid, which tries every combination")
    for name in sorted({"resume", *axes, *(["seed"] if flags.seeds else [])} & set(raw_flags(arguments))):
        raise ConfigError(f"--{name.replace('_', '-')}: set by the sweep itself for each run. Leave it out.")
    points = grid(axes) if flags.search == "grid" else drawn(axes, TRIALS if flags.trials is None else flags.trials)
    base = parse_run(arguments, checked=False)  # a flag may act with what is varied only
    seeds = flags.seeds or (base.run.seed,)
    configs = [parse_run([*arguments, *flags_of(point)]) for point in points]
    spec = {"settings": base.computed(), "seeds": list(seeds), "points": points}
    study = opened(flags.out, spec, axes)
    took, load = list[float](), load or LastDataset()
    while (taken := _take(study, flags.out, axes, len(points))) is not None:
        number, lock = taken
        started = time.perf_counter()
        try:
            left = _left(study, took)
            reporter.status(f"trial {number + 1} of {len(points)}: {_text(points[number])}{left}")
            placed = [(flags.out / f"{_name(number)}-seed{seed}", seed) for seed in seeds]
            results = [ended(folder, seed, configs[number], reporter, load) for folder, seed in placed]
            study.tell(number, statistics.mean(float(result["validation_accuracy"]) for result in results))
            took.append(time.perf_counter() - started)
        except DivergenceError as error:
            reporter.warn(f"trial {number + 1}: {error}")
            study.set_user_attr(f"failed {number}", str(error))
            study.tell(number, state=TrialState.FAIL)
        finally:
            lock.release()
    return _summary(study, flags.out, spec)


def axis(text: str) -> tuple[str, BaseDistribution]:
    """NAME=VALUES as (setting, what its values are drawn from). Raises ConfigError."""
    flag, _, values = text.partition("=")
    name = flag.replace("-", "_")
    if name not in everything() or name in FIXED:
        hint = " Take --seeds." if name == "seed" else " See `eqspike run --help`."
        raise ConfigError(f"--vary: got {text!r}, expected NAME=VALUES with a setting of a run.{hint}")
    if not RANGE.fullmatch(values):
        choices = values.split(",")
        if not all(choices) or len(set(choices)) < len(choices):
            raise ConfigError(f"--vary {flag}: got {values!r}, expected different values, separated by commas")
        return name, CategoricalDistribution(choices)
    low, _, high = values.partition("..")
    high, _, scale = high.partition(":")
    try:
        if low.isdecimal() and high.isdecimal():
            return name, IntDistribution(int(low), int(high), log=bool(scale))
        return name, FloatDistribution(float(low), float(high), log=bool(scale))
    except ValueError as error:
        raise ConfigError(
            f"--vary {flag}: got {values!r}, expected LOW..HIGH or LOW..HIGH:log, LOW below HIGH, above 0 for log"
        ) from error


def grid(axes: dict[str, BaseDistribution]) -> list[Point]:
    """Every combination. Raises ConfigError for a range."""
    for name, values in axes.items():
        if not isinstance(values, CategoricalDistribution):
            raise ConfigError(f"--vary {name}: a grid needs single values. List them, or use --search random.")
    lists = [values.choices for values in axes.values() if isinstance(values, CategoricalDistribution)]
    return [dict(zip(axes, map(str, values), strict=True)) for values in itertools.product(*lists)]


def drawn(axes: dict[str, BaseDistribution], trials: int) -> list[Point]:
    """``trials`` random points, always the same ones, less those that come twice."""
    if trials < 1:
        raise ConfigError(f"--trials: got {trials}, expected at least 1")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    points = [study.ask(axes).params for _ in range(trials)]
    found = [{name: str(value) for name, value in point.items()} for point in points]
    return [point for place, point in enumerate(found) if point not in found[:place]]


def flags_of(point: Point) -> list[str]:
    """A point as flags of ``eqspike run``."""
    flags = []
    for name, value in point.items():
        flag, setting = name.replace("_", "-"), everything()[name]
        if setting.bare is bool:
            if value not in ("true", "false"):
                raise ConfigError(f"--vary {flag}: got {value!r}, expected true or false")
            flags.append(f"--{flag}" if value == "true" else f"--no-{flag}")
        else:
            flags += [f"--{flag}", *(value.split("x") if setting.several else [value])]
    return flags


def opened(out: Path, spec: dict[str, Any], axes: dict[str, BaseDistribution]) -> optuna.Study:
    """The study in ``out``, new or as it stands, all points enlisted. Raises ConfigError if it is another one's."""
    with _locked(out):
        try:
            storage = JournalStorage(JournalFileBackend(str(out / "study.journal")))
            study = optuna.create_study(storage=storage, study_name="sweep", direction="maximize", load_if_exists=True)
            before = study.user_attrs.get("spec", spec)
            known = len(study.get_trials(deepcopy=False))
            same = all(before[key] == spec[key] for key in ("settings", "seeds"))
            if not same or before["points"][:known] != spec["points"][:known] or known > len(spec["points"]):
                raise ConfigError(
                    f"--out: {out} holds a sweep with other settings. Give the same command to continue it, "
                    "or another --out."
                )
            study.set_user_attr("spec", spec)
            for point in spec["points"][known:]:
                study.enqueue_trial({name: _typed(point[name], values) for name, values in axes.items()})
        except ConfigError:
            raise
        except Exception as error:  # optuna lets many kinds through
            raise RunError(f"--out: {out}/study.journal cannot be read ({error!r}). Choose another folder.") from error
    return study


def _typed(value: str, values: BaseDistribution) -> Any:
    """As the distribution holds it."""
    kinds = {IntDistribution: int, FloatDistribution: float}
    return kinds.get(type(values), str)(value)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / ".lock")
        lock.acquire()
    except OSError as error:
        raise RunError(f"--out: cannot write to {out}: {error.strerror}. Choose another folder.") from error
    try:
        yield
    finally:
        lock.release()


def _take(
    study: optuna.Study, out: Path, axes: dict[str, BaseDistribution], points: int
) -> tuple[int, FileLock] | None:
    """One of the first ``points`` trials that nobody works on, and its lock: one whose process has died, or the next.

    Another process may have enlisted more than these, which it will run itself.
    """
    with _locked(out):
        for state in (TrialState.RUNNING, TrialState.WAITING):
            for trial in study.get_trials(deepcopy=False, states=(state,)):
                if trial.number >= points:
                    continue
                lock = FileLock(out / f".{_name(trial.number)}.lock")
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    continue
                if study.trials[trial.number].state != state:  # it has ended in the meantime
                    lock.release()
                    continue
                if state == TrialState.WAITING and study.ask(axes).number != trial.number:
                    raise RunError(f"{out}: its study.journal was changed by another program. Choose another --out.")
                return trial.number, lock
    return None


def ended(folder: Path, seed: int, config: RunConfig, reporter: Reporter, load: LastDataset) -> dict[str, Any]:
    """The result of one run in ``folder``, made or continued now where it has not ended."""
    result = completed(folder)
    if result is None:
        placed = replace(config.run, seed=seed, out=folder, resume="auto", baseline=False)
        result = run(replace(config, run=placed), reporter, load=load)
    return result


def _name(number: int) -> str:
    return f"trial{number + 1}"


def _left(study: optuna.Study, took: list[float]) -> str:
    waiting = len(study.get_trials(deepcopy=False, states=(TrialState.WAITING,))) + 1
    return f"; about {duration(statistics.mean(took) * waiting)} remain" if took else ""


def _text(point: Point) -> str:
    return ", ".join(f"{name.replace('_', '-')} {value}" for name, value in point.items())


def _summary(study: optuna.Study, out: Path, spec: dict[str, Any]) -> Path:
    """``sweep.json``: each trial's settings, mean validation accuracy, run folders and, where it failed, why."""
    trials = [
        Trial(
            number=trial.number + 1,
            settings=spec["points"][trial.number],
            state=trial.state.name.lower(),
            validation_accuracy=trial.values[0] if trial.values else None,
            runs=[f"{_name(trial.number)}-seed{seed}" for seed in spec["seeds"]],
            failed=study.user_attrs.get(f"failed {trial.number}"),
        )
        for trial in study.get_trials(deepcopy=False)[: len(spec["points"])]
    ]
    path = out / "sweep.json"
    content = Sweep(settings=spec["settings"], seeds=spec["seeds"], trials=trials).content()
    write_json(path, {"format": FORMAT, **content})
    return path
