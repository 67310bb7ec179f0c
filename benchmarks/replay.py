"""Spikes that eqspike has recorded, played on SANA-FE's model of a chip; run by the Python that has SANA-FE, alone.

PYTHON benchmarks/replay.py RECORDED.json PLAYED.json

``benchmarks.prices`` writes RECORDED: for each text its layers, each with the number of its units, and ``events``: in
each step [unit, how many spikes] of those that fire, or none at all for units that only receive. Neighbouring layers
are joined all to all, both ways. A unit that sends is a leaky integrate-and-fire neuron of the chip that its bias makes
fire in the steps recorded; all weights are 0, so that nothing else does. Units that only receive cost nothing
themselves: they stand for a circuit beside the chip. A neuron fires once a step, so that a step in which a unit sends n
spikes takes n steps of the chip. Each layer has cores of its own, as few as its units need.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import sanafe

PER_CORE = 1024  # neurons
LEVEL = {"threshold": 1.0, "reset": 0.0, "leak_decay": 0.0}


def built(layers: list[dict[str, Any]], always: bool) -> Any:
    """The chip with the layers of a text on it; ``always``: a neuron is updated in every step, heard or not."""
    arch, network = sanafe.load_loihi(), sanafe.Network()
    cores, free, groups = arch.cores(), 0, []
    for index, layer in enumerate(layers):
        sends = layer["events"] is not None
        settings = {**LEVEL, "force_update": always} if sends else {}
        group = network.create_neuron_group(f"s{index + 1}", layer["units"], settings)
        for place, neuron in enumerate(group):
            if not sends:
                neuron.set_attributes(soma_hw_name=f"loihi_inputs[{place % PER_CORE}]")
            neuron.map_to_core(cores[free + place // PER_CORE])
        free += -(-layer["units"] // PER_CORE)
        groups.append(group)
    for index, layer in enumerate(layers):
        for other in (index - 1, index + 1):
            if layer["events"] is not None and 0 <= other < len(layers):
                weights = [0.0] * (layer["units"] * layers[other]["units"])
                groups[index].connect_neurons_dense(groups[other], {"weight": weights})
    chip = sanafe.SpikingChip(arch)
    chip.load(network)
    return chip


def played(text: dict[str, Any]) -> dict[str, Any]:
    """Joules by part of the chip, and what it counted."""
    chip = built(text["layers"], text["always"])
    neurons = chip.mapped_neuron_groups
    sums: dict[str, Any] = {"energy": {}, "spikes": 0, "packets_sent": 0, "neurons_updated": 0, "neurons_fired": 0}
    on: set[tuple[str, int]] = set()
    steps = 0
    for step in range(text["steps"]):
        due = {
            (f"s{index}", unit): times
            for index, layer in enumerate(text["layers"], start=1)
            for unit, times in (layer["events"][step] if layer["events"] is not None else ())
        }
        for again in range(max(due.values(), default=1)):
            now = {place for place, times in due.items() if times > again}
            for name, unit in now ^ on:
                neurons[name][unit].set_attributes(model_attributes={"bias": 2.0 if (name, unit) in now else 0.0})
            on, found = now, chip.sim(1, timing_model="simple")
            steps += 1
            for part, joules in found["energy"].items():
                sums["energy"][part] = sums["energy"].get(part, 0.0) + joules
            for name in ("spikes", "packets_sent", "neurons_updated", "neurons_fired"):
                sums[name] += found[name]
    return {**sums, "steps": steps}


if __name__ == "__main__":
    recorded = json.loads(Path(sys.argv[1]).read_text())
    Path(sys.argv[2]).write_text(
        json.dumps({"version": version("sanafe"), "texts": [played(text) for text in recorded]})
    )
