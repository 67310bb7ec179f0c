import math
from collections.abc import Callable
from dataclasses import fields, replace

import pytest
import torch

from eqspike_seq.learning.estimators import ThreePhase, TwoPhase
from eqspike_seq.model.synapses import Rates, learnt, local_update, multiplied_out
from eqspike_seq.relaxation.dense import DenseBackend
from neuromorphic.change_code import SigmaDeltaBackend
from neuromorphic.plasticity import Count, EqSpike, MembraneCount, Rule, Side, Trace, local_products
from neuromorphic.rate_code import SpikingBackend
from tests.conftest import make_batch, make_network
from tests.eqspike_seq.test_pooling import pooling, texts

TAU, TICK, STEPS, TEXTS = 30.0, 5, 20, 3
RULES: list[Rule] = [Count(), Trace(), MembraneCount(), EqSpike(TAU)]
DENSE = DenseBackend(tolerance=1e-7)


def traced(z: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    gain, r, course = 1 - torch.tensor(-1 / TAU, dtype=torch.float64).exp(), start, []
    for now in z:
        r = r + gain * (now - r)
        course.append(r)
    return torch.stack(course)


def spiking_side(units: int, seed: int) -> Side:
    generator = torch.Generator().manual_seed(seed)
    z = (torch.rand(STEPS, TEXTS, units, generator=generator) < 0.3).double()
    start = torch.rand(TEXTS, units, generator=generator, dtype=torch.float64)
    course = traced(z, start)
    own = z.mean(0) + 0.01 * torch.randn(TEXTS, units, generator=generator, dtype=torch.float64)
    return Side(z.mean(0), own, start, course[-1], z, course)


def held_side(units: int, seed: int) -> Side:
    generator = torch.Generator().manual_seed(seed)
    held = torch.randn(STEPS // TICK, TEXTS, units, generator=generator, dtype=torch.float64)
    start = torch.randn(TEXTS, units, generator=generator, dtype=torch.float64)
    course = traced((start + held).repeat_interleave(TICK, 0), start)
    return Side((start + held).mean(0), held.mean(0), start, course[-1], held=held)


def by_event(post_times: list[int], pre_times: list[int], post: list[float], pre: list[float]) -> float:
    """One synapse, event after event; traces by step, index 0 the start of the nudge."""
    total = 0.0
    for times, mine, other in ((post_times, post, pre), (pre_times, pre, post)):
        last = 0
        for t in times:
            total += mine[t] * (other[t] - other[last])
            last = t
    return total


def assert_sums_by_event(
    post: Side, pre: Side, pre_times: Callable[[int, int], list[int]], course: torch.Tensor
) -> None:
    """Of EqSpike: each synapse is the sum over texts of its events.

    Presynaptic ones are at ``pre_times(text, unit)`` and leave the traces ``course`` (steps, texts, units).
    """
    found = EqSpike(TAU).synapse(post, pre).whole()
    assert post.spikes is not None and post.course is not None
    for i in range(4):
        for j in range(3):
            expected = 0.0
            for text in range(TEXTS):
                expected += by_event(
                    [t + 1 for t in range(STEPS) if post.spikes[t, text, i]],
                    pre_times(text, j),
                    [float(post.trace0[text, i]), *post.course[:, text, i].tolist()],
                    [float(pre.trace0[text, j]), *course[:, text, j].tolist()],
                )
            assert float(found[i, j]) == pytest.approx(expected, abs=1e-10)


def test_eqspike_is_the_sum_over_single_events_between_spiking_layers() -> None:
    post, pre = spiking_side(4, 0), spiking_side(3, 1)
    spikes, course = pre.spikes, pre.course
    assert spikes is not None and course is not None
    assert_sums_by_event(post, pre, lambda text, j: [t + 1 for t in range(STEPS) if spikes[t, text, j]], course)


def test_eqspike_is_the_sum_over_single_events_under_held_values() -> None:
    post, pre = spiking_side(4, 2), held_side(3, 3)
    assert pre.held is not None
    course = traced((pre.trace0 + pre.held).repeat_interleave(TICK, 0), pre.trace0)
    assert_sums_by_event(post, pre, lambda text, j: list(range(TICK, STEPS + 1, TICK)), course)


def test_spiking_all_the_time_eqspike_telescopes_to_the_endpoints() -> None:
    """If both sides fire in every step, the events miss nothing: up to Δr·Δr of single steps it is Δ(r_post r_pre)."""
    z = torch.ones(STEPS, TEXTS, 2, dtype=torch.float64)
    start = torch.full((TEXTS, 2), 0.5, dtype=torch.float64)
    course = traced(z, start)
    side = Side(z.mean(0), z.mean(0), start, course[-1], z, course)
    moves = torch.diff(course, dim=0, prepend=start.unsqueeze(0))
    ends = course[-1].T @ course[-1] - start.T @ start
    expected = ends + torch.einsum("tbi,tbj->ij", moves, moves)
    torch.testing.assert_close(EqSpike(TAU).synapse(side, side).whole(), expected)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("pre_kind", [spiking_side, held_side])
def test_a_synapse_sees_its_two_sides_and_nothing_else(rule: Rule, pre_kind: object) -> None:
    """Whatever other neurons do, the synapse from pre 1 to post 2 holds the same."""
    post, pre = spiking_side(4, 0), pre_kind(3, 1)  # type: ignore[operator]

    def with_other_neurons(side: Side, kept: int, seed: int) -> Side:
        generator, changes = torch.Generator().manual_seed(seed), {}
        for item in fields(side):
            value = getattr(side, item.name)
            if value is not None:
                noise = torch.rand(value.shape, generator=generator, dtype=value.dtype)
                other = noise.round() if item.name == "spikes" else noise
                other[..., kept] = value[..., kept]
                changes[item.name] = other
        return replace(side, **changes)

    changed = rule.synapse(with_other_neurons(post, 2, 5), with_other_neurons(pre, 1, 6)).whole()
    same = rule.synapse(post, pre).whole()
    torch.testing.assert_close(changed[2, 1], same[2, 1], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(changed, same)
    torch.testing.assert_close(rule.input(with_other_neurons(post, 2, 5))[:, 2], rule.input(post)[:, 2])


def test_phases_of_backends_that_learn_differently_have_no_contrast() -> None:
    network, batch = make_network(), make_batch()
    dense, spiking = (backend(dtype=torch.float64).free(network, batch) for backend in (DenseBackend, SpikingBackend))
    with pytest.raises(TypeError, match="different backends"):
        learnt(network, batch, spiking.synapses, dense.synapses, 1.0)


def test_count_is_eq18_on_window_rates() -> None:
    network, batch = make_network(), make_batch()
    backend = SpikingBackend(dtype=torch.float64)
    free = backend.free(network, batch)
    plus, minus = backend.nudge(network, batch, free, (0.5, -0.5))
    expected = local_update(network, batch, *Rates(plus.rates).contrast(Rates(minus.rates)), scale=1.0)
    found = ThreePhase(0.5)(backend, network, batch).gradients
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)


@pytest.mark.parametrize("estimator", [ThreePhase, TwoPhase])
@pytest.mark.parametrize("rule", [Trace(300.0), MembraneCount(), EqSpike(300.0)], ids=lambda rule: type(rule).__name__)
def test_every_rule_points_where_eq18_points(rule: Rule, estimator: type) -> None:
    network, batch = make_network((16, 6), 8, 6, dtype=torch.float32), make_batch(24, 8, 6, dtype=torch.float32)
    backend = SpikingBackend(800, 800, 600, 10, rule=rule)
    truth = estimator(0.5)(DENSE, network, batch).gradients
    found = estimator(0.5)(backend, network, batch).gradients
    for name, value in truth.items():
        cosine = float(torch.cosine_similarity(found[name].flatten(), value.flatten(), 0))
        # with one nudge, what the free phase left unsettled does not cancel: worst where the contrast is smallest
        least = 0.95 if estimator is ThreePhase else {"w1": 0.65, "w2": 0.85}.get(name, 0.9)
        assert cosine > least, (name, cosine)


@pytest.mark.parametrize("rule", [Count(), Trace(300.0), MembraneCount(), EqSpike(300.0)], ids=lambda rule: rule.name)
def test_every_rule_teaches_queries_and_patterns(rule: Rule) -> None:
    network, batch = pooling(), texts(24).whole()
    truth = ThreePhase(0.5)(DENSE, network, batch).gradients
    backend = SpikingBackend(800, 800, 600, 10, rule=rule, dtype=torch.float64)
    found = ThreePhase(0.5)(backend, network, batch).gradients
    assert found.keys() == truth.keys() >= {"q", "X"}
    for name, value in truth.items():
        pair = [gradients.to_dense().flatten() for gradients in (found[name], value)]
        cosine = float(torch.cosine_similarity(*pair, 0))
        assert cosine > 0.95, (name, cosine)


def test_patterns_learn_from_the_free_phase_and_one_nudge_too() -> None:
    network, batch = pooling(), texts(24).whole()
    truth = TwoPhase(0.5)(DENSE, network, batch).gradients["X"].to_dense()
    backend = SpikingBackend(4000, 4000, 3000, 10, rule=MembraneCount(), dtype=torch.float64)
    found = TwoPhase(0.5)(backend, network, batch).gradients["X"].to_dense()
    assert (found - truth).norm() < 0.1 * truth.norm()


@pytest.mark.parametrize("circuit", ["rates", "changes"])
def test_patterns_learn_in_low_precision(circuit: str) -> None:
    network, batch = pooling().to(torch.float32), texts(24).whole().to(torch.float32)
    backend = SpikingBackend(800, 800, 600, 10) if circuit == "rates" else SigmaDeltaBackend(200, 200)
    whole, low = (
        ThreePhase(0.5)(replace(backend, dtype=dtype), network, batch).gradients["X"].to_dense()
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert float(torch.cosine_similarity(whole.flatten(), low.flatten(), 0)) > 0.9


def test_membrane_takes_away_the_neurons_own_quantisation_error() -> None:
    network, batch = make_network((16, 6), 8, 6), make_batch(24, 8, 6)
    truth = ThreePhase(0.5)(DENSE, network, batch).gradients
    errors = {}
    for rule in (Count(), MembraneCount()):
        backend = SpikingBackend(200, 200, 140, 10, dtype=torch.float64, rule=rule)
        found = ThreePhase(0.5)(backend, network, batch).gradients
        errors[type(rule)] = float((found["w3"] - truth["w3"]).norm() / truth["w3"].norm())
    assert errors[MembraneCount] < errors[Count] / 2


def test_products_have_the_names_and_shapes_of_the_parameters() -> None:
    network, batch = make_network(), make_batch()
    sides = [Side(r, r, r, r) for r in (torch.rand(7, size, dtype=torch.float64) for size in network.shape.sizes)]
    seen = (network.rest(len(batch)),) * 2
    held = multiplied_out(local_products(Count(), network, batch, sides[0], sides, seen))
    assert {name: value.shape for name, value in held.items()} == {n: t.shape for n, t in network.named()}


@pytest.mark.parametrize("difference", [-60, -7, 0, 7, 60])
def test_eqspike_of_a_pair_of_spikes_is_an_exponential_window(difference: int) -> None:
    """Traces from 0, one spike of each side: the later one finds the other side's trace risen by a e^(−|Δt|/τ)."""
    tau, steps = 50.0, 300
    gain = 1 - math.exp(-1 / tau)

    def side(at: int) -> Side:
        spikes, trace, course = torch.zeros(steps, 1, 1, dtype=torch.float64), 0.0, []
        spikes[at] = 1
        for z in spikes.flatten().tolist():
            trace += gain * (z - trace)
            course.append(trace)
        none = torch.zeros(1, 1, dtype=torch.float64)
        return Side(none, none, none, none + trace, spikes, torch.tensor(course, dtype=torch.float64).view(-1, 1, 1))

    change = float(EqSpike(trace_tau=tau).synapse(side(150), side(150 - difference)).whole())
    both = 2 if difference == 0 else 1  # at once, each sees the other
    assert change == pytest.approx(both * gain**2 * math.exp(-abs(difference) / tau), rel=1e-9)
