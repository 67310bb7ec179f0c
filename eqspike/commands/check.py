"""``eqspike check gradients`` and ``eqspike check convergence``: measure a run or a preset, write ``checks/``."""

import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import tyro
from rich.table import Table

from analysis.check_pictures import pictures
from eqspike.build import config_of, configure, configured, make_backend, refuse_idle, varied
from eqspike_seq.checks.gradients import Extent, Rival, check_gradients
from eqspike_seq.config.examples import Images
from eqspike_seq.config.networks import TextNetwork
from eqspike_seq.config.presets import run_settings
from eqspike_seq.config.section import flat, settings_of
from eqspike_seq.config.settings import FORMAT, RunConfig
from eqspike_seq.data.dataset import load_dataset
from eqspike_seq.errors import ConfigError
from eqspike_seq.files import write_json
from eqspike_seq.progress import Reporter
from eqspike_seq.relaxation.dense import DenseBackend
from eqspike_seq.relaxation.equilibrium import Backend
from eqspike_seq.runs.environment import environment
from eqspike_seq.runs.findings import ConvergenceCheck, GradientCheck, NudgeSizes
from neuromorphic.rate_code import RateCode


@dataclass
class Subject:
    """The network to check."""

    run: tyro.conf.Positional[Path | None] = None
    """Run folder: its network before, half-way through and after training. Default: the start of a preset."""
    dataset: str | None = None
    """Data set, if there is no run folder. Default: imdb."""
    preset: str | None = None
    """Preset, if there is no run folder. Default: that of the data set."""
    seed: int | None = None
    """Seed of the weights, if there is no run folder. Default: 0."""
    texts: int = 128
    """Number of training texts."""
    data_dir: Path | None = None
    """Folder with the data. Default: EQSPIKE_DATA, then the cache, then a download."""
    out: Path | None = None
    """Folder for the results. Default: checks/ in the run folder, else in the current folder."""

    def config(self, **changes: Any) -> RunConfig:
        """The run's settings, or the preset's with --backend spiking, with ``changes`` that are not None."""
        given = {name: value for name, value in changes.items() if value is not None}
        if self.texts < 1:
            raise ConfigError(f"--texts: got {self.texts}, expected at least 1")
        if self.data_dir is not None:
            given["data_dir"] = self.data_dir
        if self.run is None:
            settings = {"seed": self.seed or 0, **given}
            dataset, preset = self.dataset or "imdb", self.preset or ""
            return configure(dataset, settings.pop("backend", "spiking"), preset, **settings)
        if idle := [name for name in ("dataset", "preset", "seed") if getattr(self, name) is not None]:
            raise ConfigError(f"--{idle[0]}: has no effect with {self.run}, which sets it. Leave it out.")
        saved = run_settings(self.run)
        if rates_only(saved):
            given.pop("backend", None)
            config = config_of(self.run, **given)
        elif saved.get("backend") == "dense" != given.get("backend", "dense"):
            config = in_spikes(saved, given)
        else:
            config = config_of(self.run, **given)
        refuse_idle(flat(config), given)
        return config

    def folder(self) -> Path:
        """Where the figures go."""
        return self.out or (Path("checks") if self.run is None else self.run / "checks")


def rates_only(saved: dict[str, Any]) -> bool:
    """Whether these are settings of a network that no spikes relax."""
    return saved.get("readout") == "softmax" or bool(saved.get("uniform_attention"))


def in_spikes(saved: dict[str, Any], given: dict[str, Any]) -> RunConfig:
    """The settings ``saved`` by a dense run with another backend: how its neurons relax is the preset's, network, data
    and learning are the run's. Its gradients are those of three phases, whatever it learnt by. Raises ConfigError."""
    dense = {"backend", *settings_of(DenseBackend)}
    settings = {**{name: value for name, value in saved.items() if name not in dense}, **given}
    settings |= {"estimator": "three-phase"}
    return configured(settings.pop("dataset"), settings.pop("backend"), settings.pop("preset", ""), settings)


@dataclass
class GradientFlags(Subject):
    """Compare the gradients of EP with BPTT over time, and those of a spiking rule with converged dense EP (Eq. 18).

    A dense run is checked with the neurons of its preset. With pooling queries, EP and BPTT are also compared over β.
    """

    neuron: str | None = None
    """Use this neuron. Default: the run's."""
    circuit: str | None = None
    """Use this circuit. Default: the run's."""
    winners: int | None = None
    """Use this number of winners (wta with sigma-delta). Default: the run's."""
    query_threshold: float | None = None
    """Use this threshold of the query (sigma-delta). Default: the run's."""
    projection_nudge_threshold: float | None = None
    """Use this threshold of s1 in the nudges (sigma-delta). Default: the run's."""
    rule: str | None = None
    """Use this rule. Default: the run's."""
    betas: tuple[float, ...] = ()
    """Values of β. Default: the run's."""
    windows: tuple[int, ...] = ()
    """Windows; T and K grow in proportion. Default: half the run's, the run's, and twice the run's."""
    tick_steps: int | None = None
    """Use this M. Default: the run's."""
    feedback_tau: float | None = None
    """Use this time constant before HopAttn's query. Default: the run's."""
    trace_tau: float | None = None
    """Use this time constant of the trace. Default: the run's."""
    common_noise: bool | None = None
    """Whether both nudges use the same random numbers (bernoulli). Default: as in the run."""


@dataclass
class ConvergenceFlags(Subject):
    """Show φ and the residual over the three phases, with and without HopAttn, and the effect of a second HopAttn."""


def main(arguments: list[str]) -> None:
    """Measure, print, and draw."""
    found, folder = check(arguments)
    for picture in pictures(found):
        print(f"wrote {picture.write(folder)}", file=sys.stderr)


def check(arguments: list[str]) -> tuple[GradientCheck | ConvergenceCheck, Path]:
    """Run one of the two checks, write its JSON, print a summary; (what it found, the folder)."""
    flags: GradientFlags | ConvergenceFlags = tyro.extras.subcommand_cli_from_dict(
        {"gradients": GradientFlags, "convergence": ConvergenceFlags}, args=arguments, prog="eqspike check"
    )
    found = gradients(flags) if isinstance(flags, GradientFlags) else convergence(flags)
    return found, flags.folder()


def gradients(flags: GradientFlags) -> GradientCheck:
    """``eqspike check gradients``."""
    reporter = Reporter()
    own = {each.name for each in fields(Subject)} | {"betas", "windows"}
    asked = {each.name: getattr(flags, each.name) for each in fields(flags) if each.name not in own}
    config = flags.config(backend="spiking", **asked)
    for beta in flags.betas:
        if not 0 < beta <= 10:
            raise ConfigError(f"--betas: got {beta:g}, expected above 0 and at most 10")
    dataset = load_dataset(config.data, reporter.status)
    extent = Extent(flags.texts, flags.betas or (config.learning.beta,), rivals(config, windows_of(flags, config)))
    found = check_gradients(config, dataset, flags.run, extent, reporter)
    write_json(flags.folder() / "gradients.json", {"format": FORMAT, "environment": environment(), **found.content()})
    for stage, about in found.stages.items():
        if about.note is not None:
            reporter.warn(f"{stage}: {about.note}")
    names = [n for n in dict.fromkeys(record.parameter for record in found.records) if not n.startswith("b")]
    for title in ("cosine", "relative RMSE"):
        table = Table(box=None, pad_edge=False, title=title)
        for heading in ("stage", "reference", "β", "window"):
            table.add_column(heading)
        for name in names:
            table.add_column(name, justify="right")
        rows: dict[tuple[str, str, str, str], dict[str, str]] = {}
        for record in found.records:
            key = (record.stage, record.reference, f"{record.beta:g}", str(record.window or "–"))
            value = record.cosine if title == "cosine" else record.relative_rmse
            text = "zero" if value is None else f"{value:.4f}" if title == "cosine" else f"{value:.1e}"
            rows.setdefault(key, {})[record.parameter] = text
        for key, row in rows.items():
            table.add_row(*key, *(row[name] for name in names))
        reporter.out.print(table)
    for stage, sizes in found.over_beta.items():
        reporter.out.print(over_beta(stage, sizes))
    for line in verdict(found, names):
        reporter.out.print(line)
    reporter.out.print(f"biases, settings and curves: {flags.folder() / 'gradients.json'}")
    return found


def verdict(found: GradientCheck, names: list[str]) -> list[str]:
    """What the references are, and the lowest cosine to each at the last stage."""
    stage = found.records[-1].stage
    said = (
        "Cosine 1: the same direction. bptt: EP against backpropagation through time. eq18: what the synapses of the "
        "spiking network gather against Eq. 18 of the dense one. window: steps over which a rate is read."
    )
    lowest: dict[str, tuple[float, str]] = {}
    for record in found.records:
        if record.stage == stage and record.parameter in names and record.cosine is not None:
            window = f", window {record.window}" if record.window else ""
            key = f"{record.reference}, β {record.beta:g}{window}"
            lowest[key] = min(lowest.get(key, (2.0, "")), (record.cosine, record.parameter))
    listed = "; ".join(f"{key}: {cosine:.4f} ({name})" for key, (cosine, name) in lowest.items())
    return [said, f"Lowest cosine, {stage}: {listed}."]


def over_beta(stage: str, sizes: NudgeSizes) -> Table:
    """Relative error of each parameter's gradient by EP to that by BPTT, both converged, for each β."""
    title = f"{stage}: relative RMSE of EP to BPTT, both converged, {sizes.texts} texts"
    table = Table(box=None, pad_edge=False, title=title)
    table.add_column("β")
    for beta in sizes.betas:
        table.add_column(f"{beta:g}", justify="right")
    for name, errors in sizes.relative_rmse.items():
        table.add_row(name, *("zero" if error is None else f"{error:.1e}" for error in errors))
    table.add_row("texts with a unit that crosses 0 or 1", *(f"{share:.1%}" for share in sizes.crossing))
    return table


def windows_of(flags: GradientFlags, config: RunConfig) -> tuple[int, ...]:
    """Those asked for, else half the run's in whole ticks, the run's and twice it. Raises ConfigError."""
    if not isinstance(config.backend, RateCode):
        if flags.windows:
            where = "--neuron sigma-delta" if config.backend.name == "spiking" else "a network that no spikes relax"
            raise ConfigError(f"--windows: has no effect with {where}. Leave it out.")
        return ()
    tick, window = config.backend.tick_steps, config.backend.window
    if wrong := [asked for asked in flags.windows if asked < tick or asked % tick]:
        raise ConfigError(f"--windows: got {wrong[0]}, expected multiples of --tick-steps {tick}")
    return flags.windows or tuple(sorted({max(tick, window // 2 // tick * tick), window, 2 * window}))


def rivals(config: RunConfig, windows: tuple[int, ...]) -> tuple[Rival, ...]:
    """The spiking backend of ``config``, with T, K and the window lengthened alike to each of ``windows``; of one that
    sends changes also what gives the gradient of its own network."""

    def rival(config: RunConfig, window: int | None = None, own: Backend | None = None) -> Rival:
        settings = config.settings()
        about = {name: settings.get(name) for name in ("free_steps", "nudge_steps", "neuron", "circuit", "rule")}
        return Rival(make_backend(config), about, window, own)

    if isinstance(config.backend, DenseBackend):
        return ()
    if isinstance(config.backend, RateCode):
        return tuple(rival(scaled_to_window(config, config.backend, window), window) for window in windows)
    fine = varied(
        config,
        nudge_threshold=1e-5,
        projection_nudge_threshold=1e-5,
        rule="membrane",
        circuit="clocked",
        query_threshold=0.0,
    )
    return (rival(config, own=make_backend(fine)),)


def scaled_to_window(config: RunConfig, code: RateCode, window: int) -> RunConfig:
    """The settings with T, K and the window lengthened alike, in whole ticks."""
    phases = {"free_steps": code.free_steps, "nudge_steps": code.nudge_steps}
    longer = {name: round(window * steps / code.window / code.tick_steps) for name, steps in phases.items()}
    return varied(config, window=window, **{name: ticks * code.tick_steps for name, ticks in longer.items()})


def convergence(flags: ConvergenceFlags) -> ConvergenceCheck:
    """``eqspike check convergence``."""
    from eqspike_seq.checks.convergence import check_convergence

    reporter = Reporter()
    config = flags.config()
    if isinstance(config.data, Images):
        raise ConfigError(
            f"check convergence: {config.data.dataset} is images, without HopAttn; expected texts, or a run on texts"
        )
    if isinstance(config.network, TextNetwork) and not config.network.attention:
        reporter.warn("this run was trained without HopAttn; the results with HopAttn use its weights all the same")
    dataset = load_dataset(config.data, reporter.status)
    found = check_convergence(config, make_backend, dataset, flags.run, flags.texts, reporter)
    write_json(flags.folder() / "convergence.json", {"format": FORMAT, "environment": environment(), **found.content()})
    table = Table(box=None, pad_edge=False)
    for heading in ("stage", "HopAttn", "phase", "φ at the end", "residual at the end"):
        table.add_column(heading)
    for stage, about in found.stages.items():
        for courses, text in ((about.hopattn, "yes"), (about.no_hopattn, "no")):
            for phase, course in (courses or {}).items():
                table.add_row(stage, text, phase, f"{course.phi[-1]:.4g}", f"{course.residual[-1]:.2g}")
    reporter.out.print(table)
    reporter.out.print("φ: the potential that a phase climbs. residual: the largest change of a unit in its last step.")
    for stage, about in found.stages.items():
        if (loop := about.loop) is not None:
            reporter.out.print(
                f"{stage}: loop gain {loop.gain_mean:.2f} in the mean of {loop.texts} texts, {loop.gain:.2f} at most; "
                f"{loop.apart:.1%} of them end elsewhere from s2 = 1 than from s2 = 0"
            )
        if (twice := about.hopattn_twice) is not None:
            reporter.out.print(
                f"{stage}: HopAttn moves a query by {twice.first_less_query_mean:.1%} of its norm, "
                f"a second HopAttn the result by {twice.second_less_first_mean:.1%} "
                f"(at most {twice.second_less_first_max:.1%})"
            )
    return found
