"""What a run costs: its ledger priced on named hardware, beside dense EP and cheap classifiers, with a verdict.

Everything comes from run folders: counts from ``ledger.json``, accuracy from ``result.json``, T from ``config.toml``.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from eqspike_seq.config import read_toml
from eqspike_seq.errors import ConfigError
from neuromorphic.energy import GROUP_OF, Cost, CostTable, Joules, at_bits, price, read_table, total

PARTS = {"inference": "an inference", "training": "a training sample"}
EVENTS = ("spikes", "payload_bits", "synaptic_events", "accumulates", "weight_reads")  # grow with every spike
NEVER = (
    "Clock, control, leakage (but for static power where a table has it), links between chips, and the time that "
    "anything takes. What a host does between texts. Counters of spikes in the window of a rate code."
)
CLAIM = {"inference": 1000, "training": 100}  # Bal & Sengupta (2023) after Martin et al. (2021), against GPUs
GPUS = ("a100-peak", "a100-30-percent", "h200-peak", "h200-30-percent")
CHIPS = ("loihi", "crossbar")
Json = dict[str, Any]


def read(run: Path, name: str) -> Json:
    """A JSON file of a run folder. Raises ConfigError where it is missing or no JSON."""
    try:
        found: Json = json.loads((run / name).read_text())
    except FileNotFoundError as error:
        raise ConfigError(f"{run} has no {name}. Give the folder of a run that has ended.") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{run / name} cannot be read: {error}") from error
    return found


def ledgers(run: Path) -> Json:
    """``ledger.json``. Raises ConfigError where it is that of an older eqspike or not a ledger."""
    found = read(run, "ledger.json")
    for part in PARTS:
        ledger = found.get(part)
        if not isinstance(ledger, dict) or not {"counts", "samples", "steps", "sizes"} <= set(ledger):
            raise ConfigError(
                f"{run / 'ledger.json'}: no {part} ledger with counts, samples, steps and sizes. Train the run again "
                "with this version."
            )
    return found


def component(cost: Cost) -> str:
    """Which row of the headline a cost belongs to."""
    if cost.phase == "update":
        return "learning"
    if cost.kind == "pattern_writes" or cost.layer == "input":
        return "loading"
    names = {"hopattn": "HopAttn", "query": "HopAttn", "w1": "x w1", "static": "static power"}
    return names.get(cost.layer, "layers")


def summed(costs: list[Cost], key: Callable[[Cost], str], texts: int) -> Json:
    """Joules a text by ``key``."""
    found: dict[str, Joules] = {}
    for cost in costs:
        found[key(cost)] = found.get(key(cost), Joules()) + cost.joules
    return {name: vars(joules / texts) for name, joules in found.items()}


def part_of(ledger: Mapping[str, Any], table: CostTable) -> Json:
    """Joules a text of one ledger, in all and by component, layer, phase and kind of cost."""
    costs, texts = price(ledger, table), ledger["samples"]["free"]
    return {
        "joules": vars(total(costs) / texts),
        "components": summed(costs, component, texts),
        "layers": summed(costs, lambda cost: cost.layer, texts),
        "phases": summed(costs, lambda cost: cost.phase, texts),
        "groups": summed(costs, lambda cost: GROUP_OF.get(cost.kind, "static power"), texts),
    }


def of_events(ledger: Mapping[str, Any], table: CostTable) -> float:
    """Joules a text that grow in proportion to the spikes between layers: what each event and its synapses cost."""
    picojoules = 0.0
    for layer, phases in ledger["counts"].items():
        if not re.fullmatch(r"s\d+", layer):
            continue
        for kinds in phases.values():
            for kind in EVENTS:
                picojoules += kinds[kind] * (table.prices[kind].value if kind in table.prices else 0.0)
            for kind in ("state_reads", "state_writes"):
                each = table.prices[kind].value if kind in table.prices else 0.0
                picojoules += kinds["synaptic_events"] * each
    return picojoules * 1e-12 / int(ledger["samples"]["free"])


def per_synapse(ledger: Mapping[str, Any], part: str) -> float | None:
    """Spikes per synapse, of the free phase or of all."""
    rows = (k for phases in ledger["counts"].values() for p, k in phases.items() if part == "training" or p == "free")
    events, synapses = sum(k["synaptic_events"] for k in rows), sum(ledger["synapses"].values())
    return events / synapses if synapses and events else None


def per_neuron_step(ledger: Mapping[str, Any]) -> dict[str, float]:
    """Spikes a neuron and step of the free phase, by layer."""
    found = {}
    for layer, phases in ledger["counts"].items():
        row = phases.get("free")
        if row and re.fullmatch(r"s\d+", layer) and (updates := row["neuron_updates"] + row["idle_updates"]):
            found[layer] = (row["spikes"] + row["graded_events"]) / updates
    return found


def ratio(dense: Json, mine: Json, same_table: bool) -> Json:
    """Dense over mine: above 1 mine takes less. On one table its constants are low or high together."""
    ends = [dense["low"] / mine["low"], dense["high"] / mine["high"]]
    if not same_table:
        ends = [dense["low"] / mine["high"], dense["high"] / mine["low"]]
    middle = dense["value"] / mine["value"]
    return {"value": middle, "low": min(*ends, middle), "high": max(*ends, middle)}


def verdict(title: str, other: str, found: Mapping[str, Json]) -> str:
    """One plain sentence."""
    said = []
    for part, label in PARTS.items():
        r = found[part]
        word, more, factor = ("wins", "less", r["value"]) if r["value"] >= 1 else ("loses", "more", 1 / r["value"])
        sure = (r["low"] >= 1) == (r["high"] >= 1)
        where = "over the whole range of constants" if sure else "but not over the whole range of constants"
        said.append(f"{label}: spiking {word}, {factor:.2g} times {more} energy, {where}")
    return f"{title} against dense EP on {other}: " + "; ".join(said) + "."


def priced(run: Path, table: CostTable, dense: Json | None) -> Json:
    """One hardware's part of ``energy.json``."""
    found = ledgers(run)
    entry: Json = {"title": table.title, "note": table.note, "word_bits": table.word_bits}
    entry |= {part: part_of(found[part], table) for part in PARTS}
    entry["not_counted"] = dict(table.omitted)
    if dense is None:
        return entry
    other = read_table(table.dense) if table.dense else table
    beside = {part: part_of(dense[part], other) for part in PARTS}
    entry["dense"] = {"on": other.title, **beside}
    entry["dense_over_this"] = {
        part: ratio(beside[part]["joules"], entry[part]["joules"], other is table) for part in PARTS
    }
    entry["verdict"] = verdict(table.title, other.title, entry["dense_over_this"])
    for key in ("break_even_spikes_per_synapse", "joules_of_events", "dense_over_this_in_arithmetic"):
        entry[key] = {}
    for part in PARTS:
        events, now = of_events(found[part], table), per_synapse(found[part], part)
        left = beside[part]["joules"]["value"] - (entry[part]["joules"]["value"] - events)
        entry["joules_of_events"][part] = events
        entry["break_even_spikes_per_synapse"][part] = max(0.0, now * left / events) if now and events else None
        sums = [side[part]["groups"].get("arithmetic", {"value": 0.0})["value"] for side in (beside, entry)]
        entry["dense_over_this_in_arithmetic"][part] = sums[0] / sums[1] if all(sums) else None
    return entry


def classifiers(ledger: Mapping[str, Any], table: CostTable, scores: Json) -> list[Json]:
    """Logistic regression on the same texts, priced on ``table``: bags of words, and means of word vectors."""
    row, texts = ledger["counts"]["input"]["free"], ledger["samples"]["free"]
    if not row["lookup_reads"]:
        return []
    tokens, words = (row["io_bytes"] - texts) // 4, row["lookup_reads"]
    dim, classes = words // max(1, tokens), ledger["sizes"][-1]
    load = {"io_bytes": row["io_bytes"]}
    rows = (
        ("bag of words", "logistic_bag_of_words", {"accumulates": tokens, "weight_reads": tokens, **load}),
        (
            "mean of word vectors",
            "logistic_mean_vectors",
            {
                "accumulates": words,
                "lookup_reads": words,
                "multiply_accumulates": texts * dim * classes,
                "weight_reads": texts * dim * classes,
                **load,
            },
        ),
    )
    found = []
    for title, key, counts in rows:
        mine = {"counts": {"classifier": {"free": counts}}, "samples": {"free": texts}, "steps": {}}
        accuracy = scores.get(key, {}).get("test_accuracy")
        found.append({"name": f"logistic regression, {title}", "test_accuracy": accuracy, **part_of(mine, table)})
    return found


def energy(run: Path, hardware: list[str], against: Path | None, scores: Path | None) -> Json:
    """All that ``energy.json`` holds."""
    result, found, config = read(run, "result.json"), ledgers(run), read_toml(run / "config.toml")
    dense = None
    if against is not None:
        if read(against, "result.json")["backend"] != "dense":
            raise ConfigError(f"--against: {against} is no run with --backend dense. Give one of the same data set.")
        dense = ledgers(against)
        if dense["inference"]["sizes"] != found["inference"]["sizes"]:
            raise ConfigError(
                f"--against: layers of {dense['inference']['sizes']} units, expected {found['inference']['sizes']}, "
                "those of the run. Give a dense run of the same network."
            )
    elif result["backend"] != "dense":
        dense = found["dense"]
    tables = [read_table(name) for name in hardware]
    report: Json = {
        "format": 1,
        "run": {k: result[k] for k in ("dataset", "backend", "neuron", "circuit", "rule", "test_accuracy", "seed")},
        "dense_from": None if dense is None else "the same weights, dense" if against is None else "another run",
        "spikes_per_synapse": {part: per_synapse(found[part], part) for part in PARTS},
        "spikes_per_neuron_and_step": per_neuron_step(found["inference"]),
        "hardware": {table.name: priced(run, table, dense) for table in tables},
        "measured_joules": result.get("measured_joules"),
        "never_counted": NEVER,
    }
    bits = math.ceil(math.log2(config["free_steps"] + 1))
    narrow = at_bits(read_table("horowitz-45nm-int8"), bits)
    report["baselines"] = []
    if dense is not None:
        beside = {part: part_of(dense[part], narrow) for part in PARTS}
        report["baselines"].append({"name": f"dense EP, {narrow.title}", **beside})
        for name in GPUS:
            table = read_table(name)
            beside = {part: part_of(dense[part], table) for part in PARTS}
            report["baselines"].append({"name": f"dense EP, {table.title}", **beside})
        report["claim"] = claim(found, dense)
    figures = {} if scores is None else read(scores.parent, scores.name)
    report["baselines"] += classifiers(found["inference"], read_table("horowitz-45nm-fp32"), figures)
    return report


def claim(found: Json, dense: Json) -> list[Json]:
    """The borrowed claim, two orders of magnitude in training and three in inference: what these ledgers say."""
    rows = []
    for chip in CHIPS:
        for part in PARTS:
            mine, other = read_table(chip), read_table(GPUS[-1])
            factor = ratio(part_of(dense[part], other)["joules"], part_of(found[part], mine)["joules"], False)
            holds = "reproduced" if factor["value"] >= CLAIM[part] else "not reproduced"
            if holds != "reproduced" and factor["high"] >= CLAIM[part]:
                holds = "only at the most favourable constants of both"
            about = {"chip": mine.title, "gpu": other.title, "part": part, "claimed": CLAIM[part]}
            rows.append({**about, "found": factor, "verdict": holds})
    return rows
