"""Pooling queries over counted patterns that are learnt: EP against autograd, and what counts and temperature mean."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from eqspike_seq.errors import ConfigError
from eqspike_seq.learning.estimators import BPTT, ByLength, ThreePhase, TwoPhase
from eqspike_seq.model.batch import Lookup
from eqspike_seq.model.network import Network, Shape, sigma
from eqspike_seq.model.projection import DenseProjection
from eqspike_seq.relaxation.dense import DenseBackend, Order
from eqspike_seq.relaxation.loop import loop_gain, loop_of, settled_from
from tests.conftest import make_network

EXACT = DenseBackend(free_steps=2000, nudge_steps=2000, tolerance=1e-13, dtype=torch.float64)
PATTERNS, DIM, QUERIES = 9, 4, 3


def pooling(temperature: float = 2.0, learnt: bool = True, **shape: object) -> Network:
    """A small network whose units stay inside σ."""
    made = make_network(
        hidden=(7, 5), tokens=QUERIES, dim=DIM, pooling=True, temperature=temperature, learnt=learnt, **shape
    )
    made.weights[0] *= 0.5
    return made


def texts(size: int = 6, places: int = 5, seed: int = 3) -> Lookup:
    """Different patterns in each text, with counts; padding at the end of some."""
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(PATTERNS + 1, DIM, generator=generator, dtype=torch.float64)
    table[0] = 0
    order = torch.stack([torch.randperm(PATTERNS, generator=generator)[:places] + 1 for _ in range(size)])
    lengths = torch.randint(2, places + 1, (size, 1), generator=generator)
    ids = torch.where(torch.arange(places) < lengths, order, 0).unsqueeze(1)
    counts = torch.randint(1, 4, ids.shape, generator=generator) * (ids > 0)
    labels = torch.randint(0, 2, (size,), generator=generator)
    return Lookup(table, ids, labels, counts=counts.double())


def by_autograd(network: Network, given: Lookup, steps: int) -> dict[str, Tensor]:
    """Gradients of the mean loss through ``steps`` of plain synchronous updates, written out from the equations."""
    shape, tau = network.shape, network.shape.temperature
    q = (tau * network.asking[0]).clone().requires_grad_()
    table = given.table.clone().requires_grad_()
    weights = [w.clone().requires_grad_() for w in network.weights]
    biases = [b.clone().requires_grad_() for b in network.biases]
    loss = torch.zeros((), dtype=torch.float64)
    for text in range(len(given)):
        n = int((given.ids[text, 0] > 0).sum())
        x, count = table[given.ids[text, 0, :n]], given.counts[text, 0, :n]  # type: ignore[index]
        layers = [torch.full((size,), 0.5, dtype=torch.float64) for size in shape.sizes[1:]]
        for _ in range(steps):
            query = q + (weights[0].T @ layers[0]).view(QUERIES, DIM)
            scores = query @ x.T / (tau * DIM**0.5) + count.log()
            s1 = torch.softmax(scores, -1) @ x
            back = torch.zeros(()) if shape.softmax else weights[2].T @ layers[2]
            layers[1] = sigma(weights[1] @ layers[0] + back + biases[1])
            layers[2] = sigma(weights[2] @ layers[1] + biases[2])
            layers[0] = sigma(weights[0] @ s1.flatten() + weights[1].T @ layers[1] + biases[0])
        if shape.softmax:
            logits = weights[2] @ layers[1] + biases[2]
            loss = loss + F.cross_entropy(logits, given.labels[text]) / len(given)
        else:
            error = F.one_hot(given.labels[text], 2) - layers[2]
            loss = loss + 0.5 * error.square().sum() / len(given)
    tensors = {"q": q, "X": table}
    for index, (w, b) in enumerate(zip(weights, biases, strict=True), start=2):
        tensors |= {f"w{index}": w, f"b{index}": b}
    found = dict(zip(tensors, torch.autograd.grad(loss, list(tensors.values())), strict=True))
    found["q"] = tau * found["q"].unsqueeze(0)  # of q/τ
    return found


def dense(gradients: dict[str, Tensor]) -> dict[str, Tensor]:
    """That of X as a whole table."""
    whole = torch.zeros(PATTERNS + 1, DIM, dtype=torch.float64)
    sparse = gradients["X"].coalesce()
    whole[sparse.indices()[0]] = sparse.values().double()
    return {**gradients, "X": whole}


@pytest.mark.parametrize("temperature", [1.0, 2.0, 8.0])
def test_ep_is_autograd_of_the_unrolled_equations_in_every_parameter(temperature: float) -> None:
    network, given = pooling(temperature), texts()
    truth = by_autograd(network, given, 300)
    found = dense(ByLength(ThreePhase(1e-3))(EXACT, network, given).gradients)
    assert set(found) == set(truth)
    for name, value in truth.items():
        assert bool(value.any()), name
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("order", ["alternating", "synchronous"])
def test_with_a_softmax_readout_too(order: Order) -> None:
    network, given = pooling(softmax=True), texts()
    truth = by_autograd(network, given, 300)
    backend = replace(EXACT, order=order)
    found = dense(ByLength(ThreePhase(1e-3))(backend, network, given).gradients)
    unrolled = dense(ByLength(BPTT(200))(backend, network, given).gradients)
    for name, value in truth.items():
        assert bool(value.any()), name
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-8)
        torch.testing.assert_close(unrolled[name], value, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize(("estimator", "order"), [(ThreePhase, 2), (TwoPhase, 1)])
def test_the_error_in_beta_is_of_order_two_with_two_nudges_and_one_with_one(
    estimator: type, order: int, softmax: bool
) -> None:
    network, given = pooling(softmax=softmax), texts()
    truth = by_autograd(network, given, 300)

    def error(beta: float) -> dict[str, float]:
        found = dense(estimator(beta)(EXACT, network, given.whole()).gradients)
        return {name: float((found[name] - value).norm()) for name, value in truth.items()}

    coarse, fine = error(0.1), error(0.01)
    for name in truth:
        slope = torch.tensor(coarse[name] / fine[name]).log10()
        assert slope == pytest.approx(order, abs=0.1), name


def test_bptt_has_the_same_gradients_of_patterns_and_queries() -> None:
    network, given = pooling(), texts()
    truth, found = by_autograd(network, given, 300), dense(ByLength(BPTT(200))(EXACT, network, given).gradients)
    for name, value in truth.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-9)


def test_a_count_is_as_many_equal_patterns() -> None:
    """Also what they learn: the gradient of one that comes c times is the sum of that of c copies."""
    network = pooling()
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(4, DIM, generator=generator, dtype=torch.float64)
    label = torch.tensor([1])
    counted = Lookup(table, torch.tensor([[[1, 2, 3]]]), label, counts=torch.tensor([[[3.0, 1.0, 2.0]]]).double())
    spelt = Lookup(table, torch.tensor([[[1, 2, 3, 1, 3, 1]]]), label)
    one, many = (ByLength(ThreePhase(0.1))(EXACT, network, given) for given in (counted, spelt))
    torch.testing.assert_close(one.equilibria[0].rates.output, many.equilibria[0].rates.output)
    for name, value in many.gradients.items():
        mine = one.gradients[name]
        torch.testing.assert_close(mine.to_dense(), value.to_dense(), rtol=1e-9, atol=1e-12)


def test_temperature_weakens_feedback_and_nothing_else() -> None:
    """With w₂ᵀ s² taken away, q/τ held, the state does not depend on τ; as τ grows it tends to that."""
    given = texts().whole()
    answers = {tau: EXACT.free(pooling(tau), given).rates.projection for tau in (1.0, 10.0, 1e3, 1e5)}
    apart = [float((answers[tau] - answers[1e5]).abs().max()) for tau in (1.0, 10.0, 1e3)]
    assert apart[0] > 5 * apart[1] > 250 * apart[2] > 0
    alone = pooling(1.0)
    scores = alone.asking[0] @ given.x[:, 0].mT / DIM**0.5 + given.counts.clamp(min=1e-300).log()  # type: ignore
    torch.testing.assert_close(answers[1e5][:, 0], torch.softmax(scores, -1) @ given.x[:, 0], rtol=0, atol=1e-4)


def test_no_result_depends_on_the_batch_or_on_padding() -> None:
    network, given = pooling(), texts(places=7)
    whole = ByLength(ThreePhase(0.1))(EXACT, network, given)
    shares = []
    for row in range(len(given)):
        one = replace(given, ids=given.ids[row : row + 1], labels=given.labels[row : row + 1])
        one = replace(one, counts=given.counts[row : row + 1])  # type: ignore[index]
        alone = ByLength(ThreePhase(0.1))(EXACT, network, one)
        torch.testing.assert_close(alone.equilibria[0].rates.output[0], whole.equilibria[0].rates.output[row])
        shares.append(dense(alone.gradients))
    for name, value in dense(whole.gradients).items():
        torch.testing.assert_close(sum(share[name] for share in shares) / len(given), value, rtol=1e-9, atol=1e-12)
    assert not dense(whole.gradients)["X"][0].any()  # padding learns nothing


def test_low_precision_keeps_the_contrast_of_patterns() -> None:
    """At β = 0.01 the difference of two bf16 states would be rounding alone."""
    network, given = pooling().to(torch.float32), texts(size=32)
    given = replace(given, table=given.table.float(), counts=given.counts.float())  # type: ignore[union-attr]
    fine = DenseBackend(free_steps=300, nudge_steps=300, tolerance=1e-5)
    exact, low = (
        dense(ByLength(ThreePhase(0.01))(replace(fine, dtype=dtype), network, given).gradients)
        for dtype in (torch.float32, torch.bfloat16)
    )
    for name in ("q", "X", "w2"):
        assert F.cosine_similarity(low[name].flatten(), exact[name].flatten(), 0) > 0.999, name


def test_a_text_without_a_pattern_has_an_answer_of_numbers() -> None:
    given = texts()
    given.ids[0] = 0
    found = ByLength(ThreePhase(0.1))(EXACT, pooling(), given)
    assert bool(found.equilibria[0].rates.output.isfinite().all())
    assert all(bool(value.to_dense().isfinite().all()) for value in found.gradients.values())


def test_fixed_patterns_have_no_gradient() -> None:
    assert "X" not in ByLength(ThreePhase(0.1))(EXACT, pooling(learnt=False), texts()).gradients


def test_uniform_attention_learns_what_autograd_of_the_mean_learns() -> None:
    """s¹ is the mean of the patterns in all rows; the queries learn nothing."""
    network, given = pooling(uniform=True), texts()
    found = dense(ByLength(ThreePhase(1e-3))(EXACT, network, given).gradients)
    table = given.table.clone().requires_grad_()
    x, counts = table[given.ids[:, 0]], given.counts[:, 0]  # type: ignore[index]
    mean = (x * counts.unsqueeze(-1)).sum(1) / counts.sum(1, keepdim=True)
    layers = [torch.full((len(given), size), 0.5, dtype=torch.float64) for size in network.shape.sizes[1:]]
    below = mean.repeat(1, QUERIES)
    for _ in range(300):
        layers[1] = sigma(layers[0] @ network.weights[1].T + layers[2] @ network.weights[2] + network.biases[1])
        layers[2] = sigma(layers[1] @ network.weights[2].T + network.biases[2])
        layers[0] = sigma(below @ network.weights[0].T + layers[1] @ network.weights[1] + network.biases[0])
    target = F.one_hot(given.labels, 2).double()
    (truth,) = torch.autograd.grad(0.5 * (target - layers[-1]).square().sum(1).mean(), table)
    torch.testing.assert_close(found["X"], truth, rtol=1e-4, atol=1e-8)
    assert not found["q"].any()


def test_a_network_too_large_is_told_by_its_own_flags() -> None:
    with pytest.raises(ConfigError, match=r"--queries 10000, --dim 10000 and --hidden 10000 make a network of"):
        Network.create(Shape(10_000, 10_000, (10_000,), 2, pooling=True), torch.Generator())


def test_shares_stay_as_counts_when_texts_have_left() -> None:
    """s¹ rests in the nudges of those that go on, however many of their batch have converged."""
    network, given = pooling(uniform=True), texts().whole()
    projection = DenseProjection.of(network, given, torch.float64)
    anchor = projection.anchor(settled_from(projection, len(given), 0.5), given)
    change = torch.rand(2, 2, network.shape.hidden[0], dtype=torch.float64)
    moved = anchor.take(slice(1, 3)).change(change, anchor.s1)
    assert bool(change.any()) and not bool(moved.any())


def test_loop_gain_is_the_largest_eigenvalue_of_the_loop() -> None:
    """That of ∂(½ w₂ F(s¹))/∂s² by autograd, rows and columns of units that σ clips left out."""
    network, given = pooling(1.0), texts().whole()
    network.weights[0] *= 4
    projection = DenseProjection.of(network, given, torch.float64)
    state = settled_from(projection, len(given), 0.0)
    gain, s2 = loop_gain(projection, state), state.layers[0]
    assert bool(((s2 <= 0) | (s2 >= 1)).any())
    for text in range(len(given)):

        def through(row: Tensor, text: int = text) -> Tensor:
            whole = s2.clone()
            whole[text] = row
            return 0.5 * projection.up(projection.free(whole, state.projection))[text]

        jacobian = torch.autograd.functional.jacobian(through, s2[text])
        inside = (s2[text] > 0) & (s2[text] < 1)
        largest = torch.linalg.eigvals(jacobian[inside][:, inside]).real.max()
        assert float(gain[text]) == pytest.approx(float(largest), rel=1e-3)


def test_a_strong_loop_has_two_ends_and_a_temperature_leaves_one() -> None:
    given = texts(size=20).whole()
    strong, weak = pooling(1.0), pooling(500.0)
    for network in (strong, weak):
        network.weights[0] *= 12
    assert bool(loop_of(strong, given).apart.any())  # each of them stable: it is between them that the gain is above 1
    assert not loop_of(weak, given).apart.any() and float(loop_of(weak, given).gain.max()) < 0.5
