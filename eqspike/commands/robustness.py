"""``eqspike robustness``: what static mismatch costs a network, and how much of it EP in place removes.

A few ways for a network to come to a chip, at several strengths σ of the mismatch and on several chips each:

    deployed   trained ideally, then its weights are programmed into the chip
    tuned      the same, then trained on the chip by EP for a tenth of the epochs
    biases     as tuned, but the biases alone learn
    trained    trained on the chip by EP from the start
    injected   trained ideally with gains of the same σ drawn anew for each batch, then programmed

What is trained are runs of sweeps, so that the same command goes on where it was interrupted, and several shells share
the work.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tomli_w
import torch
import tyro
from pydantic import Field, TypeAdapter, ValidationError

from analysis import robustness_report
from eqspike.build import make_backend, varied
from eqspike.commands.sweep import SweepFlags, ended, sweep
from eqspike.flags import parse_run, raw_flags, without
from eqspike_seq.config.section import explain
from eqspike_seq.config.settings import FORMAT, RunConfig
from eqspike_seq.data.dataset import Dataset, load_dataset
from eqspike_seq.errors import ConfigError
from eqspike_seq.files import read_json, write_bytes, write_json
from eqspike_seq.learning.evaluation import evaluate
from eqspike_seq.learning.trainer import Trainer
from eqspike_seq.model.network import FeedbackRule
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.environment import environment
from eqspike_seq.runs.findings import OnChip, Robustness
from eqspike_seq.runs.folder import completed
from eqspike_seq.runs.schema import Sweep

SET = {"seed", "resume", "start", "device_model", "device_seed", "feedback_rule", "learns"}  # for each run
PART = 10  # of the epochs of a training: one of so many for a network that is deployed


@dataclass
class RobustnessFlags:
    """Measure accuracy over the strength of static mismatch: deployed as trained, and after EP has trained in place.

    All flags of `eqspike run` apply to every run. The same command continues an interrupted series.
    """

    sigmas: Annotated[tuple[Annotated[float, Field(gt=0, le=10)], ...], Field(min_length=1)] = (0.25, 0.5, 0.75, 1, 1.5)
    """Strengths σ of the mismatch. The gain of a synapse is exp(σ ξ − σ²/2) with ξ normal, drawn for each direction."""
    devices: Annotated[int, Field(ge=1, le=1000)] = 3
    """Number of chips at each strength, with seeds 0, 1, …"""
    rules: Annotated[tuple[FeedbackRule, ...], Field(min_length=1)] = ("plain", "exact")
    """How the forward and feedback copies of a weight learn on a chip: see --feedback-rule of eqspike run."""
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
    if len(set(flags.sigmas)) < len(flags.sigmas):
        raise ConfigError(f"--sigmas: got {' '.join(map(str, flags.sigmas))}, expected each once")
    for name in sorted(SET & set(raw_flags(arguments))):
        raise ConfigError(f"--{name.replace('_', '-')}: it is set for each of the runs. Leave it out.")
    base = parse_run(arguments)
    varied(base, device_model="cmos-mismatch")  # before anything is written
    study = _Study(flags, base, arguments, load_dataset(base.data), reporter)
    ideal = {str(seed): study.ideal(seed) for seed in flags.seeds}
    points = [point for seed in flags.seeds for point in study.points(seed)]
    there = [point for point in points if point is not None]
    if not there:
        raise ConfigError(f"--out: no run in {flags.out} has ended, or all have diverged. Lower --sigmas.")
    whole = Robustness(
        settings=base.computed(),
        epochs=base.learning.epochs,
        tuning_epochs=study.tuning,
        ideal=ideal,
        points=there,
        missing=len(points) - len(there),
    )
    path = flags.out / "robustness.json"
    write_json(path, {"format": FORMAT, "environment": environment(), **whole.content()})
    return path


class _Study:
    """The runs in ``flags.out``, and what they reach on chips."""

    def __init__(
        self, flags: RobustnessFlags, base: RunConfig, arguments: list[str], data: Dataset, reporter: Reporter
    ) -> None:
        self.flags, self.base, self.arguments, self.data, self.reporter = flags, base, arguments, data, reporter
        self.tuning = max(1, round(base.learning.epochs / PART))
        self.models = {
            kind: {written(flags.out, kind, sigma): sigma for sigma in flags.sigmas}
            for kind in ("mismatch", "injected")
        }

    def ideal(self, seed: int) -> float:
        """Test accuracy without a chip."""
        return float(ended(self._place(seed, "ideal"), seed, self.base, self.reporter)["test_accuracy"])

    def points(self, seed: int) -> Iterator[OnChip | None]:
        """Of every way, strength and chip; None for a run that has diverged, or that another process makes."""
        start, chips = self._place(seed, "ideal"), ",".join(map(str, range(self.flags.devices)))
        on_chip = [f"device-model={','.join(self.models['mismatch'])}", f"device-seed={chips}"]
        by_rule = [*on_chip, f"feedback-rule={','.join(self.flags.rules)}"]
        brief = [*without(self.arguments, {"epochs"}), "--epochs", str(self.tuning), "--start", str(start)]
        yield from self._deployed("deployed", dict.fromkeys(self.models["mismatch"].values(), start), seed)
        yield from self._swept("tuned", seed, by_rule, brief)
        yield from self._swept("biases", seed, on_chip, [*brief, "--learns", "biases"])
        yield from self._swept("trained", seed, by_rule, self.arguments)
        noisy = self._runs("injected", seed, [f"device-model={','.join(self.models['injected'])}"], self.arguments)
        ready = {self.models["injected"][settings["device_model"]]: run for settings, run in noisy if run is not None}
        yield from self._deployed("injected", ready, seed)
        yield from [None] * (len(noisy) - len(ready)) * self.flags.devices

    def _place(self, seed: int, name: str) -> Path:
        return (self.flags.out / f"{name}-seed{seed}").absolute()

    def _runs(
        self, name: str, seed: int, vary: list[str], arguments: list[str]
    ) -> list[tuple[dict[str, str], Path | None]]:
        """(what was varied, the run folder or None where it has not come to its end) of each run of a sweep."""
        path = sweep(SweepFlags(vary, seeds=(seed,), out=self._place(seed, name)), arguments, self.reporter)
        trials = Sweep.read(read_json(path)).trials
        return [(each.settings, path.parent / each.runs[0] if each.state == "complete" else None) for each in trials]

    def _swept(self, way: str, seed: int, vary: list[str], arguments: list[str]) -> Iterator[OnChip | None]:
        """What runs on chips have reached on test."""
        for settings, run in self._runs(way, seed, vary, arguments):
            result = None if run is None else completed(run)
            sigma, device = self.models["mismatch"][settings["device_model"]], int(settings["device_seed"])
            rule = settings.get("feedback_rule")
            yield None if result is None else point(way, rule, (sigma, device, seed), result["test_accuracy"])

    def _deployed(self, way: str, runs: dict[float, Path], seed: int) -> Iterator[OnChip]:
        """What the network of each run, by σ, reaches on every chip of that σ."""
        models = {sigma: path for path, sigma in self.models["mismatch"].items()}
        for sigma, run in runs.items():
            for device in range(self.flags.devices):
                config = varied(self.base, start=run, device_model=models[sigma], device_seed=device)
                yield point(way, None, (sigma, device, seed), deployed(config, self.data))


def point(way: str, rule: str | None, place: tuple[float, int, int], accuracy: float) -> OnChip:
    """A point of the file; ``place`` is (σ, chip, seed of the network)."""
    sigma, device, seed = place
    return OnChip(way=way, rule=rule, sigma=sigma, device=device, seed=seed, accuracy=accuracy)  # type: ignore[arg-type]


@torch.no_grad()
def deployed(config: RunConfig, data: Dataset) -> float:
    """Test accuracy of the network that ``config`` starts from, programmed into its chip, with no training there."""
    trainer = Trainer(config, data, make_backend(config))
    batch = config.learning.batch
    return evaluate(trainer.backend, trainer.network, trainer.gather, data.test, batch).accuracy


def written(out: Path, kind: str, sigma: float) -> str:
    """The path of a device model with nothing but mismatch, or injected gains, of strength σ; it is written there."""
    path = (out / "models" / f"{kind}-{sigma:g}.toml").absolute()
    if "," in str(path):
        raise ConfigError(f"--out: got {out}, expected a path without commas, which lists of models have between them")
    figures = {"sigma": float(sigma), "label": "modelled", "source": "an axis of eqspike robustness, not a chip's"}
    name = f"{kind}-{sigma:g}"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, tomli_w.dumps({"name": name, "title": f"σ = {sigma:g}", kind: figures}).encode())
    return str(path)
