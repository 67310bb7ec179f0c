from dataclasses import replace

import pytest
import torch

from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import State, phi, sigma
from eqspike_seq.model.projection import DenseProjection, prepare
from eqspike_seq.relaxation.dense import DenseBackend
from tests.conftest import make_batch, make_network

EXACT = DenseBackend(free_steps=300, nudge_steps=300, tolerance=1e-13, dtype=torch.float64)


def test_fixed_point_solves_the_papers_equations() -> None:
    network, batch = make_network(), make_batch()
    found = EXACT.free(network, batch).rates
    leaves = State(found.projection.requires_grad_(), tuple(s.requires_grad_() for s in found.layers))
    inputs = prepare(network, batch, torch.float64)
    value = phi(network, inputs.drive, leaves).sum()
    slopes = torch.autograd.grad(value, [leaves.projection, *leaves.layers])
    for slope, layer in zip(slopes[1:], found.layers, strict=True):  # Eq. 13
        torch.testing.assert_close(layer, sigma(slope), atol=1e-10, rtol=0)
    for text in range(len(batch)):  # Eq. 14, one row of one text at a time, real tokens only
        patterns = batch.x[text, 0][batch.mask[text, 0]]
        for row in range(6):
            scores = patterns @ slopes[0][text, 0, row] / 2.0  # √d = 2
            expected = torch.softmax(scores, 0) @ patterns if batch.mask[text, 0, row] else torch.zeros(4).double()
            torch.testing.assert_close(found.projection[text, 0, row], expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("attention", [True, False])
def test_both_orders_reach_one_fixed_point_and_alternating_takes_about_half(attention: bool) -> None:
    network, batch = make_network(attention=attention), make_batch()
    a = EXACT.free(network, batch)
    b = replace(EXACT, order="synchronous").free(network, batch)
    torch.testing.assert_close(a.rates.output, b.rates.output)
    torch.testing.assert_close(a.rates.projection, b.rates.projection)
    assert a.steps.double().mean() < 0.65 * b.steps.double().mean()


@pytest.mark.parametrize("beta", [-0.5, 0.01, 1.0])
@pytest.mark.parametrize("attention", [True, False])
def test_nudge_in_difference_form_is_the_nudged_fixed_point(beta: float, attention: bool) -> None:
    network, batch = make_network(attention=attention), make_batch()
    (found,) = EXACT.nudge(network, batch, EXACT.free(network, batch), (beta,))
    state = found.rates
    from eqspike_seq.relaxation.dense import sweep

    again = sweep(DenseProjection.of(network, batch, torch.float64), state, beta)
    torch.testing.assert_close(again.output, state.output, atol=1e-10, rtol=0)
    torch.testing.assert_close(again.layers[0], state.layers[0], atol=1e-10, rtol=0)
    torch.testing.assert_close(again.projection, state.projection, atol=1e-10, rtol=0)


def test_no_text_depends_on_the_batch_it_sat_in() -> None:
    network, batch = make_network(), make_batch(size=9)
    backend = replace(EXACT, tolerance=1e-3)
    together = backend.free(network, batch)
    nudged = backend.nudge(network, batch, together, (0.3, -0.3))
    for i in range(len(batch)):
        one = Batch(batch.x[i : i + 1], batch.mask[i : i + 1], batch.labels[i : i + 1])
        alone = backend.free(network, one)
        assert alone.steps[0] == together.steps[i]
        torch.testing.assert_close(alone.rates.output[0], together.rates.output[i], rtol=1e-12, atol=1e-14)
        plus = backend.nudge(network, one, alone, (0.3, -0.3))[0]
        torch.testing.assert_close(plus.rates.layers[0][0], nudged[0].rates.layers[0][i], rtol=1e-12, atol=1e-14)


def test_says_when_it_did_not_converge() -> None:
    network, batch = make_network(), make_batch()
    found = replace(EXACT, free_steps=2).free(network, batch)
    assert not found.converged.any() and (found.steps == 2).all() and (found.residual > 1e-13).all()
    assert EXACT.free(network, batch).converged.all()


def test_text_without_a_known_token_has_no_projection_and_padding_never_matters() -> None:
    network, batch = make_network(), make_batch()
    batch.mask[0] = False
    batch.x[0] = 0
    found = EXACT.free(network, batch)
    assert (found.rates.projection[0] == 0).all() and torch.isfinite(found.rates.output).all()
    noisy = Batch(batch.x.masked_fill(~batch.mask.unsqueeze(-1), 7.0), batch.mask, batch.labels)
    torch.testing.assert_close(EXACT.free(network, noisy).rates.output, found.rates.output)


def test_unmasked_padding_is_a_pattern_like_any_other() -> None:
    network, batch = make_network(masked=False), make_batch()
    found = EXACT.free(network, batch).rates
    patterns = batch.x[1, 0]
    query = prepare(network, batch, torch.float64).drive[1, 0] + (found.layers[0][1] @ network.weights[0]).view(6, 4)
    torch.testing.assert_close(found.projection[1, 0], torch.softmax(query @ patterns.T / 2, -1) @ patterns)


def test_bf16_gradient_equals_fp32_gradient() -> None:
    from eqspike_seq.learning.estimators import ThreePhase

    network, batch = make_network((32, 8), 24, 16, dtype=torch.float32), make_batch(16, 24, 16, dtype=torch.float32)
    full = ThreePhase(0.05)(DenseBackend(tolerance=1e-4), network, batch).gradients
    low = ThreePhase(0.05)(DenseBackend(tolerance=1e-4, dtype=torch.bfloat16), network, batch).gradients
    for name, value in full.items():
        cosine = torch.cosine_similarity(low[name].flatten().double(), value.flatten().double(), 0)
        assert cosine > 0.999, (name, cosine)
