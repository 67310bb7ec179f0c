"""The tables of the documentation and the accuracies in its sentences, filled from results/ by its index.toml.

python -m docs.tools.tables README.md docs/rates-to-spikes.md

A page holds ``<!-- table: NAME -->`` … ``<!-- end of table -->``; what stands between is replaced. In a sentence the
percentage before ``<!-- RUN -->`` is the test accuracy of that run; ``<!-- RUN validation_accuracy -->`` names another
figure of its result.json, ``<!-- FILE.json key.key -->`` one of another file, places in a list counted from 0. As many
decimals are kept as are there. ``<!-- not in results: 88.21 88.22 -->`` lists those of a paragraph that have no file.
"""

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import tyro

from analysis import robustness_report
from analysis.comparison import reference
from analysis.energy import DIGITAL, part_of
from analysis.folders import Run, groups
from analysis.folders import read as open_json
from analysis.paper import ACCURACIES, PUBLISHED
from analysis.robustness_report import WAYS
from docs.tools import energy_tables, local_learning, reproduce, speed_tables
from docs.tools.markdown import FIGURES, INDEX, RESULTS, label_of, read, runs_of, table
from eqspike.provenance import command_of
from eqspike_seq.devices.device_model import read_device
from eqspike_seq.devices.strengths import AXES, MISMATCH
from eqspike_seq.phases import RELAXED, Phase
from eqspike_seq.runs.findings import GradientCheck, GradientRecord, Robustness
from eqspike_seq.runs.schema import Sweep
from neuromorphic.pricing import read_table

BLOCK = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
SAID = re.compile(r"\d+(\.\d+)?( %<!-- ([\w./-]+)(?: ([\w.]+))? -->)")
HEADS = ("", "test", "validation", "training", "peak memory", "spikes per synapse", "command, result")

BASELINES = (
    ("decomposable attention, backpropagation", "decomposable_attention"),  # of pairs alone
    ("LSTM that learns its vectors, backpropagation", "lstm"),
    ("logistic regression, mean vectors", "logistic_mean_vectors"),
    ("logistic regression, TF-IDF", "tfidf_logistic"),
    ("logistic regression, naive-Bayes ratios (NB-LR)", "nb_logistic"),
)


def run_row(run: Run, up: str = "") -> tuple[str, ...]:
    """One run: its result file and the command that makes it; ``up`` leads from the page to the project's root."""
    result, spikes = run.result, run.result.spikes_per_synapse_per_inference
    return (
        label_of(run),
        f"{100 * result.test_accuracy:.2f} %",
        f"{100 * result.validation_accuracy:.1f}",
        f"{result.train_seconds / 60:.1f} min",
        f"{result.peak_memory_bytes / 1e9:.2f} GB",
        "–" if spikes is None else f"{spikes:.3g}",
        made_by(run, up),
    )


def made_by(run: Run, up: str) -> str:
    """The command that makes a run, with a link to its result file."""
    return f"[`{command_of(run.saved)}`]({up}results/{run.name}/result.json)"


def baseline_row(label: str, dataset: str, key: str, up: str = "") -> tuple[str, ...]:
    """One model of ``benchmarks.baselines``."""
    file = f"{dataset}-baselines.json"
    found = read(file)[key]
    return (
        label,
        f"{100 * found['test_accuracy']:.2f} %",
        f"{100 * found['validation_accuracy']:.1f}",
        f"{found['train_seconds'] / 60:.1f} min",
        "–",
        "–",
        f"[`{FIGURES[file]}`]({up}results/{file}) `{key}.test_accuracy`",
    )


def runs(name: str, up: str = "", baselines: bool = False) -> str:
    """The runs of a table of the index, and other models on the same data."""
    rows = [run_row(run, up) for run in runs_of(name)]
    if baselines:
        models = read(f"{name}-baselines.json")
        rows += [baseline_row(label, name, key, up) for label, key in BASELINES if key in models]
    return table(HEADS, rows, text=(0, 6))


def tested(group: list[Run]) -> str:
    """Mean and standard deviation of runs that differ in their seed alone."""
    right = [run.result.test_accuracy for run in group]
    return f"{100 * mean(right):.2f} %" + (f" ± {100 * stdev(right):.2f}" if len(group) > 1 else "")


def made_by_all(group: list[Run], up: str) -> str:
    """The command of the first of them, and the result files of the others."""
    others = "".join(f", [{run.result.seed}]({up}results/{run.name}/result.json)" for run in group[1:])
    return f"{made_by(group[0], up)}{others}"


def seeds(name: str, up: str = "") -> str:
    """Runs that differ in their seed alone as one row: mean and standard deviation on test, validation, sizes, spikes,
    joules."""
    heads = [*("", "test", "validation", "weights", "patterns", "training", "memory"), "spikes per synapse"]
    heads += ["µJ an inference", "µJ a training sample", "command, results"]
    rows = []
    for group in groups(runs_of(name)):
        first = group[0]
        weights, patterns = weights_of(first)
        spikes, ledgers = first.result.spikes_per_synapse_per_inference, first.ledgers
        joules = (part_of(part, read_table(DIGITAL))["joules"] for part in (ledgers.inference, ledgers.training))
        cells = (
            label_of(first),
            tested(group),
            f"{100 * mean(run.result.validation_accuracy for run in group):.1f}",
            f"{weights:,}",
            patterns,
            f"{mean(run.result.train_seconds for run in group):.0f} s",
            f"{max(run.result.peak_memory_bytes for run in group) / 1e9:.2f} GB",
            "–" if spikes is None else f"{spikes:.2g}, {first.result.spikes_per_synapse_per_training_sample:.2g}",
            *(f"{1e6 * each['value']:.3g}" for each in joules),
            made_by_all(group, up),
        )
        rows.append(cells)
    return table(heads, rows, text=(0, len(heads) - 1))


# models that the first table leaves out
WEAKER = {"imdb": ("logistic_mean_vectors", "lstm"), "snli": ("logistic_mean_vectors", "nb_logistic")}


def headline(up: str = "") -> str:
    """The table of the first pages: runs by data set, other models on the same texts, and the paper's figures."""
    heads = ("", "test", "weights", "µJ an inference", "training", "reproduce by")
    rows: list[tuple[str, ...]] = []
    for name, (title, published) in {"imdb": ("IMDB", 1), "snli": ("SNLI", 2)}.items():
        for group in groups(runs_of(f"headline-{name}")):
            first = group[0]
            cells = (
                f"{title}: {label_of(first)}",
                tested(group),
                f"{weights_of(first)[0]:,}",
                f"{1e6 * part_of(first.ledgers.inference, read_table(DIGITAL))['joules']['value']:.3g}",
                f"{mean(run.result.train_seconds for run in group):.0f} s",
                made_by_all(group, up),
            )
            rows.append(cells)
        for label, key in BASELINES:
            if key in read(f"{name}-baselines.json") and key not in WEAKER[name]:
                row = baseline_row(label, name, key, up)
                rows.append((f"{title}: {row[0]}", row[1], "–", "–", row[3], row[6]))
        what, *figures = ACCURACIES[0]
        all_pairs = ", all 549,367 pairs" if name == "snli" else ""
        rows.append(
            (f"{title}: {what}{all_pairs}", f"{figures[published - 1]} %", "–", "–", "–", PUBLISHED + ", published")
        )
    return table(heads, rows, text=(0, 5))


def weights_of(run: Run) -> tuple[int, str]:
    """(weights beside the table of patterns or words, how many of these of how many components there are)."""
    sizes, dim = run.ledgers.inference.sizes, run.saved.get("dim", 0)
    stack = sum((below + 1) * above for below, above in pairwise(sizes))
    if run.task["network"] == "tokens":
        return stack + dim**2, "–"
    made, units = open_json(run.path / "environment.json", dict), run.saved.get("compared", 0)
    below = dim**2 + units * (2 * dim + 1) if units else sizes[0]
    return stack + below, f"{made['counts']['vocabulary']:,} × {dim}"


def spikes() -> str:
    """All spiking runs on IMDB: accuracy and spikes, in inference and in training."""
    heads = ("", "test", "against dense, points", "spikes per synapse, inference", "training sample, 3 phases", "")
    rows = []
    for run in runs_of("spikes"):
        result, dense = run.result, reference(run, runs_of("imdb"))
        assert dense is not None
        cells = (
            label_of(run),
            f"{100 * result.test_accuracy:.2f} %",
            f"{100 * (result.test_accuracy - dense.result.test_accuracy):+.2f}",
            f"{result.spikes_per_synapse_per_inference:.3g}",
            f"{result.spikes_per_synapse_per_training_sample:.3g}",
            made_by(run, "../"),
        )
        rows.append(cells)
    return table(heads, rows, text=(0, 5))


def own_data() -> str:
    """What eqspike chooses for texts of one's own, beside the baseline of the same split."""
    heads = ("", "texts", "classes", "eqspike, test", "TF-IDF + logistic regression", "points", "training")
    rows = [
        (
            row["set"],
            f"{row['texts']:,}",
            str(row["classes"]),
            f"{100 * mean(row['test_accuracy']):.2f} %",
            f"{100 * row['baseline']['test_accuracy']:.2f} %",
            f"{row['points']:+.2f}",
            f"{mean(row['train_seconds']):.0f} s",
        )
        for row in read("own-data.json")["rows"]
    ]
    return table(heads, rows, text=(0,))


def compared(name: str) -> Iterator[tuple[str, GradientCheck, list[GradientRecord]]]:
    """(folder, check, its records of one reference) for each row of the index."""
    for folder, against in map(str.split, INDEX["tables"][name]):
        found = open_json(RESULTS / "checks" / folder / "gradients.json", GradientCheck.read)
        yield folder, found, [record for record in found.records if record.reference == against]


def gradients() -> str:
    """Cosine and relative RMSE of spiking updates to converged dense Eq. 18, by neuron, rule and stage of training."""
    parameters, rows = ("w1", "w2", "w3", "w4"), []
    for folder, found, records in compared("gradients"):
        label = f"[{check_label(folder, records[0])}](../results/checks/{folder}/gradients.json)"
        longest, beta = records[-1].window, found.settings["beta"]
        mine = [r for r in records if r.window == longest and r.beta == beta]
        for stage in dict.fromkeys(r.stage for r in mine):
            of = {r.parameter: r for r in mine if r.stage == stage}
            steps = of["w1"].free_steps if longest else "–"
            cells = (f"{of[p].cosine:.4f} ({of[p].relative_rmse:.2g})" for p in parameters)
            rows.append((label, str(steps), stage, *cells))
    return table(("neuron, rule", "T = K", "stage", *parameters), rows, text=(0, 2))


def check_label(folder: str, record: GradientRecord) -> str:
    """Neuron and rule of a check, and what it compares."""
    parts = [record.neuron, "`wta`" if record.circuit == "wta" else None, f"`{record.rule}`"]
    parts += [INDEX["notes"].get(f"checks/{folder}"), "to its own network" if record.reference == "offset" else None]
    return ", ".join(filter(None, parts))


def gradient_sweep() -> str:
    """The rule ``membrane`` over window and β, at the end of training."""
    parameters, rows = ("w1", "w2", "w3", "w4"), []
    ((_, _, records),) = compared("gradient-sweep")
    found = {(r.free_steps, r.window, r.beta, r.parameter): r for r in records if r.stage == "end"}
    for steps, window, beta in dict.fromkeys(key[:3] for key in found):
        cells = (f"{found[steps, window, beta, p].cosine:.4f}" for p in parameters)
        rows.append((str(steps), str(window), f"{beta:g}", *cells))
    return table(("T = K", "window", "β", *parameters), rows, text=())


def bptt() -> str:
    """EP against BPTT through the same number of steps, at each stage: cosine and relative RMSE."""
    parameters, rows = ("w1", "w2", "b2", "w3", "b3", "w4", "b4"), []
    ((_, _, records),) = compared("bptt")
    for stage in dict.fromkeys(r.stage for r in records):
        found = {r.parameter: r for r in records if r.stage == stage}
        cells = (f"{found[p].cosine:.5f} ({found[p].relative_rmse:.1g})" for p in parameters)
        rows.append((stage, *cells))
    return table(("stage", *parameters), rows, text=(0,))


def nudges() -> str:
    """EP against BPTT over β in the parameters of the main network, after training."""
    rows = []
    for stage, sizes in open_json(RESULTS / "checks/imdb-learnt/gradients.json", GradientCheck.read).over_beta.items():
        for place, beta in enumerate(sizes.betas):
            cells = (
                f"{sizes.cosine[name][place]:.7f} ({sizes.relative_rmse[name][place]:.1e})" for name in ("q", "X", "w2")
            )
            rows.append((stage, f"{beta:g}", *cells, f"{100 * sizes.crossing[place]:.0f} %"))
    heads = ("", "β", "q: cosine (relative error)", "X", "w2", "texts in which a unit crosses")
    return table(heads, rows, text=(0,))


def less_attention() -> str:
    """Validation accuracy against operations of HopAttn, by what is left out."""
    heads = ("changed", "validation", "products", "additions", "fewer operations", "spikes per synapse")
    rows = []
    for row in read("less-attention.json")["rows"]:
        flags = [f"--{name.replace('_', '-')} {value}" for name, value in row["changes"].items()]
        cells = (
            f"`{' '.join(flags)}`" if flags else "–",
            f"{100 * row['validation_accuracy']:.2f} %",
            f"{row['products_per_inference'] / 1e6:.1f} M",
            f"{row['additions_per_inference'] / 1e6:.1f} M",
            f"{row['fewer_operations']:.1f} ×",
            f"{row['spikes_per_synapse']:.3g}",
        )
        rows.append(cells)
    return table(heads, rows, text=(0,))


def attention_rows() -> str:
    """Spikes of the soft winner-take-all circuit in the fully spiking run, a token row of a text."""
    (run,) = runs_of("attention-rows")
    rows = []
    for part, phase in (("inference", Phase.FREE), *(("training", phase) for phase in RELAXED)):
        ledger = run.ledgers.of(part)
        counts = ledger.counts
        tokens = (counts["input"][Phase.FREE]["io_bytes"] - ledger.samples[Phase.FREE]) / 4  # a number each, a label
        sent = (f"{counts[layer][phase]['spikes'] / tokens:.3g}" for layer in ("query", "hopattn", "s1"))
        rows.append((f"{part}, {phase}", *sent))
    return table(("", "of the query", "of stored patterns", "of s¹"), rows, text=(0,))


def combinations() -> str:
    """Neuron × circuit × rule on mini."""
    heads = ("neuron", "circuit", "rule", "test", "cosine w1", "w2", "w3", "spikes per synapse", "training", "seconds")
    rows = []
    for row in read("combinations.json")["rows"]:
        about = (row["neuron"], row["circuit"], row["rule"])
        if "reason" in row:
            rows.append((*about, f"– {row['reason'].split(': ', 1)[-1]}", *[""] * 6))
            continue
        reference = "offset" if row["neuron"] == "sigma-delta" else "eq18"
        cells = (
            f"{100 * row['test_accuracy']:.1f} %",
            *(f"{row[f'{reference}_{name}']:.3f}" for name in ("w1", "w2", "w3")),
            f"{row['spikes_per_synapse_per_inference']:.3g}",
            f"{row['spikes_per_synapse_per_training_sample']:.3g}",
            f"{row['train_seconds']:.0f}",
        )
        rows.append((*about, *cells))
    return table(heads, rows, text=(0, 1, 2))


def quantised() -> str:
    """Weights of few bits: validation accuracy and joules of an inference."""
    from analysis.units import text_of

    heads = ("bits of a weight", "neurons", "validation", "spikes per synapse", "int8", "fp16", "fp32")
    rows = []
    for row in read("quantised.json")["rows"]:
        spikes = row["spikes_per_synapse"]
        cells = (
            "32, as trained" if row["bits"] is None else str(row["bits"]),
            "dense EP" if row["backend"] == "dense" else "changes",
            f"{100 * row['validation_accuracy']:.2f} %",
            "–" if spikes is None else f"{spikes:.3g}",
            *(text_of(row["joules"][f"horowitz-45nm-{width}"]["value"]) for width in ("int8", "fp16", "fp32")),
        )
        rows.append(cells)
    return table(heads, rows, text=(0, 1))


def shipped() -> str:
    """The model that comes with eqspike: accuracy, spikes and joules of the file."""
    from analysis.energy_report import ranged

    found = read("imdb-small.json")
    accuracies = ((split, found[f"{split}_accuracy"], found["texts"][split]) for split in ("validation", "test"))
    rows = [
        (
            f"{split} accuracy, {texts:,} reviews",
            f"{100 * right['shipped']:.2f} %, before rounding {100 * right['float32']:.2f} %",
        )
        for split, right, texts in accuracies
    ]
    rows += [(f"an inference on {read_table(name).title}", ranged(cost)) for name, cost in found["joules"].items()]
    rows += [
        ("spikes an inference", f"{found['spikes_per_inference']:.1f}"),
        ("spikes per synapse and inference", f"{found['spikes_per_synapse']:.3g}"),
        ("processor time from start to answer", f"{found['processor_seconds_to_an_answer']:.1f} s"),
    ]
    return table(("", "imdb-small"), rows, text=(0, 1))


def confidence() -> str:
    """How often the model that comes with eqspike is right on validation, by its confidence."""
    bands = read("imdb-small.json")["validation_by_confidence"]
    uppers = [f" – {band['from']}" for band in bands[1:]] + [" – 1"]
    names = [f"{band['from'] or 0.5}{upper}" for band, upper in zip(bands, uppers, strict=True)]
    rows = [(name, f"{b['texts']:,}", f"{100 * b['accuracy']:.1f} %") for name, b in zip(names, bands, strict=True)]
    return table(("confidence", "reviews", "right"), rows, text=(0,))


def faults() -> str:
    """Runs disturbed, and what was lost; long work is in ``load``."""
    file = read("faults.json")
    long = {row["name"] for row in file["load"]}
    rows = [(r["fault"], str(r["tried"]), str(len(r["lost"]))) for r in file["faults"] if r["fault"] not in long]
    return table(("", "tried", "lost"), rows, text=(0,))


def zoo() -> str:
    """Corpora that were taken through every command, and what came of them."""
    found = [("lost" if row["lost"] else row["outcome"], row["seconds"]) for row in read("zoo.json")["corpora"]]
    rows = []
    for outcome in ("learnt", "learnt nothing and said so", "refused", "lost"):
        seconds = [each for name, each in found if name == outcome]
        rows.append((outcome, str(len(seconds)), f"{sum(seconds) / 60:.1f} min"))
    return table(("", "corpora", "time"), rows, text=(0,))


def fuzz() -> str:
    """Inputs that readers of files were given, and how many ended in anything but an answer or an error message."""
    rows, total = [], {"inputs": 0, "seconds": 0.0, "lost": 0}
    for row in read("fuzz.json")["readers"]:
        name = row["name"].removeprefix("test_").replace("_", " ")
        name += "" if row["name"].startswith("test_") else ", guided by coverage"
        found = {"inputs": row["inputs"], "seconds": row["processor_seconds"], "lost": len(row["lost"])}
        total = {key: total[key] + value for key, value in found.items()}
        rows.append((name, found))
    cells = (
        (name, f"{found['inputs']:,}", f"{found['seconds'] / 60:.1f} min", str(found["lost"]))
        for name, found in [*rows, ("all", total)]
    )
    return table(("reader", "inputs", "processor time", "lost"), list(cells), text=(0,))


def load() -> str:
    """Long work: memory and file handles early on and at the end."""
    rows = []
    for row in read("faults.json")["load"]:
        sizes = [row["bytes_after_warming_up"], row["bytes_at_the_end"]]
        megabytes = (f"{size / 1e6:.1f} MB" for size in sizes)
        growth = f"{100 * (sizes[1] / sizes[0] - 1):+.1f} %"
        rows.append((row["name"], f"{row['work']:,}", *megabytes, growth, f"{row['file_handles']:.0f}"))
    heads = ("", "batches, answers", "warmed up", "at the end", "", "open files")
    return table(heads, rows, text=(0,))


def robustness(name: str) -> str:
    """Accuracy on chips with an imperfection, for each way of coming there, and the share of the loss regained."""
    found = Robustness.read(read(f"checks/{name}/robustness.json"))
    (_, *strengths), *rows = robustness_report.table(found)
    shares = {label: f"{100 * share:.0f} %" for label, share in robustness_report.regained(found).items()}
    head = ("", *strengths, f"regained at {AXES[found.imperfection].at(robustness_report.costly(found))}")
    return table(head, [(*row, shares.get(row[0], "–")) for row in rows], text=(0,))


def imperfections() -> str:
    """Accuracy on digits along the imperfections that have no table of their own, mean over chips in percent."""
    rows = list[tuple[str, ...]]()
    for name, axis in AXES.items():
        if name in (MISMATCH, "asymmetry"):
            continue
        found = Robustness.read(read(f"checks/digits-{name}/robustness.json"))
        ways = dict(robustness_report.columns(found).values())  # one rule for each
        for strength in robustness_report.strengths(found):
            reached = (robustness_report.accuracies(found, (way, ways.get(way)), strength) for way in WAYS)
            cells = (f"{100 * mean(some):.1f}" if some else "–" for some in reached)
            rows.append((f"{axis.title}, {axis.at(strength)}", *cells))
    return table(("", *WAYS.values()), rows, text=(0,))


def few_bits() -> str:
    """Validation accuracy of a network of IMDB whose weights have few bits, and in full precision, mean over seeds."""
    sweep = Sweep.read(read("checks/imdb-bits/sweep.json"))
    whole = mean(read(f"imdb-words-small-seed{seed}/result.json")["validation_accuracy"] for seed in sweep.seeds)
    rows = [("full precision", f"{100 * whole:.1f} %", "–")]
    for trial in sweep.trials:
        device, found = read_device(str(RESULTS.parent / trial.settings["device_model"])), trial.validation_accuracy
        reached = ("–", "–") if found is None else (f"{100 * found:.1f} %", f"{100 * (found - whole):+.1f}")
        rows.append((device.title, *reached))
    return table(("weights", "validation", "points"), rows, text=(0,))


TABLES: dict[str, Callable[[], str]] = {
    "headline": headline,
    "headline-index": lambda: headline("../"),
    "robustness": lambda: robustness("imdb-robustness"),
    "robustness-digits": lambda: robustness("digits-robustness"),
    "robustness-spiking": lambda: robustness("digits-spiking-robustness"),
    "asymmetry": lambda: robustness("imdb-asymmetry"),
    "imperfections": imperfections,
    "dynamics": local_learning.dynamics,
    "large-beta": local_learning.nudges,
    "local-optimisers": local_learning.optimisers,
    "few-bits": few_bits,
    "words-start": lambda: seeds("words", "../"),
    "nudges": nudges,
    "words-tried": lambda: seeds("words-tried", "../"),
    "own-data": own_data,
    "start": lambda: runs("imdb", "../", baselines=True),
    "mini": lambda: runs("mini", "../", baselines=True),
    "spikes": spikes,
    "gradients": gradients,
    "gradient-sweep": gradient_sweep,
    "bptt": bptt,
    "less-attention": less_attention,
    "attention-rows": attention_rows,
    "quantised": quantised,
    "shipped": shipped,
    "confidence": confidence,
    "mnist": lambda: runs("mnist", "../"),
    "digits": lambda: runs("digits", "../"),
    "pairs": lambda: seeds("pairs", "../"),
    "pairs-tried": lambda: seeds("pairs-tried", "../"),
    "pairs-few": lambda: seeds("pairs-few", "../"),
    "snli": lambda: runs("snli", "../", baselines=True),
    "combinations": combinations,
    "energy": energy_tables.runs,
    "hardware": energy_tables.hardware,
    "claims": energy_tables.claims,
    "savings": energy_tables.savings,
    "savings-tried": energy_tables.savings_tried,
    "baselines": energy_tables.baselines,
    "prices": energy_tables.prices,
    "dense-speed": speed_tables.dense,
    "tried": speed_tables.tried,
    "spiking-speed": speed_tables.spiking,
    "spiking-speed-words": speed_tables.spiking_words,
    "costs": speed_tables.costs,
    "over-time": speed_tables.over_time,
    "growth": speed_tables.growth,
    "roofline": speed_tables.roofline,
    "latency": speed_tables.latency,
    "scaling": speed_tables.scaling,
    "scaling-measured": speed_tables.scaling_measured,
    "whole": speed_tables.whole,
    "parts": speed_tables.parts,
    "ways": speed_tables.ways,
    "serving": speed_tables.serving,
    "large": speed_tables.large,
    "growth-words": speed_tables.growth_words,
    "scaling-words": speed_tables.scaling_words,
    "faults": faults,
    "fuzz": fuzz,
    "load": load,
    "zoo": zoo,
    "reproduce": reproduce.runs,
    "figures": reproduce.figures,
    "checks": reproduce.checks,
}


def said(found: re.Match[str]) -> str:
    """A percentage in a sentence, with its mark, as its file has it."""
    decimals, mark, file, key = found.groups()
    value: Any = read(file if file.endswith(".json") else f"{file}/result.json")
    for part in (key or "test_accuracy").split("."):
        value = value[int(part) if isinstance(value, list) else part]
    return f"{100 * value:.{max(0, len(decimals or '') - 1)}f}{mark}"


def filled(page: str) -> str:
    """``page`` with every table, and every marked percentage, as the result files have it."""
    page = SAID.sub(said, page)
    return BLOCK.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}\n{found[3]}", page)


def main(pages: tyro.conf.Positional[list[Path]]) -> None:
    """Fill the tables and sentences of Markdown pages.

    Args:
        pages: Files to be filled in place.
    """
    for page in pages:
        page.write_text(filled(page.read_text()))


if __name__ == "__main__":
    tyro.cli(main)
