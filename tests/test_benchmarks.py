"""The parts of the benchmarks that could be wrong without anybody noticing."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.baselines import Classifier, DecomposableAttention, Passes, trained
from benchmarks.free_energy import DYNAMICS, HEAT, SIZES, cosine, drawn, flat
from benchmarks.growth import sized
from benchmarks.local_optimisers import RIVALS, Rounded, Sign
from benchmarks.measure import exponent, in_fresh_process, synthetic, training_batch
from benchmarks.quantised import coarser, quantised
from benchmarks.spiking import current_network, different_counts
from docs.tools.growth import draw_growth
from eqspike_seq.checks.bptt import SETTLED
from eqspike_seq.devices.device_model import read_device
from eqspike_seq.learning.estimators import ThreePhase, losses
from eqspike_seq.ledger import sweep_products
from eqspike_seq.memory import resident
from eqspike_seq.model.network import Network, Shape
from eqspike_seq.progress import Reporter
from eqspike_seq.relaxation.stack import ROUNDS
from neuromorphic.neurons import IntegrateAndFire
from neuromorphic.rate_code import SpikingBackend
from tests.conftest import make_batch, make_network


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


def pairs_of(texts: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of texts of one to five of the words 1 to 9; class 1 if all words of the second are in the first."""
    ids = np.zeros((texts, 2, 6), dtype=np.int32)
    for row in range(texts):
        first = rng.permutation(np.arange(1, 10))[: rng.integers(3, 6)]
        others = first if row % 2 else np.setdiff1d(np.arange(1, 10), first)
        second = np.append(rng.permutation(first)[: rng.integers(0, 3)], rng.choice(others))
        ids[row, 0, : len(first)], ids[row, 1, : len(second)] = first, second
    return ids, np.arange(texts) % 2


def test_decomposable_attention_is_that_of_its_equations() -> None:
    """Word by word in numpy, one pair at a time and without padding; an empty text has its NULL token alone."""
    torch.manual_seed(0)
    model = DecomposableAttention(torch.randn(10, 4), 3, 5, 0.2).double().eval()
    ids, _ = pairs_of(8, np.random.default_rng(0))
    ids[3, 1] = 0
    table, read = model.table.detach().numpy(), model.read

    def applied(layers: torch.nn.Sequential, x: np.ndarray) -> np.ndarray:
        for layer in (layers[1], layers[4]):
            x = np.maximum(layer.weight.detach().numpy() @ x + layer.bias.detach().numpy(), 0)
        return x

    def total(own: np.ndarray, other: np.ndarray) -> np.ndarray:
        found = 0
        for x in own:
            shares = np.exp([applied(model.attend, x) @ applied(model.attend, y) for y in other])
            found = found + applied(model.compare, np.append(x, shares @ other / shares.sum()))
        return found

    for pair, logits in zip(ids, model(torch.from_numpy(ids).long()).detach().numpy(), strict=True):
        a, b = (table[np.append(0, text[text > 0])] for text in pair)
        state = applied(model.aggregate, np.append(total(a, b), total(b, a)))
        np.testing.assert_allclose(logits, read.weight.detach().numpy() @ state + read.bias.detach().numpy())


def test_padding_changes_no_answer_of_decomposable_attention() -> None:
    torch.manual_seed(0)
    model = DecomposableAttention(torch.randn(10, 8), 2, 16, 0.2).double().eval()
    ids = torch.from_numpy(pairs_of(12, np.random.default_rng(0))[0]).long()
    together = model(ids)
    torch.testing.assert_close(model(torch.nn.functional.pad(ids, (0, 7))), together)
    for row, logits in enumerate(together):  # beside longer texts or alone
        torch.testing.assert_close(model(ids[row : row + 1])[0], logits)
    assert not torch.allclose(model(ids.flip(1)), together, atol=1e-3)


def test_networks_of_the_baselines_learn_their_words_and_which_the_other_text_has() -> None:
    parts = [pairs_of(texts, np.random.default_rng(seed)) for seed, texts in enumerate((2000, 300, 300))]
    torch.manual_seed(0)
    table = torch.randn(10, 8)
    for model, passes in ((DecomposableAttention(table, 2, 32, 0.0), 8), (Classifier(table, 2, 2), 1)):
        assert torch.equal(model.table, table)
        found = trained(model, parts, Passes(passes, 20, 3e-3, 0), Reporter())
        assert (model.table[1:] != table[1:]).all()
        assert found["test_accuracy"] > 0.95 or passes == 1


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("beta", [0.3, 5.0])
def test_contrast_of_a_gibbs_chain_is_the_gradient_of_a_free_energy_difference_at_any_nudge(
    kind: str, beta: float
) -> None:
    """From ln Z itself, and from the chain."""
    chain, theta = drawn(SIZES[kind], 3)
    gibbs, *_, spiking = DYNAMICS

    def levels(nudge: float) -> torch.Tensor:
        """(φ − βL)/T of each state; the logistic function has its middle at u = 1 as σ has."""
        phi = chain.phi(theta, chain.winner, chain.hidden, chain.output)
        return (phi - chain.hidden.sum(1) - chain.output.sum(1) - nudge * chain.loss) / HEAT

    for nudge in (beta, -beta):
        torch.testing.assert_close(chain.stationary(gibbs, theta, nudge), levels(nudge).softmax(0))
    free, minus = (-HEAT * levels(nudge).logsumexp(0) for nudge in (beta, -beta))
    gradient = flat(torch.autograd.grad((free - minus) / (2 * beta), list(theta.values())))
    found = chain.contrast(gibbs, theta, beta, rates=False)
    torch.testing.assert_close(found, -gradient)
    torch.testing.assert_close(chain.descent(gibbs, theta, beta), found, rtol=1e-3, atol=1e-4)
    assert chain.currents(gibbs, theta) < 1e-12 < 0.01 < chain.currents(spiking, theta)
    apart = cosine(chain.contrast(spiking, theta, beta, rates=True), chain.descent(spiking, theta, beta))
    assert 0.9 < apart < 1 - 1e-10


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_contrast_of_rates_at_a_large_nudge_is_the_gradient_of_the_mean_loss_over_nudges(beta: float) -> None:
    """Along random directions, by central differences of 1/(2β) ∫ L dβ'."""
    network, batch = make_network(), make_batch()
    nodes, weights = np.polynomial.legendre.leggauss(8)

    def objective(of: Network) -> float:
        ends = SETTLED.nudge(of, batch, SETTLED.free(of, batch), tuple(beta * nodes))
        found = [float(losses(of.shape, end.rates.output, batch.labels).mean()) for end in ends]
        return float(0.5 * np.dot(weights, found))

    gradients = ThreePhase(beta)(SETTLED, network, batch).gradients
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        away = {n: 1e-4 * torch.randn(t.shape, generator=generator, dtype=t.dtype) for n, t in network.named()}
        plus, minus = (
            objective(Network.of(network.shape, {n: t + sign * away[n] for n, t in network.named()}))
            for sign in (1, -1)
        )
        assert (plus - minus) / 2 == pytest.approx(sum(float((gradients[n] * away[n]).sum()) for n in away), rel=1e-5)


def test_energy_of_an_update_by_hand() -> None:
    """45 nm, fp32: 50 pJ a word, 4.6 a product, 18.4 a division, 0.9 an addition."""
    picojoules = {rival.label: 1e12 * rival.joules()["value"] for rival in RIVALS}
    assert picojoules["adam"] == pytest.approx(8 * 50 + 6 * 4.6 + 2 * 18.4)
    assert picojoules["sgd"] == picojoules["sgd by layer"] == pytest.approx(4 * 50 + 4.6)
    assert picojoules["sign, 8 bits"] == pytest.approx(2 * 50 + 2 * 12.5 + 2 * 0.9)


def test_updates_smaller_than_a_level_arrive_in_the_mean() -> None:
    weight, device = torch.zeros(400, 100), read_device("loihi-8bit")
    assert device.bits is not None and device.range is not None
    rounded = Rounded(Sign([{"params": [weight], "lr": 1e-3}]), [weight], device, 0)
    level = device.bits.step(device.range.of(100))
    for _ in range(4):
        weight.grad = -torch.ones_like(weight)
        rounded.step()
    assert 1e-3 < level / 5 and len(weight.unique()) > 1
    torch.testing.assert_close((weight / level).round() * level, weight)
    assert float(weight.mean()) == pytest.approx(4e-3, rel=0.03)
