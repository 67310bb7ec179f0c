"""Parity with an independent simulator: every spike of every neuron in all three phases."""

from pathlib import Path

import numpy as np
import pytest
import torch

from neuromorphic.brian import BrianBackend, standalone_stack
from neuromorphic.neurons import IntegrateAndFire
from neuromorphic.rate_code import SpikingBackend
from tests.conftest import make_batch, make_network


def test_every_spike_time_equals_brians() -> None:
    network, batch = make_network(), make_batch(3)  # N = 6, D = 4, 8-5-2, float64
    torch_backend, brian = SpikingBackend(dtype=torch.float64), BrianBackend()
    ours, theirs = torch_backend.free(network, batch), brian.free(network, batch)
    phases = zip(
        [torch_backend.free(network, batch, record=True)]
        + torch_backend.nudge(network, batch, ours, (0.5, -0.5), record=True),
        [theirs, *brian.nudge(network, batch, theirs, (0.5, -0.5))],
        strict=True,
    )
    trains = []
    for mine, other in phases:
        for layer in ("s2", "s3", "s4"):
            spikes = mine.trace[f"spikes_{layer}"]
            assert spikes.shape[0] == 200 and 0 < spikes.double().mean() < 1
            assert torch.equal(spikes, other.trace[f"spikes_{layer}"]), layer
        torch.testing.assert_close(mine.rates.projection, other.rates.projection, atol=1e-12, rtol=0)
        torch.testing.assert_close(mine.residual, other.residual, atol=1e-12, rtol=0)
        torch.testing.assert_close(mine.events, other.events)
        assert mine.ledger == other.ledger
        trains.append(mine.trace["spikes_s4"])
    assert not torch.equal(trains[1], trains[2])  # the nudges do something


@pytest.mark.slow
def test_every_spike_time_equals_that_of_brians_c_plus_plus(tmp_path: Path) -> None:
    network = make_network()
    weights = [w.numpy() for w in network.weights]
    biases = [b.numpy() for b in network.biases]
    current = np.random.default_rng(0).normal(size=8)
    theirs = standalone_stack(weights, biases, current, 200, tmp_path / "code")
    neuron = IntegrateAndFire()
    states = [neuron.rest(torch.zeros(1, len(b), dtype=torch.float64)) for b in biases]
    z = [torch.zeros(1, len(b), dtype=torch.float64) for b in biases]
    for step in range(200):
        fired = []
        for i in range(3):
            below = torch.from_numpy(current) if i == 0 else z[i - 1] @ network.weights[i].T
            u = below + network.biases[i] + (z[i + 1] @ network.weights[i + 1] if i < 2 else 0)
            states[i], spikes = neuron.step(states[i], u)
            fired.append(spikes)
            assert np.array_equal(spikes.numpy()[0], theirs[i][step]), (step, i)
        z = fired
