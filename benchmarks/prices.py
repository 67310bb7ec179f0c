"""How right the cost tables are: energies that others measured or simulated, beside what our tables say of the same.

python -m benchmarks.prices runs/mini-spiking-seed0 --sanafe PYTHON --json results/prices.json

Measured: the keyword spotter of Blouw et al. (NICE 2019, arXiv 1812.01739), 390 features, two layers of 256, 29
characters, on Loihi and on conventional hardware; Loihi ran 10 steps an inference (of their run logs, in
github.com/abr/power_benchmarks: 20,000 steps, 2,000 inferences). No source says how often its units fire. Ours are at
``RATE``, the 100 Hz that the authors' training script names, in steps of a millisecond; low: silent; high: every unit
in every step. Measured too: TrueNorth (Merolla et al., Science 2014). Simulated: SANA-FE (Boyle et al. 2025) is
given the spikes of texts of finished runs (``benchmarks.replay``), with a Python of its own: it is GPL, and no part of
eqspike. On this machine's CPU the same network is measured by RAPL, where that can be read.
"""

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import tyro

from benchmarks.latency import numbers
from benchmarks.measure import JsonFile, command
from eqspike.build import config_of, make_backend, varied
from eqspike_seq.checks.gradients import stages
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.data.dataset import load_dataset
from eqspike_seq.errors import RunError
from eqspike_seq.files import write_json
from eqspike_seq.learning.training import with_precision
from eqspike_seq.ledger import Ledger, real_units
from eqspike_seq.phases import Phase
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.environment import environment
from neuromorphic.change_code import SigmaDeltaBackend
from neuromorphic.event_driven import EventDriven
from neuromorphic.pricing import PICO, CostTable, Joules, price, read_table, total

SPOTTER = (390, 256, 256, 29)
STEPS = 10  # of Loihi, an inference
RATE = 0.1  # spikes a unit and step, supposed
RANGE = (0.0, RATE, 1.0)
# Blouw et al., Table 1: watts idle, watts running, inferences a second
TABLE1 = {
    "Quadro K4000": (14.97, 37.83, 770.39),
    "Xeon E5-2630": (17.01, 28.48, 1813.63),
    "Jetson TX1": (2.64, 4.98, 419.0),
    "Movidius NCS": (0.210, 0.647, 300.0),
    "Loihi": (0.029, 0.110, 296.0),
}
# Their run logs: watts running, watts after the run, when the embedded processors stay awake, inferences a second
LOGS = {
    "spotter": (0.1104, 0.0962, 5000 / 16.83),  # loihi_run01
    "small": (0.1078, 0.0961, 2000 / 15.88),  # loihi_I08O08C00L00_run01: the spotter on more cores
    "large": (0.1254, 0.0963, 2000 / 17.55),  # loihi_I08O08C10L10_run01: 10 branches of 10 layers of 256 between
}
GPU_BATCH = (40.5, 36150.3)  # watts, over its first 100 s, and inferences a second of gpu_bsize_64
ADDED = 10 * 10 * 256  # units of "large" that "small" has not
ADDED_FAN_OUT = ADDED * 256 + (10 - 1) * 256 * 256  # theirs; the layer before them reaches ten branches, not one layer
KINDS = ("spikes", "synaptic_events", "neuron_updates", "idle_updates")
POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Row:
    """One comparison, in joules; ``reference`` is theirs."""

    name: str
    source: str
    table: str
    reference: float
    ours: Joules
    note: str = ""
    how: str = "measured"  # or simulated
    decided: bool = True  # not where all hangs on a rate of firing that nobody has published

    def found(self) -> dict[str, Any]:
        """As a row of the result file."""
        joules = {"value": self.ours.value, "low": self.ours.low, "high": self.ours.high}
        ratio = self.ours.value / self.reference
        about = {"name": self.name, "source": self.source, "how": self.how, "table": self.table}
        return {
            **about,
            "reference_joules": self.reference,
            "joules": joules,
            "ratio": ratio,
            "in_range": self.ours.low <= self.reference <= self.ours.high,
            "verdict": verdict(ratio) if self.decided else "open",
            "note": self.note,
        }


def verdict(ratio: float) -> str:
    """Of ours to theirs: "agrees" within a quarter, "within 2 ×", or "off"."""
    apart = max(ratio, 1 / ratio)
    return "agrees" if apart <= 1.25 else "within 2 ×" if apart <= 2 else "off"


def spiking_spotter(rate: float) -> Ledger:
    """One inference of the keyword spotter on a spiking chip: every unit fires ``rate`` times a step, all are updated.

    The features too are taken for units that fire, all on the chip.
    """
    ledger = Ledger(samples={Phase.FREE: 1}, steps={Phase.FREE: STEPS}, sizes=list(SPOTTER))
    for index, (size, above) in enumerate(zip(SPOTTER, (*SPOTTER[1:], 0), strict=True)):
        spikes = round(rate * STEPS * size)
        updates = STEPS * size if index else 0
        ledger.add(f"s{index}", Phase.FREE, spikes=spikes, synaptic_events=spikes * above, neuron_updates=updates)
    return ledger


def added_layers(rate: float) -> Ledger:
    """What the ten branches add to one inference; ``rate`` as above."""
    ledger = Ledger(samples={Phase.FREE: 1}, steps={Phase.FREE: STEPS})
    events = round(rate * STEPS * ADDED_FAN_OUT)
    ledger.add(
        "added", Phase.FREE, spikes=round(rate * STEPS * ADDED), synaptic_events=events, neuron_updates=STEPS * ADDED
    )
    return ledger


def dense_spotter() -> Ledger:
    """One inference of the keyword spotter as a dense network: a product for each weight, each weight fetched."""
    ledger = Ledger(samples={Phase.FREE: 1}, sizes=list(SPOTTER))
    for index, (below, size) in enumerate(zip(SPOTTER, SPOTTER[1:], strict=False), start=1):
        products = {"multiply_accumulates": below * size, "weight_reads": below * size}
        ledger.add(f"s{index}", Phase.FREE, **products, neuron_updates=size, state_reads=below, state_writes=size)
    return ledger


def over_rates(priced: list[Joules]) -> Joules:
    """From the cheapest constants at the lowest of ``RANGE`` to the dearest at its highest."""
    return Joules(priced[1].value, priced[0].low, priced[2].high)


def without_static(table: CostTable) -> CostTable:
    """Its events alone."""
    return table.model_copy(update={"static": None})


def at_step(table: CostTable, seconds: float) -> CostTable:
    """With the power that always flows, all of it, for steps of ``seconds``."""
    if table.static is None:
        raise ValueError(f"{table.name}: no static power")
    power, step = table.static.power, table.static.step_seconds
    fixed = {"value": seconds, "low": seconds, "high": seconds}
    static = table.static.model_copy(
        update={"power": power.model_copy(update={"low": power.value}), "step_seconds": step.model_copy(update=fixed)}
    )
    return table.model_copy(update={"static": static})


def measured() -> list[Row]:
    """All that was measured elsewhere."""
    loihi, source = read_table("loihi"), "Blouw et al. 2019"
    logs = f"{source}, run logs"
    running, _, speed = TABLE1["Loihi"][1], *LOGS["spotter"][1:]
    ledgers = [spiking_spotter(rate) for rate in RANGE]

    def spotter(table: CostTable) -> Joules:
        return over_rates([total(price(ledger, table)) for ledger in ledgers])

    def above_idle(name: str) -> float:
        watts, idle, speed = LOGS[name]
        return (watts - idle) / speed

    added = over_rates([total(price(added_layers(rate), without_static(loihi))) for rate in RANGE])
    gpu, dense = TABLE1["Quadro K4000"], dense_spotter()
    all_of_it = running / TABLE1["Loihi"][2]
    rows = [
        Row(
            "keyword spotter, all energy, at the measured step of 0.34 ms",
            source,
            "loihi",
            all_of_it,
            spotter(at_step(loihi, 1 / (STEPS * speed))),
            "0.110 W at 296 inferences a second",
        ),
        Row(
            "keyword spotter, all energy, at the table's step",
            source,
            "loihi",
            all_of_it,
            spotter(loihi),
            "the chip waited for its host",
        ),
        Row(
            "keyword spotter, above the chip awake",
            logs,
            "loihi",
            above_idle("spotter"),
            spotter(without_static(loihi)),
            "of the 0.27 mJ called dynamic, 0.22 are the embedded processors awake",
            decided=False,
        ),
        Row(
            "25,600 neurons more in it, above the chip awake",
            logs,
            "loihi",
            above_idle("large") - above_idle("small"),
            added,
            decided=False,
        ),
        Row(
            "26 pJ an event, all power, at 20 Hz and 128 synapses",
            "Merolla et al. 2014",
            "truenorth",
            26 * PICO,
            truenorth(),
            "the table's two constants put together again",
        ),
    ]
    for name in ("a100-30-percent", "h200-30-percent"):
        ours = total(price(dense, read_table(name)))
        watts, batched = GPU_BATCH
        card = "keyword spotter on a Quadro K4000, above idle"
        rows.append(Row(f"{card}, one at a time", source, name, (gpu[1] - gpu[0]) / gpu[2], ours))
        rows.append(Row(f"{card}, 64 at a time", logs, name, (watts - gpu[0]) / batched, ours))
    for name, chip in (("horowitz-45nm-fp16", "Movidius NCS"), ("horowitz-45nm-fp32", "Xeon E5-2630")):
        idle, watts, speed = TABLE1[chip]
        ours = total(price(dense, read_table(name)))
        rows.append(Row(f"keyword spotter on {chip}, above idle", source, name, (watts - idle) / speed, ours))
    return rows


def truenorth() -> Joules:
    """Joules of one synaptic event where 2^20 neurons fire at 20 Hz into 128 synapses each; ticks of 1 ms."""
    ledger = Ledger(samples={Phase.FREE: 1}, steps={Phase.FREE: 1000})
    events = 2**20 * 20 * 128
    ledger.add("all", Phase.FREE, synaptic_events=events)
    return total(price(ledger, at_step(read_table("truenorth"), 1e-3))) / events


def joules_of_cpu(folder: Path = POWERCAP) -> tuple[float | None, str]:
    """What its packages have used so far, by RAPL, and if that cannot be read, why."""
    counters = sorted(folder.glob("intel-rapl:[0-9]")) if folder.is_dir() else []
    if not counters:
        return None, "no RAPL: the kernel shows no intel-rapl counter"
    try:
        return 1e-6 * sum(int((counter / "energy_uj").read_text()) for counter in counters), ""
    except OSError as error:
        return None, f"RAPL cannot be read: {error.strerror}"


def on_this_cpu(seconds: float = 10.0, folder: Path = POWERCAP) -> dict[str, Any]:
    """Joules an inference of the dense spotter, one at a time, above those of a pause as long."""
    before, why = joules_of_cpu(folder)
    if before is None:
        return {"joules_an_inference": None, "why": why}
    layers = [torch.nn.Linear(below, size) for below, size in zip(SPOTTER, SPOTTER[1:], strict=False)]
    network, x = torch.nn.Sequential(*layers), torch.zeros(1, SPOTTER[0])
    time.sleep(seconds)
    paused, _ = joules_of_cpu(folder)
    began, inferences = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        network(x)
        inferences += 1
    after, _ = joules_of_cpu(folder)
    if paused is None or after is None or after < paused or paused < before:
        return {"joules_an_inference": None, "why": "a RAPL counter began anew"}
    return {"joules_an_inference": ((after - paused) - (paused - before)) / inferences, "why": ""}


def recorded(run: Path, texts: int) -> tuple[list[dict[str, Any]], Ledger]:
    """(spikes of test texts as ``benchmarks.replay`` takes them, their ledger: of units that send, what chips do).

    Where s¹ sends values it is computed beside the chip: its units receive, and what they send is left out.
    """
    config = config_of(run)
    data = load_dataset(config.data, Reporter().status)
    stage = stages(config, data, run)[-1]
    if stage.name != "end":
        raise RunError(f"{run}: expected a finished run and its checkpoint")
    network, gather = stage.network, stage.gather
    backend = make_backend(with_precision(varied(config, precision="float32"), data))
    ready = EventDriven(network, backend, gather.table) if isinstance(backend, SigmaDeltaBackend) else None
    found, ledger = [], Ledger()
    for row in np.linspace(0, len(data.test) - 1, texts).astype(np.int64):
        if ready is not None:
            relaxed = ready.free(*numbers(data.test, int(row), gather), record=True)
            trains: list[Any] = [abs(layer).reshape(relaxed.steps, -1).astype(int) for layer in relaxed.sent]
            counts = relaxed.ledger(network)
        else:
            batch = gather(data.test, np.array([row]))
            end = backend.free(network, batch, record=True)
            layers = range(2, len(network.shape.sizes) + 1)
            trains = [int(real_units(network.shape, batch.mask)[0])]
            trains += [end.trace[f"spikes_s{layer}"][:, 0].numpy().astype(int) for layer in layers]
            counts = end.ledger
        ledger += sent_by(counts, ["s1"] if ready is None else [])
        found.append(
            {
                "steps": len(trains[-1]),
                "always": ready is None,
                "layers": [
                    {"units": train, "events": None}
                    if isinstance(train, int)
                    else {"units": train.shape[1], "events": [spikes_of(step) for step in train]}
                    for train in trains
                ],
            }
        )
    return found, ledger


def spikes_of(step: Any) -> list[list[int]]:
    """[unit, spikes] of the units that fire in a step."""
    return [[int(unit), int(step[unit])] for unit in np.flatnonzero(step)]


def sent_by(ledger: Ledger, beside: list[str]) -> Ledger:
    """What a chip does for the layers of units, those ``beside`` it left out."""
    kept = Ledger(samples=dict(ledger.samples), sizes=list(ledger.sizes))
    for layer, phases in ledger.counts.items():
        if layer[0] == "s" and layer not in beside:
            kept.add(layer, Phase.FREE, **{kind: phases[Phase.FREE][kind] for kind in KINDS})
    return kept


def simulated(run: Path, python: Path, texts: int) -> tuple[Row, dict[str, Any]]:
    """A run's spikes on SANA-FE's Loihi, a text; and both counts."""
    trains, ledger = recorded(run, texts)
    with TemporaryDirectory() as folder:
        asked, answered = (Path(folder) / name for name in ("recorded.json", "played.json"))
        asked.write_text(json.dumps(trains))
        script = Path(__file__).with_name("replay.py")
        subprocess.run([python, script, asked, answered], check=True, stdout=subprocess.DEVNULL)
        answer = json.loads(answered.read_text())
    played = answer["texts"]

    def of(name: str) -> float:
        return sum(text[name] for text in played) / texts

    energy = {part: sum(text["energy"][part] for text in played) / texts for part in played[0]["energy"]}
    table = without_static(read_table("loihi"))
    costs = price(ledger, table)
    theirs = {"spikes": of("neurons_fired"), "synaptic_events": of("spikes"), "neuron_updates": of("neurons_updated")}
    about = {
        "run": run.name,
        "texts": texts,
        "steps": sum(text["steps"] for text in trains) / texts,
        "chip_steps": of("steps"),
        "packets": of("packets_sent"),
        "counts": {kind: ledger.total(kind) / texts for kind in KINDS},
        "simulated_counts": theirs,
        "simulated_joules": energy,
        "joules": {kind: total([c for c in costs if c.kind == kind]).value / texts for kind in KINDS},
    }
    name = f"spikes of {run.name.rsplit('-seed', 1)[0]}, a text"
    return Row(
        name, f"SANA-FE {answer['version']}", "loihi", energy["total"], total(costs) / texts, how="simulated"
    ), about


@torch.no_grad()
def main(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    json_file: JsonFile,
    sanafe: Path | None = None,
    texts: int = 16,
) -> None:
    """Set the tables beside what others found.

    Args:
        runs: Finished spiking runs with their checkpoints, whose spikes SANA-FE is given.
        json_file: Where the figures go.
        sanafe: The Python that has SANA-FE installed; without it nothing is simulated.
        texts: Texts of each run, evenly spaced in its test split.
    """
    reporter, rows, replays = Reporter(), measured(), []
    cpu = on_this_cpu()
    if sanafe is not None:
        for run in runs:
            reporter.status(f"{run.name} on SANA-FE")
            row, about = simulated(run, sanafe, texts)
            rows.append(row)
            replays.append(about)
    for row in rows:
        found = row.found()
        reporter.out.print(row.name, row.table, f"{row.reference:.3g} J", f"{row.ours.value:.3g} J", found["verdict"])
    reporter.out.print("this CPU", cpu["joules_an_inference"] or cpu["why"])
    result = {
        "format": FORMAT,
        "command": command(),
        "rate": RATE,
        "steps": STEPS,
        "published_joules": {chip: (watts - idle) / speed for chip, (idle, watts, speed) in TABLE1.items()},
        "rows": [row.found() for row in rows],
        "sanafe": replays,
        "cpu": cpu,
        "environment": environment(),
    }
    write_json(json_file, result)


if __name__ == "__main__":
    tyro.cli(main)
