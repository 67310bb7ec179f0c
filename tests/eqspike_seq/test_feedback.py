"""Feedback through synapses of their own: which rule still points along the gradient as they come to differ."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from eqspike_seq.learning.estimators import BPTT, ThreePhase
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import FeedbackRule, Network, Shape
from eqspike_seq.relaxation.dense import DenseBackend

EXACT = DenseBackend(free_steps=3000, nudge_steps=3000, tolerance=1e-12, dtype=torch.float64)
SHAPE = Shape(12, 1, (9, 7, 6), 3, projections=(), attention=False)


def network_of(rule: FeedbackRule | None, asymmetry: float) -> Network:
    """Feedback (1 − η) w + η r, r drawn as w is: 0 symmetric, 1 independent."""
    shape = replace(SHAPE, feedback=rule)
    network, other = (Network.create(shape, torch.Generator().manual_seed(seed)).to(torch.float64) for seed in (0, 1))
    weights = [1.2 * weight for weight in network.weights]
    copies = ((1 - asymmetry) * w + asymmetry * 1.2 * r for w, r in zip(weights[1:], other.weights[1:], strict=True))
    return replace(network, weights=weights, copies=tuple(copies) if rule else ())


def batch_of() -> Batch:
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(16, 1, 12, 1, generator=generator, dtype=torch.float64)
    return Batch(x, torch.ones(16, 1, 12).bool(), torch.randint(0, 3, (16,), generator=generator))


def gradients(rule: FeedbackRule | None, asymmetry: float, beta: float = 1e-3) -> tuple[dict[str, Tensor], ...]:
    """(EP's, those of backpropagation through 300 sweeps)."""
    network, batch = network_of(rule, asymmetry), batch_of()
    return ThreePhase(beta)(EXACT, network, batch).gradients, BPTT(300)(EXACT, network, batch).gradients


def texts_of(rule: FeedbackRule | None, asymmetry: float) -> tuple[Network, Batch]:
    """Pooling queries over patterns stored twice: values are (1 − η) keys + η others, and w₂, w₃, w₄ have copies."""
    shape = Shape(4, 6, (9, 7), 3, pooling=True, temperature=2.0, learnt=True, feedback=rule)
    network, other = (Network.create(shape, torch.Generator().manual_seed(seed)).to(torch.float64) for seed in (0, 1))
    weights = [1.5 * weight for weight in network.weights]
    copies = tuple((1 - asymmetry) * w + asymmetry * 1.5 * r for w, r in zip(weights, other.weights, strict=True))
    generator = torch.Generator().manual_seed(2)
    keys, others = 1.5 * torch.randn(2, 41, 6, generator=generator, dtype=torch.float64)
    values = (1 - asymmetry) * keys + asymmetry * others
    ids = torch.randint(1, 41, (16, 1, 12), generator=generator)
    counts = torch.randint(1, 4, ids.shape, generator=generator).double()
    labels = torch.randint(0, 3, (16,), generator=generator)
    batch = Batch(keys[ids], ids > 0, labels, counts=counts, ids=ids, values=values[ids] if rule else None)
    return replace(network, weights=weights, copies=copies if rule else ()), batch


def text_gradients(rule: FeedbackRule | None, asymmetry: float) -> tuple[dict[str, Tensor], ...]:
    """(EP's, those of backpropagation through 300 sweeps), that of X as Xk and Xv of keys and values."""
    return apart(*texts_of(rule, asymmetry), rule)


def pairs_of(rule: FeedbackRule | None, asymmetry: float) -> tuple[Network, Batch]:
    """A token layer over words stored twice: values, v_a, v₂, v₃ are (1 − η) of what they copy, and η of others."""
    shape = Shape(5, 4, (7,), 3, projections=((1, 0), (0, 1)), learnt=True, temperature=2.0, compared=6, feedback=rule)
    network, other = (
        Network.create(shape, torch.Generator().manual_seed(seed), recall=1.0).to(torch.float64) for seed in (0, 1)
    )
    others = dict(other.named())
    for name, tensor in network.named():
        tensor.mul_(1.3)
        if name[0] == "v":
            tensor.mul_(1 - asymmetry).add_(1.3 * asymmetry * others[name])
    generator = torch.Generator().manual_seed(2)
    keys, more = 1.2 * torch.randn(2, 15, 4, generator=generator, dtype=torch.float64)
    keys[0] = more[0] = 0
    values = (1 - asymmetry) * keys + asymmetry * more
    ids = torch.randint(1, 15, (10, 2, 5), generator=generator)
    for row in range(5):
        ids[row, 0, 5 - row :] = 0
        ids[row, 1, 1 + row :] = 0
    labels = torch.randint(0, 3, (10,), generator=generator)
    return network, Batch(keys[ids], ids > 0, labels, ids=ids, values=values[ids] if rule else None)


def pair_gradients(rule: FeedbackRule | None, asymmetry: float) -> tuple[dict[str, Tensor], ...]:
    """(EP's, those of backpropagation through 300 sweeps), that of X as Xk and Xv of keys and values."""
    return apart(*pairs_of(rule, asymmetry), rule)


def apart(network: Network, batch: Batch, rule: FeedbackRule | None) -> tuple[dict[str, Tensor], ...]:
    both = ThreePhase(1e-3)(EXACT, network, batch), BPTT(300)(EXACT, network, batch)
    found = [dict(each.gradients) for each in both]
    for each in found:
        each |= dict(zip(("Xk", "Xv"), each.pop("X").to_dense().chunk(2 if rule else 1, 1), strict=False))
    return found[0], found[1]


def cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.cosine_similarity(a.flatten(), b.flatten(), 0))


@pytest.mark.parametrize("asymmetry", [0.0, 0.25, 0.5, 1.0])
def test_the_exact_rule_is_the_gradient_at_any_asymmetry(asymmetry: float) -> None:
    for copies, (found, truth) in (
        ({"v3", "v4", "v5"}, gradients("exact", asymmetry)),
        ({"q", "v2", "v3", "v4", "Xk", "Xv"}, text_gradients("exact", asymmetry)),
        ({"w1", "wx", "wa", "va", "v2", "v3", "Xk", "Xv"}, pair_gradients("exact", asymmetry)),
    ):
        assert copies < set(truth) == set(found)
        for name, value in truth.items():
            assert value.norm() > 1e-8, name
            assert cosine(found[name], value) >= 0.999999, name
            assert (found[name] - value).norm() / value.norm() < 1e-3, name


@pytest.mark.parametrize("rule", ["plain", "vector-field"])
def test_the_other_rules_leave_queries_and_patterns_behind(rule: FeedbackRule) -> None:
    """At an asymmetry of a half."""
    found, truth = text_gradients(rule, 0.5)
    for name in ("q", "Xk", "Xv", "w2"):
        assert cosine(found[name], truth[name]) < 0.9, name


def test_the_other_rules_leave_it_as_feedback_comes_to_differ() -> None:
    """Of the lowest layers, which hear of the error through all copies."""
    for rule in ("plain", "vector-field"):
        course = []
        for asymmetry in (0.0, 0.25, 0.5, 1.0):
            found, truth = gradients(rule, asymmetry)  # type: ignore[arg-type]
            course.append(cosine(found["w2"], truth["w2"]))
        assert course[0] > 0.999999 and course[1] > course[2] > course[3] and course[2] < 0.99, (rule, course)


def test_with_equal_copies_every_rule_is_ep_of_the_symmetric_network() -> None:
    """Plain: both copies get its update; else the two sides of it, which add up to it."""
    symmetric, _ = text_gradients(None, 0.0)
    plain, exact = (text_gradients(rule, 0.0)[0] for rule in ("plain", "exact"))
    for copy in ("Xk", "Xv"):
        torch.testing.assert_close(plain[copy], symmetric["Xk"], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(exact["Xk"] + exact["Xv"], symmetric["Xk"], rtol=1e-6, atol=1e-9)
    symmetric, _ = gradients(None, 0.0)
    for rule in ("plain", "vector-field", "exact"):
        found, _ = gradients(rule, 0.0)  # type: ignore[arg-type]
        for name, value in symmetric.items():
            copy = found.get(f"v{name[1:]}") if name[0] == "w" else None
            if copy is not None and rule == "plain":
                assert torch.equal(copy, found[name])
            whole = found[name] if copy is None or rule == "plain" else found[name] + copy
            torch.testing.assert_close(whole, value, rtol=1e-6, atol=1e-9)
