"""The parts of the benchmarks that could be wrong without anybody noticing."""

from pathlib import Path

import pytest
import torch

from benchmarks.growth import sized
from benchmarks.measure import exponent, in_fresh_process, synthetic, training_batch
from benchmarks.quantised import coarser, quantised
from benchmarks.spiking import current_network, different_counts
from docs.tools.growth import draw_growth
from eqspike_seq.ledger import sweep_products
from eqspike_seq.memory import resident
from eqspike_seq.model.network import Network, Shape
from eqspike_seq.relaxation.stack import ROUNDS
from neuromorphic.neurons import IntegrateAndFire
from neuromorphic.rate_code import SpikingBackend


def hold(size: int) -> tuple[int, int]:
    """(resident before, peak after) holding ``size`` bytes for a moment."""
    before = resident("VmRSS")
    torch.ones(size // 4).sum()
    return before, resident()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_step_loop_fires_as_the_backend_does(dtype: torch.dtype) -> None:
    shape = Shape(12, 8, (16, 6), 2)
    network = Network.create(shape, torch.Generator().manual_seed(0), gain=3.0).to(dtype)
    batch = synthetic(shape, 5)
    batch = type(batch)(batch.x.to(dtype), batch.mask, batch.labels)
    steps = {"free_steps": 100, "nudge_steps": 60, "window": 40, "dtype": dtype}
    wide, narrow = (SpikingBackend(**steps, neuron=n) for n in (IntegrateAndFire(), IntegrateAndFire(0.2, 0.8)))
    for backend in (wide, narrow):
        assert different_counts(backend, network, batch, 0.5) == 0
    ours, theirs = (b.free(network, batch, record=True).trace["spikes_s2"] for b in (wide, narrow))
    assert not torch.equal(ours.sum(0), theirs.sum(0))  # clamps matter here


def test_a_text_of_one_token_is_a_constant_current() -> None:
    network = Network.create(Shape(12, 8, (16, 6), 2), torch.Generator().manual_seed(0)).to(torch.float64)
    current = torch.randn(3, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = SpikingBackend(dtype=torch.float64).free(*current_network(network, current), record=True)
    neuron = IntegrateAndFire()
    states = [neuron.rest(torch.zeros(3, len(b), dtype=torch.float64)) for b in network.biases]
    z = [torch.zeros(3, len(b), dtype=torch.float64) for b in network.biases]
    for step in range(200):
        fired = []
        for i in range(3):
            u = (current if i == 0 else z[i - 1] @ network.weights[i].T) + network.biases[i]
            states[i], spikes = neuron.step(states[i], u + (z[i + 1] @ network.weights[i + 1] if i < 2 else 0))
            fired.append(spikes)
            assert torch.equal(spikes.bool(), found.trace[f"spikes_s{i + 2}"][step])
        z = fired


def test_exponent_of_a_power_law_and_of_its_upper_part() -> None:
    x = [1.0, 2.0, 4.0, 8.0, 16.0]
    assert exponent(x, [3 * value**1.7 for value in x], upper=5) == pytest.approx(1.7)
    assert exponent(x, [1e3 if value < 4 else value**2 for value in x]) == pytest.approx(2.0)
    assert exponent(x[::-1], [5.0, 5.0, 5.0, 7.0, 9.0]) == pytest.approx(0.0)  # the largest x, in whatever order


def test_memory_of_a_fresh_process_is_its_own() -> None:
    size = 400 * 2**20
    here = torch.ones(size // 4)  # this process has more; the other must not inherit its peak
    before, peak = in_fresh_process(hold, size // 4)
    assert size // 4 <= peak - before < size
    assert len(here) > 0


def test_the_picture_of_growth_shows_the_fitted_exponents(tmp_path: Path) -> None:
    rows = [{"size": size, "seconds": [9.0, size**2.0, 0.0], "bytes": 10 * size} for size in (2, 4, 8)]
    found = {"upper": 3, "growth": {"tokens": {"rows": rows, "exponent": {"seconds": 1.98, "bytes": 1.02}}}}
    picture = draw_growth(found, tmp_path / "growth.svg").read_text()
    assert "exponent 1.98" in picture and "exponent 1.02" in picture and "N, tokens" in picture


def test_work_grows_with_t_after_the_network_has_settled() -> None:
    sizes = {"tokens": 8, "dim": 4, "hidden": 4, "batch": 2}
    short, long = (training_batch(sized(**sizes, free_steps=steps), 1).products for steps in (100, 300))
    shape = Shape(8, 4, (4, 40), 2)
    assert long - short == 2 * 200 * int(sweep_products(shape, synthetic(shape, 2).mask, ROUNDS).sum())  # T + 2K = 2T


@pytest.mark.parametrize("bits", [8, 6, 4, 3])
def test_quantised_weights_are_few_values_symmetric_and_near(bits: int) -> None:
    weight = torch.randn(40, 60, generator=torch.Generator().manual_seed(0))
    found, step = quantised(weight, bits), weight.abs().max() / (2 ** (bits - 1) - 1)
    assert len(found.unique()) <= 2**bits - 1
    assert (found - weight).abs().max() <= step * 0.501
    torch.testing.assert_close(quantised(-weight, bits), -found)
    torch.testing.assert_close(found.abs().max(), weight.abs().max())
    assert not quantised(torch.zeros(3, 3), bits).any()


def test_coarser_networks_have_a_step_for_each_layer_and_keep_their_biases() -> None:
    network = Network.create(Shape(6, 4, (8,), 2), torch.Generator().manual_seed(0))
    found = coarser(network, 3)
    for before, after in zip([network.asking, *network.weights], [found.asking, *found.weights], strict=True):
        assert torch.equal(after, quantised(before, 3))
    assert found.biases is network.biases and coarser(network, None) is network
