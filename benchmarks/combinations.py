"""Every neuron × circuit × rule on ``mini``, trained from scratch: accuracy, gradients, spikes, time.

python -m benchmarks.combinations --json results/combinations.json

A row's gradient is compared at initialisation with converged dense Eq. 18 at the same β, on 128 training texts;
sigma-delta's with that of its own network too. What cannot be put together stays in the table with the reason.
"""

import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import tyro

from benchmarks.measure import JsonFile
from eqspike.build import NEURONS, RATE_CIRCUITS, RULES, configure, run
from eqspike.commands.check import rivals
from eqspike_seq.checks.gradients import Extent, check_gradients
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.data.dataset import load_dataset
from eqspike_seq.errors import EqspikeError
from eqspike_seq.files import write_json
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.environment import environment
from neuromorphic.rate_code import RateCode

TEXTS = 128


def row(neuron: str, circuit: str, rule: str, limit: int | None, seed: int) -> dict[str, Any]:
    """One combination."""
    about: dict[str, Any] = {"neuron": neuron, "circuit": circuit, "rule": rule}
    with tempfile.TemporaryDirectory() as place:
        try:
            settings: dict[str, Any] = {"neuron": neuron, "circuit": circuit, "rule": rule, "seed": seed}
            config = configure("mini", "spiking", **settings, limit=limit, out=Path(place) / "run")
            reporter = Reporter()
            reporter.console.quiet = True
            dataset = load_dataset(config.data)
            windows = (config.backend.window,) if isinstance(config.backend, RateCode) else ()
            extent = Extent(TEXTS, (config.learning.beta,), rivals(config, windows))
            found = check_gradients(config, dataset, None, extent, reporter)
            result = run(config, reporter)
        except EqspikeError as error:
            return {**about, "reason": str(error)}
    for reference in ("eq18", "offset"):
        records = [record for record in found.records if record.reference == reference]
        about |= {f"{reference}_{record.parameter}": record.cosine for record in records}
    kept = ("test_accuracy", "validation_accuracy", "train_seconds", "spikes_per_synapse_per_inference")
    return {**about, **{key: result[key] for key in (*kept, "spikes_per_synapse_per_training_sample")}}


def main(json_file: JsonFile, limit: int | None = None, seed: int = 0) -> None:
    """Train them all; what is in the file already is not done again.

    Args:
        json_file: Where the figures go, after every row.
        limit: Texts of each split.
        seed: Seed of the weights and of the order of the texts.
    """
    rows: list[dict[str, Any]] = json.loads(json_file.read_text())["rows"] if json_file.exists() else []
    done = {(r["neuron"], r["circuit"], r["rule"]) for r in rows}
    reporter = Reporter()
    for combination in itertools.product(NEURONS, RATE_CIRCUITS, RULES):
        if combination in done:
            continue
        rows.append(row(*combination, limit, seed))
        write_json(
            json_file,
            {
                "format": FORMAT,
                "limit": limit,
                "seed": seed,
                "texts": TEXTS,
                "environment": environment(),
                "rows": rows,
            },
        )
        reporter.out.print(rows[-1])


if __name__ == "__main__":
    tyro.cli(main)
