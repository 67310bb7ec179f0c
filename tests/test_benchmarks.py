"""The parts of the benchmarks that could be wrong without anybody noticing."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.baselines import Classifier, DecomposableAttention, Passes, trained
from benchmarks.growth import sized
from benchmarks.measure import exponent, in_fresh_process, synthetic, training_batch
from benchmarks.quantised import coarser, quantised
from benchmarks.spiking import current_network, different_counts
from docs.tools.growth import draw_growth
from eqspike_seq.ledger import sweep_products
from eqspike_seq.memory import resident
from eqspike_seq.model.network import Network, Shape
from eqspike_seq.progress import Reporter
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
