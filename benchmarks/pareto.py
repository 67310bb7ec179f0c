"""Accuracy against energy on ``mini``: the same network trained with codes of different thrift.

python -m benchmarks.pareto --json results/pareto.json

Joules are those of ``eqspike energy`` on 45 nm digital, fp32.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import tyro

from analysis.energy import DIGITAL, energy
from benchmarks.measure import JsonFile
from eqspike.build import configure, run
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.files import write_json
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.environment import environment
from neuromorphic.pricing import read_table

CHANGES = {"neuron": "sigma-delta"}
VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("dense", {}),
    ("spiking", {}),
    ("spiking", CHANGES),
    *(("spiking", {**CHANGES, "projection_threshold": threshold}) for threshold in (0.25, 1.0, 1.5)),
    *(("spiking", {**CHANGES, "attention_threshold": threshold}) for threshold in (0.1, 0.2, 0.4)),
    ("spiking", {**CHANGES, "origin": (0.0,), "threshold": (1.0,)}),
    ("spiking", {**CHANGES, "circuit": "wta"}),
)


def main(json_file: JsonFile, seed: int = 0) -> None:
    """Train them all; what is in the file already is not done again.

    Args:
        json_file: Where the figures go, after every run.
        seed: Seed of all runs.
    """
    rows: list[dict[str, Any]] = json.loads(json_file.read_text())["rows"] if json_file.exists() else []
    done = [(row["backend"], row["changes"]) for row in rows]
    reporter = Reporter()
    for backend, changes in VARIANTS:
        shown = json.loads(json.dumps(changes))
        if (backend, shown) in done:
            continue
        with tempfile.TemporaryDirectory() as place:
            config = configure("mini", backend, **{**changes, "seed": seed, "out": Path(place) / "run"})
            result = run(config, reporter)
            found = energy(Path(place) / "run", [read_table(DIGITAL)], None, None)["hardware"][DIGITAL]
        rows.append(
            {
                "backend": backend,
                "changes": shown,
                "validation_accuracy": result["validation_accuracy"],
                "test_accuracy": result["test_accuracy"],
                "spikes_per_synapse": result["spikes_per_synapse_per_inference"],
                "joules_per_inference": found["inference"]["joules"],
                "joules_per_training_sample": found["training"]["joules"],
            }
        )
        about = {"format": FORMAT, "hardware": DIGITAL, "seed": seed, "environment": environment()}
        write_json(json_file, {**about, "rows": rows})


if __name__ == "__main__":
    tyro.cli(main)
