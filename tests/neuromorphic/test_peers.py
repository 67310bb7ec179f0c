"""Our counts of synaptic operations against those of NeuroBench and SpikingJelly, on the same spikes and weights."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from eqspike_seq.ledger import sweep_products
from neuromorphic.neurons import IntegrateAndFire
from neuromorphic.rate_code import SpikingBackend
from tests.conftest import make_clamped

STEPS = 40
MISSING = "not installed: pip install --no-deps --requirement requirements.lock"


def connections() -> tuple[list[tuple[Tensor, nn.Linear]], int, int]:
    """((spikes (steps·B, pre), the layer that they pass) of each direction, our accumulates, our dense products)."""
    network, batch = make_clamped()
    network, batch = network.to(torch.float32), replace(batch, x=batch.x.float())
    found = SpikingBackend(STEPS, STEPS, 20, 10).free(network, batch, record=True)
    neuron, current = IntegrateAndFire(), 2 * batch.x.flatten(1).unsqueeze(1)
    state, pixels = neuron.rest(current), []
    for _ in range(STEPS):
        state, z = neuron.step(state, current)
        pixels.append(z[:, 0])
    trains = [torch.stack(pixels), *(found.trace[f"spikes_s{index}"].float() for index in (2, 3, 4))]
    made = []
    for index, weight in enumerate(network.weights):
        pairs = [(trains[index], weight)]
        if index:  # back down; nothing goes down to pixels
            pairs.append((trains[index + 1], weight.T))
        for spikes, matrix in pairs:
            layer = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False)
            layer.weight = nn.Parameter(matrix.clone(), requires_grad=False)
            made.append((spikes.flatten(0, 1), layer))
    dense = int(sweep_products(network.shape, batch.mask).sum()) + len(batch) * network.weights[0].numel()
    return made, found.ledger.total("accumulates"), dense


def test_neurobench_counts_the_same_effective_accumulates_and_dense_operations() -> None:
    layers = pytest.importorskip("neurobench.metrics.utils.layers", reason=f"neurobench is {MISSING}")
    made, ours, dense = connections()
    effective = total = 0
    for spikes, layer in made:
        operations, spiking = layers.single_layer_MACs(spikes, layer)
        assert spiking
        effective += int(operations)
        total += int(layers.single_layer_MACs(spikes, layer, total=True)[0])
    assert effective == ours > 0
    assert total == dense * STEPS  # what a dense network of as many steps multiplies


def test_spikingjelly_counts_the_same_synaptic_operations() -> None:
    counters = pytest.importorskip("spikingjelly.activation_based.op_counter", reason=f"spikingjelly is {MISSING}")
    made, ours, _ = connections()
    counter = counters.SynOpCounter()
    with counters.DispatchCounterMode([counter]):
        for spikes, layer in made:
            layer(spikes)
    assert int(counter.get_total()) == ours
