from dataclasses import replace

import pytest
import torch

from eqspike_seq.learning.estimators import ThreePhase
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network, Shape
from eqspike_seq.relaxation.dense import DenseBackend
from neuromorphic.neurons import Bernoulli, LeakyIntegrateAndFire, Neuron
from neuromorphic.rate_code import SpikingBackend
from tests.conftest import make_batch, make_network

DENSE = DenseBackend(tolerance=1e-6)
SPIKING = SpikingBackend(free_steps=400, nudge_steps=400, window=300, tick_steps=10)


def pair(attention: bool = True) -> tuple[Network, Batch]:
    return make_network((16, 6), 8, 6, dtype=torch.float32, attention=attention), make_batch(
        24, 8, 6, dtype=torch.float32
    )


@pytest.mark.parametrize("attention", [True, False])
def test_spike_counts_settle_at_the_dense_fixed_point(attention: bool) -> None:
    network, batch = pair(attention)
    dense, spiking = DENSE.free(network, batch).rates, SPIKING.free(network, batch).rates
    for rate, truth in zip(spiking.layers, dense.layers, strict=True):
        assert (rate - truth).abs().max() < 0.05 and (rate - truth).abs().mean() < 0.01
    assert (spiking.projection - dense.projection).abs().mean() < 0.02


def test_error_of_the_rates_falls_as_the_window_grows() -> None:
    network, batch = pair()
    truth = DENSE.free(network, batch).rates.layers[0]
    errors = []
    for window in (50, 200, 800):
        backend = SpikingBackend(free_steps=window + 200, nudge_steps=200, window=window, tick_steps=10)
        errors.append(float((backend.free(network, batch).rates.layers[0] - truth).abs().mean()))
    assert errors[1] < errors[0] / 2.5 and errors[2] < errors[1] / 2  # about 1/window


@pytest.mark.parametrize("attention", [True, False])
def test_spike_count_updates_point_where_eq18_points(attention: bool) -> None:
    network, batch = pair(attention)
    truth = ThreePhase(0.5)(DENSE, network, batch).gradients
    found = ThreePhase(0.5)(replace(SPIKING, free_steps=1000, nudge_steps=1000, window=900), network, batch).gradients
    for name, value in truth.items():
        cosine = float(torch.cosine_similarity(found[name].flatten().double(), value.flatten().double(), 0))
        assert cosine > (0.8 if name == "w1" else 0.9), (name, cosine)


def test_nudges_start_from_one_state_so_equal_nudges_are_equal_spike_for_spike() -> None:
    network, batch = pair()
    network, batch = network.to(torch.float64), replace(batch, x=batch.x.double())
    backend = replace(SPIKING, dtype=torch.float64)  # where no rounding comes between rows of one product
    free = backend.free(network, batch)
    one, two = backend.nudge(network, batch, free, (0.3, 0.3), record=True)
    for layer in ("s2", "s3", "s4"):
        assert torch.equal(one.trace[f"spikes_{layer}"], two.trace[f"spikes_{layer}"])


def test_counts_are_integers_of_at_most_one_spike_a_step() -> None:
    network, batch = pair()
    found = SPIKING.free(network, batch, record=True)
    for index, rate in enumerate(found.rates.layers, start=2):
        counts = rate * SPIKING.window
        torch.testing.assert_close(counts, counts.round(), atol=1e-3, rtol=0)
        assert counts.min() >= 0 and counts.max() <= SPIKING.window
        raster = found.trace[f"spikes_s{index}"][-SPIKING.window :]
        torch.testing.assert_close(raster.sum(0).float(), counts.round())


def test_final_reading_is_the_count_over_the_window() -> None:
    network, batch = pair()
    found = SPIKING.free(network, batch)
    assert len(found.outputs) == SPIKING.free_steps // SPIKING.tick_steps
    torch.testing.assert_close(found.outputs[-1], found.rates.output, atol=2e-5, rtol=0)  # but for the tie-break


def test_runs_without_autograd() -> None:
    network, batch = pair()
    network.weights[0].requires_grad_()
    with torch.no_grad():
        gradients = ThreePhase(0.5)(SPIKING, network, batch).gradients
    assert not any(g.requires_grad for g in gradients.values())


def test_ledger_agrees_with_a_count_by_hand() -> None:
    """One text of 2 real tokens (of 3), D = 2, 3-2 units above: every spike looked at one by one."""
    network = Network.create(Shape(3, 2, (3,), 2), torch.Generator().manual_seed(3))
    x = torch.randn(1, 1, 3, 2, generator=torch.Generator().manual_seed(4))
    x[0, 0, 2] = 0
    batch = Batch(x, torch.tensor([[[True, True, False]]]), torch.tensor([1]))
    backend = SpikingBackend(free_steps=40, nudge_steps=40, window=20, tick_steps=10)
    found = backend.free(network, batch, record=True)
    hidden = output = synaptic_hidden = synaptic_output = 0
    for step in range(40):
        for unit in range(3):
            if found.trace["spikes_s2"][step, 0, unit]:
                hidden += 1
                synaptic_hidden += 2 + 4  # 2 output units above; 2 real tokens × 2 dimensions below
        for unit in range(2):
            if found.trace["spikes_s3"][step, 0, unit]:
                output += 1
                synaptic_output += 3
    assert hidden > 0 and output > 0
    counts = found.ledger.counts
    assert counts["s2"]["free"]["spikes"] == hidden
    assert counts["s2"]["free"]["synaptic_events"] == synaptic_hidden == counts["s2"]["free"]["accumulates"]
    assert counts["s3"]["free"]["spikes"] == output
    assert counts["s3"]["free"]["synaptic_events"] == synaptic_output
    assert counts["s1"]["free"]["graded_events"] == 4 * 4  # 4 ticks × 4 real units of s¹
    assert counts["s1"]["free"]["synaptic_events"] == 4 * 4 * 3
    assert counts["s1"]["free"]["multiply_accumulates"] == 4 * 4 * 3
    assert counts["w1"]["free"]["multiply_accumulates"] == 2 * 2 * 2  # x w₁, once
    assert counts["hopattn"]["free"]["multiply_accumulates"] == 4 * (2 * 2 * 2 + 2 * 2 * 2)
    assert found.ledger.synapses == {"w2": 2 * 4 * 3, "w3": 2 * 3 * 2}
    expected = (4 * 4 * 3 + synaptic_hidden + synaptic_output) / (24 + 12)
    assert found.ledger.spikes_per_synapse() == pytest.approx(expected)
    assert int(found.events[-1, 0]) == 4 * 4 * 3 + synaptic_hidden + synaptic_output


def test_ledgers_add_up() -> None:
    network, batch = pair()
    whole = SPIKING.free(network, batch).ledger
    parts = SPIKING.free(network, Batch(batch.x[:9], batch.mask[:9], batch.labels[:9])).ledger
    parts += SPIKING.free(network, Batch(batch.x[9:], batch.mask[9:], batch.labels[9:])).ledger
    assert parts == whole


def test_without_attention_s1_spikes_are_counted() -> None:
    network, batch = pair(attention=False)
    found = replace(SPIKING, free_steps=300, window=300).free(network, batch).ledger.counts["s1"]["free"]
    assert found["spikes"] > 0 and found["graded_events"] == 0
    assert found["synaptic_events"] == found["spikes"] * 16 == found["accumulates"]


def test_low_precision_products_leave_the_nudged_contrast_intact() -> None:
    network, batch = pair()
    full = ThreePhase(0.5)(SPIKING, network, batch).gradients
    low = ThreePhase(0.5)(replace(SPIKING, dtype=torch.bfloat16), network, batch).gradients
    for name, value in full.items():
        assert torch.cosine_similarity(low[name].flatten(), value.flatten(), 0) > 0.8, name


@pytest.mark.parametrize("neuron", [LeakyIntegrateAndFire(1e9), Bernoulli()], ids=["lif", "bernoulli"])
@pytest.mark.parametrize("attention", [True, False])
def test_other_neurons_settle_at_the_dense_fixed_point(neuron: Neuron, attention: bool) -> None:
    network, batch = pair(attention)
    dense = DENSE.free(network, batch).rates
    found = replace(SPIKING, free_steps=2000, window=1800, nudge_steps=2000, neuron=neuron).free(network, batch).rates
    for rate, truth in zip(found.layers, dense.layers, strict=True):
        assert (rate - truth).abs().mean() < 0.02


def test_same_random_numbers_in_both_nudges_rescue_stochastic_neurons() -> None:
    network, batch = pair()
    truth = ThreePhase(0.5)(DENSE, network, batch).gradients
    cosines = {}
    for common in (True, False):
        backend = replace(SPIKING, neuron=Bernoulli(common))
        found = ThreePhase(0.5)(backend, network, batch).gradients
        cosines[common] = float(torch.cosine_similarity(found["w3"].flatten(), truth["w3"].flatten(), 0))
    assert cosines[True] > 0.9 and cosines[True] > cosines[False] + 0.05, cosines


def test_random_numbers_are_those_of_the_batch_seed() -> None:
    network, batch = pair()
    backend = replace(SPIKING, neuron=Bernoulli())
    one, again = backend.free(network, batch), backend.free(network, batch)
    other = backend.free(network, replace(batch, seed=5))
    assert torch.equal(one.rates.layers[0], again.rates.layers[0])
    assert not torch.equal(one.rates.layers[0], other.rates.layers[0])
