"""``eqspike robustness``: what an imperfection costs a network, and how much of it EP in place removes.

A few ways for a network to come to a chip, at several strengths of the imperfection and on several chips each:

    deployed   trained ideally, then its weights are programmed into the chip
    tuned      the same, then trained on the chip by EP on a tenth of the samples: in batches a quarter as large, with
               weights that learn three times faster, and half as many more words left out
    biases     as tuned, but the biases alone learn
    trained    trained on the chip by EP from the start
    injected   where synapses differ by gains: trained ideally with gains drawn anew for each batch, then programmed;
               of several strengths of these, every σ, half of it and two thirds, the one that is best on validation on
               the chips at hand

What is trained are runs of sweeps, so that the same command goes on where it was interrupted, and several shells share
the work.
"""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
import torch
import tyro
from pydantic import Field, TypeAdapter, ValidationError

from analysis import robustness_report
from eqspike.build import make_backend, varied
from eqspike.commands.sweep import SweepFlags, ended, sweep
from eqspike.flags import parse_run, raw_flags, without
from eqspike_seq.config.section import as_flag, explain
from eqspike_seq.config.settings import FORMAT, RunConfig
from eqspike_seq.data.dataset import LastDataset
from eqspike_seq.devices.strengths import AXES, INJECTED, MISMATCH, Axis
from eqspike_seq.errors import ConfigError
from eqspike_seq.files import read_json, write_bytes, write_json
from eqspike_seq.learning.evaluation import evaluate
from eqspike_seq.learning.trainer import Trainer
from eqspike_seq.ledger import Ledger
from eqspike_seq.model.network import FeedbackRule
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.environment import environment
from eqspike_seq.runs.findings import OnChip, Robustness, Way
from eqspike_seq.runs.folder import completed
from eqspike_seq.runs.schema import LedgerFile, Sweep

SET = {"seed", "resume", "start", "device_model", "device_seed", "feedback_rule", "learns"}  # for each run
DEFAULT_RULES: tuple[FeedbackRule, ...] = ("plain", "exact")
PART = 10  # a network that is deployed sees one of so many samples of a training again
SMALLER, FASTER, FEWER = 4, 3, 1.5  # a tuning against a training: its batches, learning rates and words left out
RATIOS = {"naive_bayes", "naive_bayes_copies", "smoothing"}  # of which each text's own part is left out in tuning too


@dataclass
class RobustnessFlags:
    """Measure accuracy over the strength of an imperfection: deployed as trained, and after EP has trained in place.

    All flags of `eqspike run` apply to every run. The same command continues an interrupted series.
    """

    imperfection: Literal[*AXES] = MISMATCH  # type: ignore[valid-type]
    """What to vary. Its strength: a standard deviation (drift: of exponents), η, a share, or an error in ranges."""
    strengths: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """Its strengths. Default: three to five that suit it."""
    devices: Annotated[int, Field(ge=1, le=1000)] = 3
    """Number of chips at each strength, with seeds 0, 1, …"""
    rules: tuple[FeedbackRule, ...] = ()
    """How both copies of a weight learn on a chip, see --feedback-rule. Default: plain, and exact on dense backends."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    """Seeds of the networks."""
    out: Path = Path("robustness")
    """Folder for all runs, robustness.json and the picture."""


def main(arguments: list[str]) -> None:
    """Make all runs, then show what they found."""
    flags, others = tyro.cli(RobustnessFlags, args=arguments, prog="eqspike robustness", return_unknown_args=True)
    robustness_report.main(robustness(flags, others, Reporter()))


def robustness(flags: RobustnessFlags, arguments: list[str], reporter: Reporter) -> Path:
    """Make all runs that remain; returns ``robustness.json``. ``arguments`` are those of ``eqspike run``.

    Raises ConfigError for what cannot be put on a chip, EqspikeError where a run fails for another reason than
    divergence.
    """
    try:
        TypeAdapter(RobustnessFlags).validate_python(vars(flags))
    except ValidationError as error:
        raise ConfigError(explain(error)) from error
    axis = AXES[flags.imperfection]
    strengths = flags.strengths or axis.strengths
    if len(set(strengths)) < len(strengths) or max(strengths) > axis.most:
        got = " ".join(f"{strength:g}" for strength in strengths)
        raise ConfigError(f"--strengths: got {got}, expected each once, and at most {axis.most:g}")
    for name in sorted(SET & set(raw_flags(arguments))):
        raise ConfigError(f"--{name.replace('_', '-')}: set by robustness itself for each run. Leave it out.")
    base = parse_run(arguments)
    known = [rule for rule in DEFAULT_RULES if rule in base.backend.feedback_rules]
    rules = flags.rules or tuple(known or DEFAULT_RULES)
    if axis.kind.synaptic:
        for rule in rules:
            varied(base, device_model="cmos-mismatch", feedback_rule=rule)  # before anything is written
    elif base.backend.name != "spiking":
        raise ConfigError(f"--imperfection lost-spikes: needs --backend spiking; got --backend {base.backend.name}")
    study = _Study(replace(flags, strengths=strengths, rules=rules), base, arguments, reporter)
    ideal = {str(seed): study.ideal(seed) for seed in flags.seeds}
    points = [point for seed in flags.seeds for point in study.points(seed)]
    there = [point for point in points if point is not None]
    if not there:
        raise ConfigError(f"--out: no run in {flags.out} has finished, or all have diverged. Lower --strengths.")
    whole = Robustness(
        settings=base.computed(),
        imperfection=flags.imperfection,
        epochs=base.learning.epochs,
        tuning_epochs=study.tuning,
        tuning=study.took,
        ideal={seed: result["test_accuracy"] for seed, result in ideal.items()},
        ideal_validation={seed: result["validation_accuracy"] for seed, result in ideal.items()},
        points=there,
        missing=len(points) - len(there),
    )
    path = flags.out / "robustness.json"
    write_json(path, {"format": FORMAT, "environment": environment(), **whole.content()})
    return path


class _Study:
    """The runs in ``flags.out``, and what they reach on chips."""

    def __init__(self, flags: RobustnessFlags, base: RunConfig, arguments: list[str], reporter: Reporter) -> None:
        self.flags, self.base, self.arguments, self.reporter = flags, base, arguments, reporter
        self.load, self.axis = LastDataset(), AXES[flags.imperfection]
        self.tuning = base.learning.epochs / PART
        self.measured: dict[tuple[Path, float, int, str], float] = {}
        self.took: Ledger | None = None  # one tuning on a chip
        gains = [self.axis.gains * strength for strength in flags.strengths] if self.axis.gains else []
        noises = dict.fromkeys(noise for sigma in gains for noise in (sigma / 2, 2 * sigma / 3, sigma))
        self.models = {written(flags.out, self.axis, strength): strength for strength in flags.strengths}
        self.noises = {written(flags.out, INJECTED, noise): noise for noise in noises}

    def ideal(self, seed: int) -> dict[str, Any]:
        """The result without a chip."""
        return ended(self._place(seed, "ideal"), seed, self.base, self.reporter, self.load)

    def points(self, seed: int) -> Iterator[OnChip | None]:
        """Of every way, strength and chip; None for a run that has diverged, or that another process makes."""
        start, chips = self._place(seed, "ideal"), ",".join(map(str, range(self.flags.devices)))
        on_chip = [f"device-model={','.join(self.models)}", f"device-seed={chips}"]
        by_rule = [*on_chip, *([f"feedback-rule={','.join(self.flags.rules)}"] if self.axis.kind.synaptic else [])]
        learning = self.base.learning
        settings = {
            "epochs": f"{self.tuning:g}",
            "batch": max(1, learning.batch // SMALLER),
            "learning_rate": [f"{FASTER * rate:g}" for rate in learning.learning_rate],
            "word_dropout": f"{min(FEWER * learning.word_dropout, 0.9):g}",
            "start": start,
            **{name: value for name, value in self.base.settings().items() if name in RATIOS},
        }
        brief = without(self.arguments, settings)
        brief += [word for name, value in settings.items() for word in as_flag(name, value)]
        for strength in self.models.values():
            yield from self._deployed("deployed", start, strength, seed)
        yield from self._swept("tuned", seed, by_rule, brief)
        yield from self._swept("biases", seed, on_chip, [*brief, "--learns", "biases"])
        yield from self._swept("trained", seed, by_rule, self.arguments)
        if not self.noises:
            return
        noisy = self._runs("injected", seed, [f"device-model={','.join(self.noises)}"], self.arguments)
        ready = {self.noises[settings["device_model"]]: run for settings, run in noisy if run is not None}
        for strength in self.models.values() if ready else ():
            noise = max(ready, key=lambda each: self._on_validation(ready[each], strength))
            yield from self._deployed("injected", ready[noise], strength, seed, noise)
        yield from [None] * (len(noisy) - len(ready)) * self.flags.devices

    def _place(self, seed: int, name: str) -> Path:
        return (self.flags.out / f"{name}-seed{seed}").absolute()

    def _runs(
        self, name: str, seed: int, vary: list[str], arguments: list[str]
    ) -> list[tuple[dict[str, str], Path | None]]:
        """(what was varied, the run folder or None where it has not come to its end) of each run of a sweep."""
        path = sweep(SweepFlags(vary, seeds=(seed,), out=self._place(seed, name)), arguments, self.reporter, self.load)
        trials = Sweep.read(read_json(path)).trials
        return [(each.settings, path.parent / each.runs[0] if each.state == "complete" else None) for each in trials]

    def _swept(self, way: str, seed: int, vary: list[str], arguments: list[str]) -> Iterator[OnChip | None]:
        """What runs on chips have reached on test."""
        for settings, run in self._runs(way, seed, vary, arguments):
            result = None if run is None else completed(run)
            strength, device = self.models[settings["device_model"]], int(settings["device_seed"])
            if run is None or result is None:
                yield None
                continue
            if way == "tuned" and self.took is None:
                self.took = LedgerFile.read(read_json(run / "ledger.json")).training
            where: dict[str, Any] = {"way": way, "strength": strength, "device": device, "seed": seed}
            where |= {"rule": settings.get("feedback_rule")}
            yield OnChip(**where, accuracy=result["test_accuracy"], validation=result["validation_accuracy"])

    def _deployed(
        self, way: Way, run: Path, strength: float, seed: int, noise: float | None = None
    ) -> Iterator[OnChip]:
        """What the network of a run reaches on every chip of this strength, with no training there."""
        for device in range(self.flags.devices):
            validation, test = (self._accuracy(run, strength, device, part) for part in ("validation", "test"))
            where: dict[str, Any] = {"strength": strength, "device": device, "seed": seed, "noise": noise}
            yield OnChip(way=way, rule=None, **where, accuracy=test, validation=validation)

    def _on_validation(self, run: Path, strength: float) -> float:
        """Mean over the chips of this strength."""
        chips = range(self.flags.devices)
        return statistics.mean(self._accuracy(run, strength, device, "validation") for device in chips)

    @torch.no_grad()
    def _accuracy(self, run: Path, strength: float, device: int, part: str) -> float:
        """Of the network of a run, programmed into a chip; each is measured once."""
        if (run, strength, device, part) not in self.measured:
            model = next(path for path, each in self.models.items() if each == strength)
            config = varied(self.base, start=run, device_model=model, device_seed=device)
            data = self.load(config.data, self.reporter.status)
            trainer, batch = Trainer(config, data, make_backend(config)), config.learning.batch
            found = evaluate(trainer.backend, trainer.network, trainer.gather, getattr(data, part), batch)
            self.measured[run, strength, device, part] = found.accuracy
        return self.measured[run, strength, device, part]


def written(out: Path, axis: Axis, strength: float) -> str:
    """The path of a device model with nothing but this imperfection; it is written there."""
    model = axis.model(strength)
    path = (out / "models" / f"{model['name']}.toml").absolute()
    if "," in str(path):
        raise ConfigError(f"--out: got {out}, expected a path without commas")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, tomli_w.dumps(model).encode())
    return str(path)
