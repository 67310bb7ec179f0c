"""What a run costs: its ledger priced on named hardware, with dense EP, cheap classifiers and a verdict.

Everything comes from run folders: counts from ``ledger.json``, accuracy from ``result.json``, T from ``config.toml``.
"""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from analysis.folders import Json, Run, open_run, read
from analysis.units import rounded
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.errors import ConfigError
from eqspike_seq.ledger import Ledger
from eqspike_seq.phases import Phase
from eqspike_seq.runs.schema import Ledgers
from neuromorphic.pricing import GROUP_OF, Cost, CostTable, Joules, at_bits, extremes, price, read_table, total

PARTS = {"inference": "an inference", "training": "a training sample"}
NEVER = (
    "Clock, control, leakage (but for static power where a table has it), links between chips, and the time that "
    "anything takes. What a host does between texts. Counters of spikes in the window of a rate code, the drawing of "
    "winners, and the comparison that decides whether a row of HopAttn has moved."
)
CLAIM = {"inference": 1000, "training": 100}  # Bal & Sengupta (2023) after Martin et al. (2021), against GPUs
DIGITAL = "horowitz-45nm-fp32"
GPUS = ("a100-peak", "a100-30-percent", "h200-peak", "h200-30-percent")
CHIPS = ("loihi", "crossbar")


def component(cost: Cost) -> str:
    """Which row of the headline a cost belongs to."""
    if cost.phase == Phase.UPDATE:
        return "learning"
    if cost.kind == "pattern_writes" or cost.layer in ("input", "q"):
        return "loading"
    names = {"hopattn": "HopAttn", "query": "HopAttn", "w1": "x w1", "wx": "x w1", "static": "static power"}
    return names.get(cost.layer, "layers")


def summed(costs: list[Cost], key: Callable[[Cost], str], texts: int) -> Json:
    """Joules a text by ``key``."""
    found: dict[str, Joules] = {}
    for cost in costs:
        found[key(cost)] = found.get(key(cost), Joules()) + cost.joules
    return {name: vars(joules / texts) for name, joules in found.items()}


def part_of(ledger: Ledger, table: CostTable) -> Json:
    """Joules a text of one ledger, in all and by component, layer, phase and kind of cost."""
    costs, texts = price(ledger, table), ledger.samples[Phase.FREE]
    return {
        "joules": vars(total(costs) / texts),
        "components": summed(costs, component, texts),
        "layers": summed(costs, lambda cost: cost.layer, texts),
        "phases": summed(costs, lambda cost: cost.phase, texts),
        "groups": summed(costs, lambda cost: GROUP_OF.get(cost.kind, "static power"), texts),
    }


def part_of_run(run: Run, part: str, table: CostTable) -> Json | None:
    """``part_of`` of a run's inference or training; None where there is no ledger to price."""
    try:
        return part_of(run.ledgers.of(part), table)
    except ConfigError:
        return None


def of_spikes(ledger: Ledger, table: CostTable) -> float:
    """Joules a text that grow in proportion to unit spikes: what each costs, and its additions with their fetches."""
    picojoules = 0.0
    for layer, phases in ledger.counts.items():
        fetch = "weight_reads" if re.fullmatch(r"s(\d+|c)", layer) else "pattern_reads"
        each = ("accumulates", "synaptic_events", fetch, "state_reads", "state_writes")
        for phase, kinds in phases.items():
            if phase != Phase.UPDATE:
                picojoules += kinds["spikes"] * table.of("spikes")
                picojoules += kinds["accumulates"] * sum(table.of(kind) for kind in each)
    return picojoules * 1e-12 / ledger.samples[Phase.FREE]


def unit_rate(ledger: Ledger, part: str) -> float:
    """Unit spikes per synapse, of the free phase or of all phases."""
    phases = (Phase.FREE,) if part == "inference" else tuple(phase for phase in ledger.samples if phase != Phase.UPDATE)
    synapses = sum(ledger.synapses.values())
    return ledger.total("accumulates", phases) / synapses if synapses else 0.0


def per_neuron_step(ledger: Ledger) -> dict[str, float]:
    """Unit spikes a neuron and step of the free phase, by layer of spiking neurons."""
    found = {}
    for layer, phases in ledger.counts.items():
        row = phases.get(Phase.FREE)
        if row and re.fullmatch(r"s\d+", layer) and (updates := row["neuron_updates"] + row["idle_updates"]):
            if row["spikes"]:
                found[layer] = row["spikes"] / updates
    return found


def ratio(dense: Ledger, dense_table: CostTable, mine: Ledger, table: CostTable) -> Json | None:
    """Dense over mine, a text each: above 1 mine takes less; None where one of them costs nothing.

    The range is that over all constants, each anywhere between low and high: on one table each constant is the same for
    both.
    """
    ours, theirs = part_of(mine, table)["joules"], part_of(dense, dense_table)["joules"]
    if not ours["low"] or not theirs["low"]:
        return None
    if dense_table == table:
        low, high = extremes(dense, mine, table)
    else:
        low, high = theirs["low"] / ours["high"], theirs["high"] / ours["low"]
    return {"value": theirs["value"] / ours["value"], "low": low, "high": high}


def verdict(title: str, other: str, found: Mapping[str, Json | None], accuracies: str) -> str:
    """One plain sentence."""
    said = []
    for part, label in PARTS.items():
        if (r := found[part]) is None:
            said.append(f"{label}: no verdict, as this hardware cannot learn or its learning has no published figure")
            continue
        word, more, factor = ("wins", "less", r["value"]) if r["value"] >= 1 else ("loses", "more", 1 / r["value"])
        sure = (r["low"] >= 1) == (r["high"] >= 1)
        where = "over the whole range of constants" if sure else "but not over the whole range of constants"
        times = rounded(factor)
        took = "both take the same energy" if times == "1" else f"spiking {word}, {times} times {more} energy"
        said.append(f"{label}: {took}, {where}")
    return f"{title} against dense EP on {other}, {accuracies}: " + "; ".join(said) + "."


def priced(run: Run, table: CostTable, dense: Ledgers | None, accuracies: str) -> Json:
    """One hardware's part of ``energy.json``."""
    found = run.ledgers
    entry: Json = {"title": table.title, "note": table.note, "word_bits": table.word_bits}
    entry |= {part: part_of(found.of(part), table) for part in PARTS}
    entry["not_counted"] = dict(table.omitted)
    if dense is None:
        return entry
    other = read_table(table.dense) if table.dense else table
    entry["dense"] = {"on": other.title, **{part: part_of(dense.of(part), other) for part in PARTS}}
    for key in (
        "dense_over_this",
        "dense_over_this_in_arithmetic",
        "break_even_spikes_per_synapse",
        "spikes_per_synapse",
        "joules_of_spikes",
    ):
        entry[key] = {}
    for part in PARTS:
        mine, learns = found.of(part), part == "inference" or "plasticity_writes" in table.prices
        entry["dense_over_this"][part] = ratio(dense.of(part), other, mine, table) if learns else None
        sums = [side[part]["groups"].get("arithmetic", {"value": 0.0})["value"] for side in (entry["dense"], entry)]
        whole = all("accumulates" in side.prices for side in (table, other)) and all(sums)
        entry["dense_over_this_in_arithmetic"][part] = sums[0] / sums[1] if whole else None
        spikes, now = of_spikes(mine, table), unit_rate(mine, part)
        left = entry["dense"][part]["joules"]["value"] - (entry[part]["joules"]["value"] - spikes)
        entry["joules_of_spikes"][part], entry["spikes_per_synapse"][part] = spikes, now
        entry["break_even_spikes_per_synapse"][part] = max(0.0, now * left / spikes) if spikes and learns else None
    entry["verdict"] = verdict(table.title, other.title, entry["dense_over_this"], accuracies)
    return entry


def classifiers(ledger: Ledger, table: CostTable, scores: Json) -> list[Json]:
    """Logistic regression on the same texts, priced on ``table``: on TF-IDF, and on means of word vectors.

    TF-IDF has two n-grams a token; where the network counts its patterns, as many as it has, and there are no means of
    word vectors. Each is looked up: its inverse document frequency and a weight for each class are read; a product
    weights it, one is its part of the norm, one goes into each class.
    """
    row, texts = ledger.counts.get("input", {}).get(Phase.FREE, {}), ledger.samples[Phase.FREE]
    if not row.get("lookup_reads"):
        return []
    counted = "q" in ledger.counts
    tokens, words, classes = (row["io_bytes"] - texts) // (5 if counted else 4), row["lookup_reads"], ledger.sizes[-1]
    grams = tokens if counted else 2 * tokens
    last, load = texts * (words // max(1, tokens)) * classes, {"io_bytes": row["io_bytes"]}
    rows = (
        (
            "TF-IDF of words and word pairs",
            "tfidf_logistic",
            {"multiply_accumulates": grams * (2 + classes), "weight_reads": grams * (1 + classes)},
        ),
        (
            "mean of word vectors",
            "logistic_mean_vectors",
            {"accumulates": words, "lookup_reads": words, "multiply_accumulates": last, "weight_reads": last},
        ),
    )
    found = []
    for title, key, counts in rows[:1] if counted else rows:
        mine = Ledger(samples={Phase.FREE: texts})
        mine.add("classifier", Phase.FREE, **counts, **load)
        accuracy = scores.get(key, {}).get("test_accuracy")
        about = {"name": f"logistic regression, {title}", "on": table.title, "test_accuracy": accuracy}
        found.append({**about, **part_of(mine, table)})
    return found


def dense_ledgers(run: Run, against: Path | None) -> tuple[Ledgers | None, str]:
    """(what dense EP takes, its accuracy in words). Raises ConfigError where ``against`` is not comparable."""
    mine = f"{run.result.test_accuracy:.2%} right"
    if against is None:
        return run.ledgers.dense, f"{mine} (dense EP: the same weights)"
    other = open_run(against)
    if run.result.backend == "dense" or other.result.backend != "dense":
        got = f"{run.name} is itself dense" if run.result.backend == "dense" else f"{against} is not"
        raise ConfigError(f"--against: expected a spiking run and then a dense one of the same data; {got}.")
    for name, value in run.task.items():
        if (got := other.task[name]) != value:
            raise ConfigError(
                f"--against: {against} has {name} {got}, expected {value} as in {run.path}. "
                "Give a dense run of the same task."
            )
    if other.ledgers.inference.sizes != run.ledgers.inference.sizes:
        raise ConfigError(
            f"--against: layers of {other.ledgers.inference.sizes} units, expected {run.ledgers.inference.sizes}, "
            "those of the run. Give a dense run of the same network."
        )
    return other.ledgers, f"{mine} against {other.result.test_accuracy:.2%}"


def energy(path: Path, tables: list[CostTable], against: Path | None, scores: Path | None) -> Json:
    """All that ``energy.json`` holds. Raises ConfigError."""
    run = open_run(path)
    if doubled := {table.name for table in tables if [t.name for t in tables].count(table.name) > 1}:
        raise ConfigError(f"--hardware: {', '.join(sorted(doubled))} given twice, expected tables with different names")
    simple = run.result.baseline
    figures = {} if simple is None else {"tfidf_logistic": {"test_accuracy": simple.test_accuracy}}
    if scores is not None:
        figures = read(scores, dict)
    if figures.get("dataset", run.result.dataset) != run.result.dataset:
        raise ConfigError(f"--classifiers: {scores} is for {figures['dataset']}, expected {run.result.dataset}")
    dense, accuracies = dense_ledgers(run, against)
    found, result = run.ledgers, run.result
    report: Json = {
        "format": FORMAT,
        "run": result.model_dump(include={"dataset", "backend", "neuron", "circuit", "rule", "test_accuracy", "seed"}),
        "dense_from": None if dense is None else "the same weights, dense" if against is None else against.name,
        "accuracies": accuracies,
        "spikes_per_synapse": {
            "inference": found.inference.spikes_per_synapse(),
            "training": found.training.spikes_per_synapse(tuple(found.training.samples)),
        },
        "spikes_per_neuron_and_step": per_neuron_step(found.inference),
        "hardware": {table.name: priced(run, table, dense, accuracies) for table in tables},
        "measured_joules": result.measured_joules and result.measured_joules.content(),
        "never_counted": NEVER,
        "baselines": [],
    }
    if dense is not None:
        bits = math.ceil(math.log2(run.settings.free_steps + 1))
        others = [read_table(DIGITAL), at_bits(read_table("horowitz-45nm-int8"), bits), *map(read_table, GPUS)]
        report["baselines"] = [
            {"name": f"dense EP, {table.title}", **{part: part_of(dense.of(part), table) for part in PARTS}}
            for table in others
        ]
        report["claim"] = claim(found, dense)
    report["baselines"] += classifiers(found.inference, read_table(DIGITAL), figures)
    return report


def claim(found: Ledgers, dense: Ledgers) -> list[Json]:
    """The borrowed claim, two orders of magnitude in training and three in inference: what these ledgers say."""
    rows = []
    for chip in CHIPS:
        for part in PARTS:
            mine, other = read_table(chip), read_table(GPUS[-1])
            factor = ratio(dense.of(part), other, found.of(part), mine)
            assert factor is not None
            holds = "reproduced" if factor["value"] >= CLAIM[part] else "not reproduced"
            if holds != "reproduced" and factor["high"] >= CLAIM[part]:
                holds = "only at the most favourable constants of both"
            about = {"chip": mine.title, "gpu": other.title, "part": part, "claimed": CLAIM[part]}
            rows.append({**about, "found": factor, "verdict": holds})
    return rows
