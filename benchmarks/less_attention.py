"""Accuracy against attention operations: a trained sigma-delta network whose HopAttn is computed less.

python -m benchmarks.less_attention RUN --json results/less-attention.json

On the validation split, nothing retrained. Operations of HopAttn are multiply-accumulates, plus additions where queries
are sent as spikes; the yardstick is one full softmax over all real tokens in every sweep that the network as trained
takes until a text is silent.
"""

from pathlib import Path
from typing import Any

import torch
import tyro

from benchmarks.measure import JsonFile
from eqspike.build import config_of, make_backend, varied
from eqspike_seq.checks.gradients import stages
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.data.batches import Batches
from eqspike_seq.data.dataset import load_dataset
from eqspike_seq.files import write_json
from eqspike_seq.learning.evaluation import evaluate
from eqspike_seq.ledger import layer_products
from eqspike_seq.phases import Phase
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.environment import environment

VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    *({"attention_threshold": threshold} for threshold in (0.05, 0.1, 0.15, 0.2)),
    *({"top_patterns": patterns} for patterns in (16, 64)),
    *({"query_threshold": threshold} for threshold in (0.5, 1.0)),
    {"query_threshold": 0.5, "attention_threshold": 0.15},
    {"query_threshold": 0.5, "circuit": "wta"},
    {"query_threshold": 0.5, "attention_threshold": 0.15, "circuit": "wta"},
)


@torch.no_grad()
def main(run: tyro.conf.Positional[Path], json_file: JsonFile) -> None:
    """Evaluate a run's network with each setting.

    Args:
        run: A run folder with --neuron sigma-delta.
        json_file: Where the figures go.
    """
    reporter, config = Reporter(), config_of(run)
    data = load_dataset(config.data, reporter.status)
    gather = Batches.of(config, data)
    network = stages(config, data, run)[-1].network
    tokens = torch.tensor(data.validation.starts[1:] - data.validation.starts[:-1]).clamp(max=config.data.rows)
    mask = torch.arange(config.data.rows) < tokens.view(-1, 1, 1)
    full = layer_products(network.shape, mask)["hopattn"].double()  # one softmax, by text
    rows: list[dict[str, Any]] = []
    every_sweep = 0.0
    for changes in VARIANTS:
        backend = make_backend(varied(config, **changes))
        found = evaluate(backend, network, gather, data.validation, config.learning.batch)
        counts = found.ledger.counts
        products = counts["hopattn"][Phase.FREE]["multiply_accumulates"] / len(data.validation)
        added = sum(counts.get(name, {}).get(Phase.FREE, {}).get("accumulates", 0) for name in ("query", "hopattn"))
        every_sweep = every_sweep or float((full * torch.from_numpy(found.steps)).mean())  # the network as trained
        rows.append(
            {
                "changes": changes,
                "validation_accuracy": found.accuracy,
                "products_per_inference": products,
                "additions_per_inference": added / len(data.validation),
                "fewer_products": every_sweep / products if products else None,
                "fewer_operations": every_sweep / (products + added / len(data.validation)),
                "spikes_per_synapse": found.ledger.spikes_per_synapse(),
                "steps": float(found.steps.mean()),
            }
        )
        reporter.out.print(rows[-1])
    about = {"settings": config.computed(), "environment": environment(), "texts": len(data.validation)}
    write_json(json_file, {"format": FORMAT, "operations_of_a_softmax_every_sweep": every_sweep, **about, "rows": rows})


if __name__ == "__main__":
    tyro.cli(main)
