"""What lowers the energy of change codes with pooling queries, one thing after another.

python -m benchmarks.savings imdb imdb-small --json results/savings.json

Each step keeps those before it. The first hardware stores every occurrence of a pattern and reads HopAttn at each of
the T time steps, and at each of the K of a nudge. Then

    distinct    equal patterns are stored once, with their count
    silent      a text in which nobody sends takes no more steps
    changed     HopAttn is read where s² has sent something since: this is the run as it was trained
    moved       a row is read again only where its query has moved by ``THRESHOLD`` (root mean square)
    bits        the table of vectors holds numbers of ``BITS`` bits, symmetric, one scale a component

The answers of the first four are the same: the ledger of the run is read as if the hardware did more. The last two are
evaluated. ``THRESHOLD`` and ``BITS`` were chosen on validation, among those in ``tried``, where patterns of small share
are left out too: at its first reading a text keeps those that hold a share of what each query sees, ``LEFT``, and no
others come back. An inference is of the test split; a training sample is of ``REFERENCE`` training texts, words left
out, by the weights at the end. ``trained`` are runs that had the threshold in training.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from torch import Tensor

from analysis.energy import DIGITAL, part_of
from analysis.folders import open_run
from benchmarks.measure import JsonFile, command
from benchmarks.quantised import quantised
from eqspike.build import config_of, configure, make_backend, run, varied
from eqspike_seq.checks.gradients import Stage, stages
from eqspike_seq.config.settings import FORMAT, RunConfig
from eqspike_seq.data.dataset import Dataset, load_dataset
from eqspike_seq.data.encoding import Encoded
from eqspike_seq.files import write_json
from eqspike_seq.learning.cost import training_ledger
from eqspike_seq.learning.estimators import make_estimator
from eqspike_seq.learning.evaluation import REFERENCE, Evaluation, evaluate
from eqspike_seq.ledger import HopAttnActivity, Ledger, load, row_tokens
from eqspike_seq.model.attention import BLOCKED, weights
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Shape
from eqspike_seq.model.projection import DenseProjection, Inputs
from eqspike_seq.phases import RELAXED, Phase
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.environment import environment
from neuromorphic.attention.gated import Gated, GatedProjection, Texts
from neuromorphic.change_code import SigmaDeltaBackend
from neuromorphic.pricing import CostTable, read_table

THRESHOLD, BITS = 0.05, 8
THRESHOLDS, WIDTHS, LEFT = (0.01, 0.02, 0.05, 0.1), (8, 6, 4, 3), (0.99, 0.95, 0.9, 0.8, 0.6, 0.4)
TABLES = (DIGITAL, "loihi")  # the second has static power
AS_TRAINED = ("every occurrence", "distinct", "silent", "changed")

Name = Literal["imdb", "imdb-small"]


def stored_at(table: CostTable, bits: int) -> CostTable:
    """``table`` where the vectors of patterns are words of so many ``bits``: to look them up, to store them in HopAttn
    and to fetch them takes less in proportion. Products with them stay as they are."""
    prices = dict(table.prices)
    for kind in {"lookup_reads", "pattern_writes", "pattern_reads"} & prices.keys():
        ends = {end: getattr(prices[kind], end) * bits / table.word_bits for end in ("value", "low", "high")}
        prices[kind] = prices[kind].model_copy(update=ends)
    return table.model_copy(update={"prices": prices, "title": f"{table.title}, vectors at {bits} bits"})


def reread(found: Ledger, shape: Shape, phase: Phase, stored: Tensor, readings: Tensor) -> Ledger:
    """The ledger of one phase of texts (n,), had each ``stored`` so many patterns and read them at so many moments.

    A unit of s¹ is updated at each reading of its row, which reads and writes two words of state.
    """
    made, mask = Ledger(), torch.arange(int(stored.max())) < stored.view(-1, 1, 1)
    made += found
    for layer in ("input", "q", "hopattn"):
        made.counts.pop(layer, None)
    if phase == Phase.FREE:
        load(made, shape, mask)
    rows = readings.unsqueeze(1) * row_tokens(shape, mask)[0]
    HopAttnActivity(rows, readings).count(made, shape, mask, phase)
    s1 = made.counts["s1"][phase]
    more = int(rows.sum()) * shape.dim - s1["neuron_updates"]
    idle = min(more, s1["idle_updates"])
    made.add("s1", phase, neuron_updates=more, idle_updates=-idle, state_reads=2 * more, state_writes=2 * more)
    return made


def in_every_step(found: Ledger, shape: Shape, phase: Phase, stored: Tensor, steps: Tensor) -> Ledger:
    """The same, read in each of ``steps`` (n,), which each text takes whether anybody sends or not."""
    made, more = reread(found, shape, phase, stored, steps), int(steps.sum()) - found.steps[phase]
    made.steps[phase] += more
    for index, size in enumerate(shape.sizes[1:], start=2):
        made.add(f"s{index}", phase, idle_updates=more * size)
    return made


def variants(distinct: Tensor, occurrences: Tensor, steps: Tensor, limit: int) -> dict[str, tuple[Tensor, Tensor]]:
    """(patterns stored, steps taken) of each text (n,), for what is not yet saved."""
    all_of_them = torch.full_like(steps, limit)
    return {
        "every occurrence": (occurrences, all_of_them),
        "distinct": (distinct, all_of_them),
        "silent": (distinct, steps),
    }


def occurrences(part: Encoded) -> Tensor:
    """Patterns of each text with all their occurrences, (n,)."""
    assert part.counts is not None
    ends = np.concatenate([[0], np.cumsum(part.counts, dtype=np.int64)])[part.starts]
    return torch.from_numpy(np.diff(ends))


def inferences(found: Evaluation, shape: Shape, part: Encoded, limit: int) -> dict[str, Ledger]:
    """The ledger of a split for each of ``AS_TRAINED``."""
    each = variants(torch.from_numpy(part.lengths()), occurrences(part), torch.from_numpy(found.steps), limit)
    made = {name: in_every_step(found.ledger, shape, Phase.FREE, *counts) for name, counts in each.items()}
    return {**made, "changed": found.ledger}


@torch.no_grad()
def training_samples(config: RunConfig, backend: SigmaDeltaBackend, stage: Stage, part: Encoded) -> dict[str, Ledger]:
    """The same of learning from ``REFERENCE`` texts of ``part``, in batches."""
    shape, learning, rng = stage.network.shape, config.learning, np.random.default_rng(config.run.seed)
    rows = np.sort(np.random.default_rng(0).permutation(len(part))[:REFERENCE])
    made = {name: Ledger() for name in AS_TRAINED}
    for chunk in np.array_split(rows, -(-len(rows) // learning.batch)):
        batch = stage.gather.lookup(part, chunk, learning.word_dropout, rng)
        assert batch.counts is not None
        phases = make_estimator(learning)(backend, stage.network, batch).equilibria
        distinct, whole = batch.mask[:, 0].sum(1), batch.counts[:, 0].sum(1).long()
        seen = len(batch.ids.unique()) - int((batch.ids == 0).any())
        taken: dict[str, list[Ledger]] = {name: [] for name in AS_TRAINED}
        for phase, found in zip(RELAXED, phases, strict=True):
            limit = backend.free_steps if phase == Phase.FREE else backend.nudge_steps
            for name, counts in variants(distinct, whole, found.steps, limit).items():
                taken[name].append(in_every_step(found.ledger, shape, phase, *counts))
            taken["changed"].append(found.ledger)
        for name, ledgers in taken.items():
            stored = whole if name == "every occurrence" else distinct
            mask = torch.arange(int(stored.max())) < stored.view(-1, 1, 1)
            made[name] += training_ledger(shape, mask, ledgers, learning.optimizer, patterns=seen)
    return made


def narrow(table: Tensor, bits: int) -> Tensor:
    """Vectors (V + 1, D) of so many bits, one scale a component, which w₂ and q can hold as well."""
    return torch.stack([quantised(component, bits) for component in table.unbind(1)], 1)


@dataclass(frozen=True)
class KeepMost(Gated):
    """HopAttn that looks at all patterns at first, then at those that hold a ``share`` of what some query saw.

    ``held`` gets, of the texts of each batch, the sums of: patterns that hold it for one query, of all, kept.
    """

    share: float = 1.0
    held: list[tuple[float, int, int]] = field(default_factory=list)

    def projection(self, layer: DenseProjection, batch: Batch) -> "KeepingProjection":
        """Before anything has been computed."""
        return KeepingProjection(layer, batch, self)


class KeepingProjection(GatedProjection):
    """Its free phase; ``left_out`` (B, P, 1, N) once there was a reading."""

    def __init__(self, layer: DenseProjection, batch: Batch, circuit: KeepMost) -> None:
        super().__init__(layer, batch, 0.0, 0.0)
        self.circuit, self.mask, self.left_out = circuit, batch.mask, torch.empty(0, dtype=torch.bool)

    def _mixed(self, query: Tensor, inputs: Inputs, texts: Texts) -> Tensor:
        assert inputs.bias is not None
        if len(self.left_out):
            fewer = inputs.bias.masked_fill(self.left_out[texts], BLOCKED)
            return super()._mixed(query, replace(inputs, bias=fewer), texts)
        p = weights(query, inputs.patterns, inputs.bias)
        kept = holding(p, self.circuit.share) & self.mask.unsqueeze(2)
        self.left_out = ~kept.any(2, keepdim=True)
        stored = int(self.mask.sum())
        self.circuit.held.append((float(kept.sum()) / kept.shape[2], stored, int((~self.left_out).sum())))
        return p @ inputs.patterns


def holding(p: Tensor, share: float) -> Tensor:
    """The fewest patterns that hold ``share`` of each row of p (…, N)."""
    values, places = p.sort(-1, descending=True)
    return torch.zeros_like(p, dtype=torch.bool).scatter(-1, places, values.cumsum(-1) - values < share)


def left_out(found: Evaluation, held: list[tuple[float, int, int]], dim: int) -> dict[str, float]:
    """What keeping most would save of HopAttn: of r readings, weighted by patterns, all but the first see few."""
    query, stored, kept = (sum(column) for column in zip(*held, strict=True))
    readings = found.ledger.counts["hopattn"][Phase.FREE]["pattern_reads"] / (2 * dim * stored)
    saved = (readings - 1) * (1 - kept / stored) / readings
    return {"held_for_a_query": query / stored, "kept": kept / stored, "readings": readings, "saved_of_hopattn": saved}


def tried(config: RunConfig, backend: SigmaDeltaBackend, stage: Stage, part: Encoded) -> list[dict[str, Any]]:
    """Accuracy on ``part``, the validation split, of all that was tried, and what HopAttn or the table takes then."""
    rows, table, batch = list[dict[str, Any]](), read_table(DIGITAL), config.learning.batch

    def add(changes: dict[str, Any], found: Evaluation, prices: CostTable = table, **others: Any) -> None:
        joules = part_of(found.ledger, prices)
        of = {name: joules["components"][name]["value"] for name in ("HopAttn", "loading")}
        rows.append({"changes": changes, "validation_accuracy": found.accuracy, **others, "joules": of})

    add({}, evaluate(backend, stage.network, stage.gather, part, batch))
    for threshold in THRESHOLDS:
        other = with_threshold(config, threshold)
        add({"attention_threshold": threshold}, evaluate(other, stage.network, stage.gather, part, batch))
    for share in LEFT:
        circuit = KeepMost(share=share)
        found = evaluate(replace(backend, circuit=circuit), stage.network, stage.gather, part, batch)
        add({"share": share}, found, left_out=left_out(found, circuit.held, stage.network.shape.dim))
    for bits in WIDTHS:
        gather = replace(stage.gather, table=narrow(stage.gather.table, bits))
        add({"bits": bits}, evaluate(backend, stage.network, gather, part, batch), stored_at(table, bits))
    return rows


def with_threshold(config: RunConfig, threshold: float) -> SigmaDeltaBackend:
    """The backend of a run, rows read again where their query has moved by so much."""
    backend = make_backend(varied(config, attention_threshold=threshold))
    assert isinstance(backend, SigmaDeltaBackend)
    return backend


def priced(ledger: Ledger, bits: int | None = None) -> dict[str, Any]:
    """Joules a text by table, in all and by component."""
    tables = {name: read_table(name) if bits is None else stored_at(read_table(name), bits) for name in TABLES}
    made = {name: part_of(ledger, table) for name, table in tables.items()}
    return {name: {key: part[key] for key in ("joules", "components")} for name, part in made.items()}


def steps_of(config: RunConfig, stage: Stage, data: Dataset) -> list[dict[str, Any]]:
    """Accuracy and joules with each saving and all before it."""
    backend, moving, batch = make_backend(config), with_threshold(config, THRESHOLD), config.learning.batch
    assert isinstance(backend, SigmaDeltaBackend)
    shape, rows = stage.network.shape, list[dict[str, Any]]()
    few = replace(stage, gather=replace(stage.gather, table=narrow(stage.gather.table, BITS)))

    def add(names: tuple[str, ...], end: Stage, circuit: SigmaDeltaBackend, bits: int | None = None) -> None:
        splits = (data.validation, data.test)
        validated, tested = (evaluate(circuit, end.network, end.gather, part, batch) for part in splits)
        right = {"validation_accuracy": validated.accuracy, "test_accuracy": tested.accuracy}
        ledgers = inferences(tested, shape, data.test, backend.free_steps)
        learnt = {} if bits else training_samples(config, circuit, end, data.train)
        for name in names:
            inference = priced(ledgers.get(name, tested.ledger), bits)
            training = priced(learnt.get(name, learnt["changed"])) if learnt else None
            rows.append({"step": name, **right, "inference": inference, "training": training})

    add(AS_TRAINED, stage, backend)
    add(("moved",), stage, moving)
    add((f"{BITS} bits",), few, moving, BITS)
    return rows


def finished(preset: Name, seed: int, place: Path, reporter: Reporter, **settings: Any) -> Path:
    """The folder of a run, trained if it is not there."""
    folder = place / "-".join([f"{preset}-seed{seed}", *settings])
    if not (folder / "result.json").is_file():
        given = {"seed": seed, "out": folder, "baseline": False, **settings}
        run(configure("imdb", "spiking", preset, **given), reporter)
    return folder


@torch.no_grad()
def main(
    presets: tyro.conf.Positional[tuple[Name, ...]],
    json_file: JsonFile,
    seeds: tuple[int, ...] = (0, 1, 2),
    runs: Path = Path("runs/savings"),
) -> None:
    """Price networks with pooling queries on change codes; what is in the file already is not done again.

    Args:
        presets: imdb, imdb-small.
        json_file: Where the figures go, after every network.
        seeds: Of the runs.
        runs: Where runs are kept; those that are not there are trained, a minute each.
    """
    reporter = Reporter()
    rows: list[dict[str, Any]] = json.loads(json_file.read_text())["rows"] if json_file.exists() else []
    for preset, seed in ((preset, seed) for preset in presets for seed in seeds):
        if any((row["preset"], row["seed"]) == (preset, seed) for row in rows):
            continue
        path = finished(preset, seed, runs, reporter)
        config = config_of(path)
        data = load_dataset(config.data, reporter.status)
        stage, backend = stages(config, data, path)[-1], make_backend(config)
        assert isinstance(backend, SigmaDeltaBackend)
        again = open_run(finished(preset, seed, runs, reporter, attention_threshold=THRESHOLD))
        row = {
            "preset": preset,
            "seed": seed,
            "tried": tried(config, backend, stage, data.validation),
            "steps": steps_of(config, stage, data),
            "trained": {
                "validation_accuracy": again.result.validation_accuracy,
                "test_accuracy": again.result.test_accuracy,
                "inference": priced(again.ledgers.inference),
                "training": priced(again.ledgers.training),
            },
        }
        rows.append(row)
        reporter.out.print(row["tried"], row["steps"])
        about = {"command": command(), "environment": environment(), "threshold": THRESHOLD, "bits": BITS}
        write_json(json_file, {"format": FORMAT, **about, "rows": rows})


if __name__ == "__main__":
    tyro.cli(main)
