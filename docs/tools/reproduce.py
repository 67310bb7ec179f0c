"""The tables of docs/reproduce.md: every file of results/ with the command that makes it, and where it was made."""

from collections.abc import Iterable

from analysis.folders import Json, open_run
from docs.tools.markdown import RESULTS, read, table
from eqspike.provenance import command_of

MACHINE = ("commit", "processor", "threads")
FIGURES = {
    "imdb-baselines.json": "python -m benchmarks.baselines imdb",
    "mini-baselines.json": "python -m benchmarks.baselines mini",
    "snli-baselines.json": "python -m benchmarks.baselines snli",
    "imdb-gradients.json": "python -m benchmarks.gradients imdb",
    "counting.json": "python -m benchmarks.counting imdb",
    "combinations.json": "python -m benchmarks.combinations --limit 600",
    "less-attention.json": "python -m benchmarks.less_attention runs/imdb-sigma-delta-every-change-seed0",
    "quantised.json": "python -m benchmarks.quantised runs/imdb-sigma-delta-seed0",
    "pareto.json": "python -m benchmarks.pareto",
    "winners.json": "python -m benchmarks.winners imdb",
    "stdp.json": "python -m benchmarks.stdp",
    "speed-cpu.json": "python -m benchmarks.dense --preset cpu",
    "speed-paper.json": "python -m benchmarks.dense --preset paper --limit 3000 --train-batches 20 --repeats 2 "
    "--gradient-texts 4",
    "spiking.json": "python -m benchmarks.spiking --preset cpu --run runs/imdb-dense-seed0 "
    "runs/imdb-sigma-delta-seed0 runs/imdb-spiking-seed0 --epoch",
    "costs.json": "python -m benchmarks.costs",
    "growth.json": "python -m benchmarks.growth",
    "latency.json": "python -m benchmarks.latency runs/imdb-sigma-delta-seed0",
    "scaling.json": "python -m benchmarks.scaling",
    "acceleration.json": "python -m benchmarks.acceleration runs/imdb-dense-seed0",
    "startup.json": "python -m benchmarks.startup",
    "faults.json": "python -m tests.stress.faults --kills 50 --soak",
    "corpora.json": "python -m tests.stress.corpora",
}
RATES, CHANGES, WTA = (f"runs/imdb-{name}-seed0" for name in ("spiking-trace", "sigma-delta", "sigma-delta-wta"))
READ = "--windows 280 --tick-steps 10 --feedback-tau 60"  # how the rate codes are read
BERNOULLI = f"gradients {RATES} --neuron bernoulli --rule count {READ}"
CHECKS = {
    "convergence/convergence.json": f"convergence {RATES}",
    "if-count/gradients.json": f"gradients {RATES} --rule count {READ}",
    "if-trace/gradients.json": f"gradients {RATES} --rule trace {READ}",
    "if-eqspike/gradients.json": f"gradients {RATES} --rule eqspike {READ}",
    "if-membrane/gradients.json": f"gradients {RATES} --rule membrane --betas 0.1 0.5 1 "
    "--windows 70 140 280 --tick-steps 10 --feedback-tau 60",
    "lif-membrane/gradients.json": f"gradients {RATES} --neuron lif --rule membrane {READ}",
    "bernoulli-common/gradients.json": BERNOULLI,
    "bernoulli-own/gradients.json": f"{BERNOULLI} --common-noise False",
    "sigma-delta-membrane/gradients.json": f"gradients {CHANGES}",
    "sigma-delta-count/gradients.json": f"gradients {CHANGES} --rule count",
    "sigma-delta-wta/gradients.json": f"gradients {WTA}",
}


def runs() -> str:
    """Every run of results/, in the order of the alphabet."""
    rows = []
    for folder in sorted(path.parent for path in RESULTS.glob("*/result.json")):
        run = open_run(folder)
        cells = (
            f"[{run.name}](../results/{run.name}/result.json)",
            f"`{command_of(run.saved)}`",
            str(run.result.seed),
            *machine(read(f"{run.name}/environment.json")),
            f"{run.result.train_seconds / 60:.1f} min",
        )
        rows.append(cells)
    return table(("run", "command", "seed", *MACHINE, "training"), rows, text=(0, 1, 3, 4))


def figures() -> str:
    """Files that no single run makes."""
    commands = ((name, f"{command} --json results/{name}") for name, command in FIGURES.items())
    return _files(commands)


def checks() -> str:
    """What ``eqspike check`` found."""
    return _files((f"checks/{name}", f"eqspike check {command}") for name, command in CHECKS.items())


def _files(commands: Iterable[tuple[str, str]]) -> str:
    rows = []
    for name, command in commands:
        where = machine(read(name).get("environment", {}))
        rows.append((f"[{name.removesuffix('.json')}](../results/{name})", f"`{command}`", *where))
    return table(("file", "command", *MACHINE), rows, text=(0, 1, 2, 3))


def machine(environment: Json) -> tuple[str, ...]:
    """Where something was made, as far as its file says."""
    known = {**environment, "commit": (environment.get("commit") or "–")[:10]}
    return tuple(str(known.get(name, "–")) for name in MACHINE)
