"""EP against BPTT, in float64, converged: the two must agree as β → 0, at the orders that theory gives."""

import numpy as np
import pytest
import torch

from eqspike_seq.learning.estimators import BPTT, Gradients, ThreePhase, TwoPhase
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network, Shape
from eqspike_seq.relaxation.dense import DenseBackend
from tests.conftest import make_batch, make_network

EXACT = DenseBackend(free_steps=300, nudge_steps=300, tolerance=1e-14, dtype=torch.float64)


def reference(network: Network, batch: Batch) -> Gradients:
    return BPTT(steps=400)(EXACT, network, batch).gradients


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("hidden", [(8,), (8, 5), (9, 6, 4)])
def test_ep_gradient_is_the_bptt_gradient(attention: bool, masked: bool, hidden: tuple[int, ...]) -> None:
    network, batch = make_network(hidden, attention=attention, masked=masked), make_batch()
    truth = reference(network, batch)
    found = ThreePhase(0.01)(EXACT, network, batch).gradients
    assert set(found) == set(truth)
    silent = {name for name, value in truth.items() if value.norm() < 1e-12}  # named, not given a cosine
    assert not silent, f"parameters with zero gradient: {silent}"
    for name, value in truth.items():
        assert torch.cosine_similarity(found[name].flatten(), value.flatten(), 0) >= 0.999, name
        assert (found[name] - value).norm() / value.norm() < 0.01, name


def test_ep_gradient_with_four_projections_over_two_inputs() -> None:
    shape = Shape(3, 4, (7,), 3, projections=((0, 0), (0, 1), (1, 0), (1, 1)))
    network = Network.create(shape, torch.Generator().manual_seed(0)).to(torch.float64)
    generator = torch.Generator().manual_seed(1)
    batch = Batch(
        torch.randn(5, 2, 3, 4, generator=generator, dtype=torch.float64),
        torch.ones(5, 2, 3).bool(),
        torch.randint(0, 3, (5,), generator=generator),
    )
    truth, found = reference(network, batch), ThreePhase(0.01)(EXACT, network, batch).gradients
    for name, value in truth.items():
        assert torch.cosine_similarity(found[name].flatten(), value.flatten(), 0) >= 0.999, name


@pytest.mark.parametrize(("estimator", "order"), [(ThreePhase, 2), (TwoPhase, 1)])
def test_bias_falls_with_beta_at_the_order_of_theory(estimator: type, order: int) -> None:
    network, batch = smooth_network(), make_batch()
    truth = reference(network, batch)
    betas = [0.02, 0.04, 0.08, 0.16]
    errors: dict[str, list[float]] = {name: [] for name in truth}
    for beta in betas:
        estimate = estimator(beta)(EXACT, network, batch)
        for found in estimate.equilibria:
            assert inside(found.rates.layers), "a unit crosses a kink of σ: the test says nothing"
        for name, value in truth.items():
            errors[name].append(float((estimate.gradients[name] - value).norm() / value.norm()))
    for name, found_errors in errors.items():
        slope = np.polyfit(np.log(betas), np.log(found_errors), 1)[0]
        assert abs(slope - order) < 0.15, (name, slope, found_errors)


def smooth_network() -> Network:
    """Weights so small that every unit stays between the kinks of σ."""
    network = make_network()
    return Network(network.shape, network.asking, [0.4 * w for w in network.weights], network.biases)


def inside(layers: tuple[torch.Tensor, ...]) -> bool:
    return all(bool(((layer > 0) & (layer < 1)).all()) for layer in layers)


def test_a_small_step_along_the_update_lowers_the_loss() -> None:
    network, batch = make_network(), make_batch()

    def loss() -> float:
        output = EXACT.free(network, batch).rates.output
        return float((torch.nn.functional.one_hot(batch.labels, 2) - output).square().sum(1).mean() / 2)

    gradients, before = ThreePhase(0.05)(EXACT, network, batch).gradients, loss()
    predicted = sum(float(g.square().sum()) for g in gradients.values())
    for name, tensor in network.named():
        tensor -= 1e-4 * gradients[name]
    assert before - loss() == pytest.approx(1e-4 * predicted, rel=0.02)
