"""What feedback does at inference: a run with pooling queries, tested again with a temperature that leaves none.

python -m benchmarks.feedback runs/imdb-dense-seed0 --json results/feedback.json

As τ → ∞ nothing of s² comes back to the queries, which then look at a text as they do by themselves.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import tyro

from benchmarks.measure import JsonFile
from eqspike.build import config_of, make_backend
from eqspike_seq.checks.gradients import stages
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.data.dataset import load_dataset
from eqspike_seq.files import write_json
from eqspike_seq.learning.evaluation import evaluate
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.environment import environment

NO_FEEDBACK = 1e9


@torch.no_grad()
def main(runs: tyro.conf.Positional[tuple[Path, ...]], json_file: JsonFile) -> None:
    """Test each run with its feedback and without.

    Args:
        runs: Folders of finished runs with pooling queries.
        json_file: Where the figures go.
    """
    reporter, rows = Reporter(), list[dict[str, Any]]()
    for path in runs:
        config = config_of(path)
        data = load_dataset(config.data, reporter.status)
        end = stages(config, data, path)[-1]
        row: dict[str, Any] = {"run": path.name}
        for name, temperature in (("feedback", end.network.shape.temperature), ("none", NO_FEEDBACK)):
            network = replace(end.network, shape=replace(end.network.shape, temperature=temperature))
            for part, split in (("validation", data.validation), ("test", data.test)):
                found = evaluate(make_backend(config), network, end.gather, split, config.learning.batch)
                row[f"{name}_{part}_accuracy"] = found.accuracy
                row[f"{name}_sweeps"] = float(found.steps.mean())
        rows.append(row)
        reporter.out.print(row)
    write_json(json_file, {"format": FORMAT, "environment": environment(), "rows": rows})


if __name__ == "__main__":
    tyro.cli(main)
