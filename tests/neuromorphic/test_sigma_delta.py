"""Change-coded EP: why it works, against dense EP, BPTT of the shifted network, and counts by hand."""

from dataclasses import replace

import pytest
import torch

from eqspike.build import configure, make_backend, varied
from eqspike_seq.data.dataset import load_dataset
from eqspike_seq.learning.estimators import ThreePhase
from eqspike_seq.learning.evaluation import evaluate
from eqspike_seq.learning.trainer import Trainer
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network, Shape, sigma
from eqspike_seq.model.projection import DenseProjection, prepare
from eqspike_seq.model.synapses import RowProduct
from eqspike_seq.relaxation.dense import DenseBackend
from neuromorphic.attention.winners import GatedWinners
from neuromorphic.change_code import SigmaDeltaBackend
from neuromorphic.plasticity import MembraneCount
from tests.conftest import make_batch, make_network
from tests.eqspike_seq.test_pooling import pooling, texts

EXACT = DenseBackend(free_steps=300, nudge_steps=300, tolerance=1e-13, dtype=torch.float64)
COARSE = SigmaDeltaBackend(free_steps=200, nudge_steps=200, projection_threshold=0.3, dtype=torch.float64)
FINE = replace(COARSE, threshold=(1e-4,), projection_threshold=1e-4, output_threshold=1e-4)


def gradients(backend: SigmaDeltaBackend | DenseBackend, network: Network, batch: Batch, beta: float = 0.1) -> dict:
    return ThreePhase(beta)(backend, network, batch).gradients


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.cosine_similarity(a.flatten(), b.flatten(), 0))


@pytest.mark.parametrize("attention", [True, False])
def test_free_phase_ends_near_the_dense_fixed_point_and_nearer_the_finer_it_is(attention: bool) -> None:
    network, batch = make_network(attention=attention), make_batch()
    truth = EXACT.free(network, batch).rates
    errors = []
    for threshold in (0.1, 0.01, 0.001):
        backend = replace(COARSE, threshold=(threshold,), projection_threshold=threshold, output_threshold=threshold)
        found = backend.free(network, batch)
        errors.append(max(float((a - b).abs().max()) for a, b in zip(found.rates.layers, truth.layers, strict=True)))
    assert errors[0] < 0.2 and errors[1] < errors[0] / 3 and errors[2] < errors[1] / 3


def test_silence_is_a_fixed_point() -> None:
    network, batch = make_network(), make_batch()
    found = COARSE.free(network, batch)
    assert found.converged.all() and (found.residual == 0).all() and (found.steps < 200).all()
    longer = replace(COARSE, free_steps=400).free(network, batch)
    assert torch.equal(found.rates.projection, longer.rates.projection)
    assert found.ledger == longer.ledger


def test_nothing_but_whole_units_is_sent() -> None:
    network, batch = make_network(), make_batch()
    free = COARSE.free(network, batch)
    (nudged, _) = COARSE.nudge(network, batch, free, (0.5, -0.5))
    for value, start, unit in (
        (free.rates.projection, 0.0, 0.3),
        (free.rates.layers[0], 0.5, 0.5),
        (free.rates.output, 0.5, 0.05),
        (nudged.rates.projection, free.rates.projection, 0.02),
        (nudged.rates.layers[0], free.rates.layers[0], 0.01),
    ):
        units = (value - start) / unit
        torch.testing.assert_close(units, units.round(), atol=1e-9, rtol=0)


def shifted_gradient(network: Network, batch: Batch, backend: SigmaDeltaBackend) -> dict[str, torch.Tensor]:
    """BPTT, by autograd, of the network h = σ(u(h)) + e, with e = h* − σ(u(h*)) held constant, and of its patterns.

    The loss is that of the output's own activation.
    """
    with torch.no_grad():
        h = backend.free(network, batch).rates
    inputs = prepare(network, batch, torch.float64)
    batch = replace(batch, x=batch.x.clone().requires_grad_())

    def activations(net: Network, first: torch.Tensor, layers: list[torch.Tensor]) -> tuple[torch.Tensor, list]:
        s1 = DenseProjection.of(net, batch, torch.float64).free(layers[0], first)
        below, found = [first.flatten(1), *layers[:-1]], []
        for i, weight in enumerate(net.weights):
            u = below[i] @ weight.T + net.biases[i]
            found.append(sigma(u + layers[i + 1] @ net.weights[i + 1] if i + 1 < len(layers) else u))
        return s1, found

    with torch.no_grad():
        own1, own = activations(network, h.projection, list(h.layers))
        e1, e = h.projection - own1, [a - b for a, b in zip(h.layers, own, strict=True)]
    traced = Network(
        network.shape,
        network.asking.clone().requires_grad_(),
        [w.clone().requires_grad_() for w in network.weights],
        [b.clone().requires_grad_() for b in network.biases],
    )
    first, layers = h.projection, list(h.layers)
    with torch.enable_grad():
        for _ in range(200):
            s1, own = activations(traced, first, layers)
            first, layers = s1 + e1, [a + b for a, b in zip(own, e, strict=True)]
        loss = 0.5 * (inputs.target - own[-1]).square().sum(1).mean()
        names, tensors = zip(*traced.named(), ("X", batch.x), strict=True)
        found = dict(zip(names, torch.autograd.grad(loss, tensors, allow_unused=True), strict=True))
    rows = found.pop("X")
    if batch.ids is not None:
        found["X"] = RowProduct.of(batch.ids.flatten(), rows.flatten(0, -2)).whole().to_dense()
    return found


@pytest.mark.parametrize("attention", [True, False])
def test_transmitted_contrast_is_the_bptt_gradient_of_the_shifted_network(attention: bool) -> None:
    network, batch = make_network(attention=attention), make_batch()
    truth = shifted_gradient(network, batch, COARSE)
    nearly = replace(COARSE, nudge_threshold=1e-7, projection_nudge_threshold=1e-7)
    found = gradients(nearly, network, batch, 0.005)
    dense = gradients(EXACT, network, batch, 0.005)
    for name, value in truth.items():
        assert (found[name] - value).norm() / value.norm() < 0.01, name
        assert cosine(found[name], value) > 0.9999, name
    assert cosine(dense["w2"], truth["w2"]) < 0.999  # which is not the gradient of the unshifted network


def test_queries_and_patterns_learn_the_gradient_of_the_shifted_network_too() -> None:
    network, batch = pooling(), texts().whole()
    coarse = replace(COARSE, projection_threshold=0.1)
    truth = shifted_gradient(network, batch, coarse)
    nearly = replace(coarse, nudge_threshold=1e-8, projection_nudge_threshold=1e-8)
    found = gradients(nearly, network, batch, 0.005)
    found["X"] = found["X"].to_dense()
    assert set(truth) == set(found) == {"q", "X", "w2", "b2", "w3", "b3", "w4", "b4"}
    for name, value in truth.items():
        assert cosine(found[name], value) > 0.9999, name
    dense = gradients(EXACT, network, batch, 0.005)
    assert cosine(dense["X"].to_dense(), truth["X"]) < 0.9999  # which is not the gradient of the unshifted network


def test_dithered_changes_of_patterns_are_unbiased() -> None:
    network, batch = pooling(), texts().whole()
    coarse = replace(COARSE, projection_threshold=0.1)
    fine = replace(coarse, nudge_threshold=1e-6, projection_nudge_threshold=1e-6)
    truth = gradients(fine, network, batch, 0.5)
    backend = replace(coarse, nudge_threshold=0.02, projection_nudge_threshold=0.02, nudge_steps=30)
    runs = [gradients(backend, network, replace(batch, seed=seed), 0.5) for seed in range(150)]
    for name in ("X", "q", "w2"):
        mean = torch.stack([found[name].to_dense() for found in runs]).mean(0)
        assert cosine(mean, truth[name].to_dense()) > 0.99, name


def test_spikes_of_patterns_teach_as_their_shares_do() -> None:
    """By winners a pattern that fires in a nudge moves towards the query: in the mean p ⊗ q̂."""
    network, batch = pooling(), texts().whole()
    common = {"projection_threshold": 0.05, "nudge_threshold": 1e-4, "projection_nudge_threshold": 1e-4}
    truth = gradients(replace(COARSE, **common), network, batch, 0.5)
    winners = replace(COARSE, **common, circuit=GatedWinners(winners=256, pattern_nudge_threshold=1e-3))
    runs = [gradients(winners, network, replace(batch, seed=seed), 0.5) for seed in range(20)]
    for name in ("X", "q", "w2"):
        mean = torch.stack([found[name].to_dense() for found in runs]).mean(0)
        assert cosine(mean, truth[name].to_dense()) > 0.97, name


def test_dithered_nudges_are_unbiased() -> None:
    """Averaged over dithers, unit spikes of 0.01 give the contrast of much finer ones."""
    network, batch = make_network(), make_batch()
    fine = replace(COARSE, nudge_threshold=1e-6, projection_nudge_threshold=1e-6)
    truth = gradients(fine, network, batch, 0.5)
    backend = replace(COARSE, nudge_threshold=0.01, projection_nudge_threshold=0.01, nudge_steps=30)
    runs = [gradients(backend, network, replace(batch, seed=seed), 0.5) for seed in range(150)]
    for name in ("w2", "w3", "w4"):
        mean = torch.stack([found[name] for found in runs]).mean(0)
        assert cosine(mean, truth[name]) > 0.99, name
    undithered = gradients(replace(backend, nudge_threshold=0.2, dither=False), network, batch)
    assert (undithered["w2"] == 0).all()  # no change reaches half a threshold: nothing is learnt below the output


def test_without_the_fixed_offset_the_gradient_is_lost() -> None:
    network, batch = make_network(), make_batch()
    truth = shifted_gradient(network, batch, COARSE)
    free = gradients(replace(COARSE, offset=False), network, batch, 0.1)
    kept = gradients(COARSE, network, batch, 0.1)
    assert cosine(free["w2"], truth["w2"]) < cosine(kept["w2"], truth["w2"])


def test_fine_thresholds_give_dense_ep() -> None:
    network, batch = make_network(), make_batch()
    fine = replace(FINE, nudge_threshold=1e-6, projection_nudge_threshold=1e-6)
    truth, found = gradients(EXACT, network, batch), gradients(fine, network, batch)
    for name, value in truth.items():
        assert cosine(found[name], value) > 0.999, name


def test_membrane_learns_from_the_neurons_own_changes() -> None:
    network, batch = make_network(), make_batch()
    fine = replace(COARSE, nudge_threshold=1e-6, projection_nudge_threshold=1e-6)
    truth = gradients(fine, network, batch, 0.5)["w3"]
    noisy = replace(COARSE, nudge_threshold=0.02, projection_nudge_threshold=0.04, nudge_steps=30)
    found = []
    for backend in (noisy, replace(noisy, rule=MembraneCount())):
        runs = [gradients(backend, network, replace(batch, seed=seed), 0.5)["w3"] for seed in range(20)]
        found.append(sum(cosine(run, truth) for run in runs) / len(runs))
    assert found[1] > found[0]


def test_events_add_up_to_the_contrast_of_what_was_transmitted() -> None:
    """The event-driven rule Δ(h_post h_pre) = Δh_post h_pre(t−1) + h_post(t) Δh_pre is what ``count`` computes."""
    network, batch = make_network(), make_batch()
    free = COARSE.free(network, batch)
    plus, minus = COARSE.nudge(network, batch, free, (0.5, -0.5), record=True)
    total = torch.zeros_like(network.weights[1])
    for found, sign in ((plus, 1), (minus, -1)):
        pre, post = free.rates.layers[0].clone(), free.rates.layers[1].clone()
        for step in range(len(found.trace["spikes_s2"])):
            moved_pre = 0.01 * found.trace["spikes_s2"][step].double()
            moved_post = 0.01 * found.trace["spikes_s3"][step].double()
            total += sign * (moved_post.T @ pre + (post + moved_post).T @ moved_pre)
            pre, post = pre + moved_pre, post + moved_post
    found = gradients(COARSE, network, batch, 0.5)["w3"]
    torch.testing.assert_close(-total / len(batch), found)


def test_both_nudges_share_the_dither() -> None:
    network, batch = make_network(), make_batch()
    free = COARSE.free(network, batch)
    one, two = COARSE.nudge(network, batch, free, (0.3, 0.3), record=True)
    assert all(torch.equal(one.trace[f"spikes_s{i}"], two.trace[f"spikes_s{i}"]) for i in (2, 3, 4))
    (other,) = COARSE.nudge(network, replace(batch, seed=9), free, (0.3,), record=True)
    assert not torch.equal(one.trace["spikes_s2"], other.trace["spikes_s2"])


@pytest.mark.parametrize("events", ["unit", "graded"])
def test_ledger_agrees_with_a_count_by_hand(events: str) -> None:
    """One text of 2 real tokens (of 3), D = 2, 3-2 units above: every spike looked at one by one."""
    network = Network.create(Shape(3, 2, (3,), 2), torch.Generator().manual_seed(3))
    x = 2 * torch.randn(1, 1, 3, 2, generator=torch.Generator().manual_seed(4))
    x[0, 0, 2] = 0
    batch = Batch(x, torch.tensor([[[True, True, False]]]), torch.tensor([1]))
    found = SigmaDeltaBackend(threshold=(0.1,), projection_threshold=0.5, events=events).free(
        network, batch, record=True
    )
    counts = found.ledger.counts
    kind = {"unit": "spikes", "graded": "graded_events"}[events]
    synaptic = 0
    for layer, fan_out in (("s2", 2 + 4), ("s3", 3)):
        sent = 0
        for step in found.trace[f"spikes_{layer}"]:
            for unit in step.flatten().tolist():
                sent += abs(unit) if events == "unit" else int(unit != 0)
        assert sent > 0 and counts[layer]["free"][kind] == sent
        assert counts[layer]["free"]["synaptic_events"] == sent * fan_out
        synaptic += sent * fan_out
    first = counts["s1"]["free"]
    assert first[kind] > 0 and first["synaptic_events"] == 3 * first[kind]
    if events == "unit":
        assert first["spikes"] == int(found.trace["spikes_s1"].sum()) >= int((found.rates.projection / 0.5).abs().sum())
        assert first["accumulates"] == first["synaptic_events"] and first["multiply_accumulates"] == 0
    else:
        assert first["accumulates"] == 0 and first["multiply_accumulates"] == first["synaptic_events"]
    assert counts["w1"]["free"]["multiply_accumulates"] == 2 * 2 * 2
    # HopAttn is looked at in the first step and after each step in which s² sent something
    moved = (found.trace["spikes_s2"] != 0).flatten(1).any(1).tolist()
    looks = 1 + sum(moved[: len(moved) - 1])
    assert counts["hopattn"]["free"]["multiply_accumulates"] == looks * (2 * 2 * 2 + 2 * 2 * 2)
    assert found.ledger.spikes_per_synapse() == pytest.approx((3 * first[kind] + synaptic) / (24 + 12))
    assert int(found.events[-1, 0]) == 3 * first[kind] + synaptic


def test_low_precision_leaves_the_contrast_intact() -> None:
    network, batch = make_network((32, 8), 24, 16, dtype=torch.float32), make_batch(16, 24, 16, dtype=torch.float32)
    full = replace(COARSE, dtype=torch.float32, threshold=(0.05,), projection_threshold=0.05)
    full = replace(full, nudge_threshold=1e-4, projection_nudge_threshold=1e-3, nudge_steps=30)
    low = replace(full, dtype=torch.bfloat16)
    for name, value in gradients(full, network, batch).items():
        assert cosine(gradients(low, network, batch)[name], value) > 0.95, name


def test_without_dither_nothing_is_learnt_and_without_offset_nudges_are_dear() -> None:
    """Real training from scratch on ``mini``, with nudges as coarse as a fifth of a unit's range."""
    config = configure("mini", "spiking", neuron="sigma-delta", rule="count", limit=800, epochs=8)
    config = varied(config, nudge_threshold=0.1, projection_nudge_threshold=0.2)
    data = load_dataset(config.data)
    found: dict[str, float] = {}
    nudges: dict[str, float] = {}
    for name, changes in (("both", {}), ("no dither", {"dither": False}), ("no offset", {"offset": False})):
        trainer = Trainer(config, data, make_backend(config))
        assert isinstance(trainer.backend, SigmaDeltaBackend)
        trainer.backend = replace(trainer.backend, **changes)
        while trainer.step < trainer.total:
            with torch.no_grad():
                trainer.train_batch()
        found[name] = evaluate(trainer.backend, trainer.network, trainer.gather, data.validation, 64).accuracy
        nudges[name] = trainer.ledger.spikes_per_synapse(("nudge+", "nudge-"))
    assert found["both"] > 0.75 and found["no dither"] < 0.6
    assert nudges["no offset"] > 10 * nudges["both"]  # they send the free phase's quantisation errors
