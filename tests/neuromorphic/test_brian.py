"""Parity with an independent simulator: every spike of every neuron in all three phases."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from eqspike_seq.learning.estimators import ThreePhase, TwoPhase
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network
from neuromorphic.brian import Array, BrianBackend, connect, stack
from neuromorphic.neurons import IntegrateAndFire
from neuromorphic.rate_code import SpikingBackend
from tests.conftest import command, make_batch, make_network
from tests.eqspike_seq.test_pooling import pooling, texts


def assert_same_in_all_phases(network: Network, batch: Batch) -> None:
    """Every spike of every neuron, s¹, and what is reported of a phase."""
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
        for course in ("residual", "phi"):
            torch.testing.assert_close(mine.trace[course], other.trace[course], atol=1e-9, rtol=0)
        assert mine.ledger == other.ledger
        trains.append(mine.trace["spikes_s4"])
    assert not torch.equal(trains[1], trains[2])  # the nudges do something


def counted_texts() -> Batch:
    """Six texts of learnt patterns, most of which come more than once; one has a single pattern, one none."""
    given = texts(6)
    given.ids[1, 0, 1:] = given.ids[2] = 0
    assert given.counts is not None
    assert (given.ids > 0).sum((1, 2)).tolist() == [4, 1, 0, 5, 5, 2]
    assert (given.counts[given.ids > 0] > 1).double().mean() > 0.5
    return replace(given, counts=given.counts * (given.ids > 0)).whole()


def pooling_network() -> Network:
    """Its queries hear of s²."""
    network = pooling(temperature=3.0)
    network.weights[0] *= 4
    return network


def test_every_spike_time_equals_brians() -> None:
    assert_same_in_all_phases(make_network(), make_batch(3))  # N = 6, D = 4, 8-5-2, float64


def test_every_spike_time_equals_brians_with_pooling_queries() -> None:
    assert_same_in_all_phases(pooling_network(), counted_texts())


@pytest.mark.parametrize("estimator", [ThreePhase, TwoPhase])
def test_queries_and_patterns_learn_from_brians_spikes_what_they_learn_from_ours(estimator: type) -> None:
    network, batch, backends = pooling_network(), counted_texts(), (BrianBackend(), SpikingBackend(dtype=torch.float64))
    found, truth = (estimator(0.5)(backend, network, batch).gradients for backend in backends)
    assert found.keys() == truth.keys() == {"q", "X", "w2", "b2", "w3", "b3", "w4", "b4"}
    for name, value in truth.items():
        assert value.to_dense().any(), name
        torch.testing.assert_close(found[name].to_dense(), value.to_dense(), rtol=1e-9, atol=1e-14, msg=name)


def test_a_run_of_pooling_queries_learns_as_ours_does(tmp_path: Path) -> None:
    """Ours is in float32, where a spike may come a step early."""
    small = ("--network", "pooling", "--limit", 32, "--epochs", 2, "--dim", 6, "--queries", 2, "--no-baseline")
    losses = []
    for name, backend in (("brian", ["brian2"]), ("ours", ["spiking", "--neuron", "if", "--rule", "count"])):
        command("run", "mini", "--backend", *backend, *small, "--out", tmp_path / name)
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
        command("predict", tmp_path / name, "the film was good", "--explain")
    assert losses[0] == pytest.approx(losses[1], rel=1e-2) and losses[0][1] < losses[0][0]


def standalone_stack(
    weights: list[Array], biases: list[Array], current: Array, steps: int, folder: Path
) -> list[Array]:
    """The layers above s¹ for one text in Brian's C++ standalone mode, under a constant current (H₂,) into s².

    The code is generated, compiled and run in ``folder``. Returns the spikes of each layer, (steps, H).
    """
    import brian2 as b2

    b2.set_device("cpp_standalone", directory=str(folder), build_on_run=False)
    try:
        clock = b2.Clock(dt=1 * b2.ms)
        groups, monitors = stack(b2, clock, biases, 1)
        groups[0].constant_current = biases[0] + current
        synapses = connect(b2, clock, groups, weights, 1)
        b2.Network(*groups, *monitors, *synapses).run(steps * b2.ms, namespace={})
        b2.device.build(directory=str(folder), compile=True, run=True)
        rasters = []
        for monitor, bias in zip(monitors, biases, strict=True):
            raster = np.zeros((steps, len(bias)))
            raster[np.rint(np.asarray(monitor.t / b2.ms)).astype(int), np.asarray(monitor.i)] = 1
            rasters.append(raster)
        return rasters
    finally:
        b2.device.reinit()
        b2.set_device("runtime")


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
