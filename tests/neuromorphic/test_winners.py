"""Soft winner-take-all: what it estimates, how fast, and that only unit spikes cross it."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from eqspike.build import CHANGE_CIRCUITS, RATE_CIRCUITS, configure, make_backend
from eqspike_seq.learning.estimators import ThreePhase
from eqspike_seq.model.attention import hopattn, weights
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.synapses import pattern_products
from eqspike_seq.relaxation.dense import DenseBackend
from neuromorphic.attention.winners import (
    FULL_SCALE,
    SAMPLERS,
    GatedWinners,
    SamplerName,
    Winners,
    iid,
    one_hot_sigma_delta,
    pattern_sum,
    systematic,
)
from neuromorphic.change_code import SigmaDeltaBackend
from neuromorphic.rate_code import SpikingBackend
from tests.conftest import make_batch, make_network
from tests.eqspike_seq.test_pooling import pooling, texts

PATTERNS, DIM = 12, 6


def some_rows(rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(rows, DIM, generator=generator, dtype=torch.float64),
        torch.randn(PATTERNS, DIM, generator=generator, dtype=torch.float64),
    )


def uniform(*size: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", SAMPLERS)
def test_m_winners_are_whole_spikes_and_none_is_of_padding(name: str) -> None:
    queries, patterns = some_rows(40)
    blocked = torch.zeros(1, PATTERNS, dtype=torch.float64)
    blocked[:, 9:] = -1e9
    counts = SAMPLERS[name](weights(queries, patterns, blocked), 17, uniform(40, 17))
    assert (counts == counts.round()).all() and (counts >= 0).all() and (counts.sum(-1) == 17).all()
    assert not counts[:, 9:].any()


@pytest.mark.parametrize(("name", "winners"), [("iid", 5), ("systematic", 5), ("systematic", 1)])
def test_expected_pattern_of_the_winners_is_hopattn(name: str, winners: int) -> None:
    queries, patterns = some_rows(1)
    draws = 40_000
    p = weights(queries, patterns, None).expand(draws, PATTERNS)
    counts = SAMPLERS[name](p, winners, uniform(draws, winners)) / winners
    error = (counts.mean(0) - p[0]).abs()
    assert (error < 5 * counts.std(0) / math.sqrt(draws) + 1e-12).all()
    torch.testing.assert_close(counts.mean(0) @ patterns, hopattn(queries, patterns)[0], atol=0.03, rtol=0)


def test_systematic_counts_are_the_floor_or_the_ceiling_of_what_is_expected() -> None:
    p = weights(*some_rows(200), None)
    for sampler in (systematic, one_hot_sigma_delta):
        counts = sampler(p, 37, uniform(200, 37))
        assert (counts - 37 * p).abs().max() < (1 if sampler is systematic else 2)


@pytest.mark.parametrize(("name", "power"), [("iid", -0.5), ("systematic", -1.0), ("sigma-delta", -1.0)])
def test_law_of_the_error(name: str, power: float) -> None:
    """RMS distance to HopAttn against M winners: 1/√M for independent draws, 1/M for evenly spread ones."""
    queries, patterns = some_rows(400)
    exact = hopattn(queries, patterns)
    sizes = [16, 32, 64, 128, 256]
    errors = [
        float((pattern_sum(name, m, queries, patterns, None, uniform(400, m)) / m - exact).square().mean().sqrt())
        for m in sizes
    ]
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert slope == pytest.approx(power, abs=0.1), errors


def test_independent_draws_have_the_variance_of_a_multinomial() -> None:
    p = weights(*some_rows(1), None).expand(20_000, PATTERNS)
    counts = iid(p, 8, uniform(20_000, 8))
    torch.testing.assert_close(counts.var(0), 8 * p[0] * (1 - p[0]), rtol=0.06, atol=1e-3)


@pytest.mark.parametrize(("neuron", "table"), [("if", RATE_CIRCUITS), ("sigma-delta", CHANGE_CIRCUITS)])
def test_a_circuit_is_made_by_its_name_with_its_settings(neuron: str, table: dict[str, type]) -> None:
    assert table.keys() == {"clocked", "wta"}
    for name, kind in table.items():
        given = {"sampler": "iid"} if name == "wta" else {}
        made = make_backend(configure("mini", "spiking", neuron=neuron, circuit=name, **given))
        assert isinstance(made, SpikingBackend | SigmaDeltaBackend) and type(made.circuit) is kind
        assert all(getattr(made.circuit, setting) == value for setting, value in given.items())


WTA = GatedWinners(winners=64, query_threshold=0.1)


def test_nothing_but_unit_spikes_crosses_a_connection() -> None:
    network, batch = make_network(), make_batch()
    estimate = ThreePhase(0.5)(SigmaDeltaBackend(circuit=WTA, dtype=torch.float64), network, batch)
    for found in estimate.equilibria:
        ledger = found.ledger
        assert ledger.total("graded_events") == 0
        static = ledger.counts.get("w1", {})
        products = sum(kinds["multiply_accumulates"] for kinds in static.values())
        assert ledger.total("multiply_accumulates") == products  # x w₁, once a text
        for layer in ("query", "hopattn"):
            (kinds,) = ledger.counts[layer].values()
            assert kinds["spikes"] > 0 and kinds["multiply_accumulates"] == 0
            assert kinds["accumulates"] == kinds["synaptic_events"]
    (kinds,) = estimate.equilibria[0].ledger.counts["hopattn"].values()
    assert kinds["spikes"] % 64 == 0 and kinds["accumulates"] == kinds["spikes"] * 4


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_gradient_by_winners_is_that_of_the_softmax_in_the_mean(sampler: str) -> None:
    network, batch = make_network(), make_batch()
    copies = 1 if sampler == "sigma-delta" else 40  # each with its own u
    many = Batch(*(tensor.repeat(copies, *[1] * (tensor.dim() - 1)) for tensor in (batch.x, batch.mask, batch.labels)))
    fine = {"nudge_threshold": 1e-3, "projection_nudge_threshold": 1e-3, "threshold": (0.1,)}
    common: dict[str, Any] = {**fine, "projection_threshold": 0.1, "dtype": torch.float64}
    truth = ThreePhase(0.5)(SigmaDeltaBackend(**common), network, batch).gradients
    circuit = GatedWinners(sampler=sampler, winners=256)
    found = ThreePhase(0.5)(SigmaDeltaBackend(circuit=circuit, **common), network, many).gradients
    for name in ("w2", "w3", "w4"):
        assert torch.nn.functional.cosine_similarity(found[name].flatten(), truth[name].flatten(), 0) > 0.9, name


@pytest.mark.parametrize("sampler", ["iid", "systematic"])
def test_winners_beside_rates_teach_patterns_their_share_times_the_query_in_the_mean(sampler: SamplerName) -> None:
    """Dense EP on the same texts has p ⊗ q̂ of a softmax; each copy of a text has its own u."""
    network, one, copies = pooling(), texts(24), 40
    assert one.counts is not None
    ids, labels, counts = (part.repeat(copies, *[1] * (part.dim() - 1)) for part in (one.ids, one.labels, one.counts))
    many = replace(one, ids=ids, labels=labels, counts=counts)
    truth = ThreePhase(0.5)(DenseBackend(tolerance=1e-7), network, one.whole()).gradients["X"].to_dense()
    backend = SpikingBackend(800, 800, 600, 10, circuit=Winners(sampler), dtype=torch.float64)
    found = ThreePhase(0.5)(backend, network, many.whole()).gradients["X"].to_dense()
    assert (found - truth).norm() < 0.12 * truth.norm()


def test_a_pattern_sees_its_own_spikes_and_the_query() -> None:
    """Over the 7 ticks of the window, 140 steps; what the free phase has left is not the nudge's."""
    network, batch = pooling(), texts().whole()
    backend = SpikingBackend(200, 200, 140, 20, circuit=Winners("iid"), dtype=torch.float64)
    free = backend.free(network, batch)
    projection = free.kept.projection
    (shares, query), mean = projection.recall(7, 0)
    spikes = 140 * shares
    torch.testing.assert_close(spikes, spikes.round(), atol=1e-3, rtol=0)
    assert (spikes.sum(-1) - 140).abs().max() < 1e-3 and not spikes.mT[batch.ids == 0].any()
    won = shares.double() @ batch.x
    assert (won - free.rates.projection).abs().max() < 1.01 * FULL_SCALE / 140  # the spikes that s¹ was made of
    torch.testing.assert_close(query, projection.layer.full_query(torch.stack(projection.heard[-7:]).mean(0)[:, 0]))
    products = pattern_products(network, batch, (shares, query), mean)["X"]
    expected = network.shape.temperature * torch.einsum("bprn,bprd->bpnd", shares.double(), query)
    torch.testing.assert_close(products.values, expected[batch.ids > 0], rtol=1e-5, atol=1e-6)
    backend.nudge(network, batch, free, (0.5,))
    for then, now in zip((shares, query), projection.recall(7, 0)[0], strict=True):
        assert torch.equal(then, now)


def test_on_and_off_spikes_of_a_tick_lose_nothing() -> None:
    """What the rate-coded circuit sends over many ticks is the mean of what its winners brought, within one spike."""
    network, batch = make_network(), make_batch()
    backend = SpikingBackend(circuit=Winners(), tick_steps=10, free_steps=400, window=400, nudge_steps=400)
    found = backend.free(network.to(torch.float32), Batch(batch.x.float(), batch.mask, batch.labels), record=True)
    exact = SpikingBackend(tick_steps=10, free_steps=400, window=400, nudge_steps=400).free(
        network.to(torch.float32), Batch(batch.x.float(), batch.mask, batch.labels)
    )
    assert (found.rates.projection - exact.rates.projection).abs().mean() < 0.1
    counts = found.ledger.counts
    assert counts["s1"]["free"]["spikes"] > 0 and counts["s1"]["free"]["graded_events"] == 0
    rows = int(batch.mask.sum()) * 40  # ticks
    assert counts["hopattn"]["free"]["spikes"] == 10 * rows
