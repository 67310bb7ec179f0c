"""Batches by length: the same gradients and figures as of the whole batch, and no padding computed."""

import gc
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch

from eqspike_seq.learning.estimators import BPTT, ByLength, Estimate, GradientEstimator, ThreePhase, TwoPhase
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network
from eqspike_seq.relaxation.buckets import CALLS, NUMBERS, STEP, buckets, lengths, rounded, spans, trimmed
from eqspike_seq.relaxation.dense import DenseBackend
from neuromorphic.rate_code import SpikingBackend
from tests.conftest import make_batch, make_clamped, make_network


def two_inputs() -> tuple[Network, Batch]:
    """Two texts side by side, four projections: queries and keys of different lengths."""
    generator = torch.Generator().manual_seed(5)
    network = make_network(tokens=40, projections=((0, 0), (0, 1), (1, 0), (1, 1)))
    count = torch.randint(1, 41, (9, 2, 1), generator=generator)
    mask = torch.arange(40).view(1, 1, 40) < count
    x = torch.randn(9, 2, 40, 4, generator=generator, dtype=torch.float64) * mask.unsqueeze(-1)
    return network, Batch(x, mask, torch.arange(9) % 2)


def cases() -> dict[str, tuple[Network, Batch]]:
    long = {"tokens": 50, "size": 9}
    return {
        "texts": (make_network(tokens=50), make_batch(**long)),  # type: ignore[arg-type]
        "no attention": (make_network(tokens=50, attention=False), make_batch(**long)),  # type: ignore[arg-type]
        "padding takes part": (make_network(tokens=50, masked=False), make_batch(**long)),  # type: ignore[arg-type]
        "pairs": two_inputs(),
        "clamped": make_clamped(),
    }


@pytest.mark.parametrize("case", list(cases()))
@pytest.mark.parametrize("estimator", [ThreePhase(0.2), TwoPhase(0.2), BPTT(4)], ids=lambda e: type(e).__name__)
def test_buckets_give_what_the_whole_batch_gives(
    case: str, estimator: GradientEstimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DenseBackend, "together", 4)
    monkeypatch.setattr("eqspike_seq.relaxation.buckets.NUMBERS", 0)
    network, batch = cases()[case]
    backend = DenseBackend(free_steps=40, nudge_steps=40, tolerance=1e-4, dtype=torch.float64)
    whole, parts = estimator(backend, network, batch), ByLength(estimator)(backend, network, batch)
    for name, gradient in whole.gradients.items():
        torch.testing.assert_close(parts.gradients[name], gradient, rtol=1e-9, atol=1e-13)
    for one, other in zip(whole.equilibria, parts.equilibria, strict=True):
        torch.testing.assert_close(other.outputs[-1], one.outputs[-1])
        torch.testing.assert_close(other.rates.layers[0], one.rates.layers[0])
        assert torch.equal(one.steps, other.steps) and torch.equal(one.converged, other.converged)
        assert one.ledger == other.ledger


def test_spikes_of_buckets_are_those_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SpikingBackend, "together", 4)
    monkeypatch.setattr("eqspike_seq.relaxation.buckets.NUMBERS", 0)
    network, batch = make_network(tokens=50), make_batch(tokens=50, size=9)
    backend = SpikingBackend(free_steps=60, nudge_steps=60, window=40, dtype=torch.float64)
    whole, parts = ThreePhase(0.5)(backend, network, batch), ByLength(ThreePhase(0.5))(backend, network, batch)
    for name, gradient in whole.gradients.items():
        torch.testing.assert_close(parts.gradients[name], gradient, rtol=1e-9, atol=1e-13)
    assert [p.ledger for p in parts.equilibria] == [w.ledger for w in whole.equilibria]


@pytest.mark.parametrize("backend", [DenseBackend(dtype=torch.float64), SpikingBackend(dtype=torch.float64)])
def test_no_s1_of_a_bucket_is_held_while_the_next_is_relaxed(
    backend: DenseBackend | SpikingBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(backend), "together", 4)
    monkeypatch.setattr("eqspike_seq.relaxation.buckets.NUMBERS", 0)
    network, batch = make_network(tokens=200), make_batch(tokens=200, size=12)
    batch = replace(batch, mask=torch.arange(200).view(1, 1, 200) < torch.arange(190, 70, -10).view(12, 1, 1))
    gc.collect()  # what other tests have left
    held, before = [], held_bytes()
    gradients, s1 = sum(p.nbytes for _, p in network.named()), 4 * network.shape.flat * 8

    def estimate(backend: DenseBackend, network: Network, batch: Batch) -> Estimate:
        held.append((held_bytes() - before - gradients) / s1)
        return ThreePhase(0.2)(backend, network, batch)

    found = ByLength(estimate)(backend, network, batch)  # type: ignore[arg-type]
    held.append((held_bytes() - before - gradients) / s1)
    assert len(held) == 4 and max(held) < 2, held  # times s¹ of a bucket without cuts; its embeddings are one
    assert found.gradients.keys() == dict(network.named()).keys()


def held_bytes() -> int:
    """Of all tensors that are alive."""
    found = [thing.untyped_storage() for thing in gc.get_objects() if type(thing) is torch.Tensor]
    return sum({storage.data_ptr(): storage.nbytes() for storage in found}.values())


def test_a_bucket_is_cut_to_its_longest_text_and_every_text_is_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eqspike_seq.relaxation.buckets.NUMBERS", 0)
    network, batch = make_network(tokens=200), make_batch(tokens=200, size=3 * DenseBackend.together)
    rows, found = [], lengths(network.shape, batch.mask)
    for places, narrow, texts in buckets(DenseBackend(), network, batch):
        longest = int(found[places].max())
        assert longest <= narrow.shape.rows == texts.x.shape[2] < longest + STEP
        assert narrow.weights[0].shape[1] == narrow.shape.flat
        assert narrow.weights[0].data_ptr() == network.weights[0].data_ptr()  # no copy
        rows += places.tolist()
    assert sorted(rows) == list(range(len(batch)))


def test_gaps_in_a_mask_are_kept() -> None:
    network, batch = make_network(tokens=40), make_batch(tokens=40, size=2)
    mask = torch.zeros_like(batch.mask)
    mask[0, 0, 20], mask[1, 0, :3] = True, True
    assert lengths(network.shape, mask).tolist() == [21, 3]
    narrow, texts = trimmed(network, Batch(batch.x, mask, batch.labels))
    assert narrow.shape.rows == 32 and bool(texts.mask[0, 0, 20])
    assert np.prod(texts.x.shape) == 2 * 32 * 4


def test_buckets_of_pooling_queries_are_the_cheapest_of_all() -> None:
    shape, rng = replace(make_network().shape, pooling=True, dim=32, rows=8), np.random.default_rng(0)

    def cost(texts: list[int], cuts: tuple[int, ...]) -> float:
        numbers = [(end - start) * rounded(texts[start], shape) * shape.dim for start, end in pairwise(cuts)]
        alone = [end - start == 1 for start, end in pairwise(cuts)]
        fits = all(number <= NUMBERS or one for number, one in zip(numbers, alone, strict=True))
        return sum(numbers) + CALLS * len(numbers) if fits else float("inf")

    for count in (1, 2, 5, 8, 8, 8, 8, 8):
        texts = sorted(rng.integers(1, 9000, count).tolist(), reverse=True)
        found, inner = spans(shape, torch.tensor(texts), 0, "cpu"), range(1, count)
        cheapest = min(
            cost(texts, (0, *cuts, count)) for number in range(count) for cuts in combinations(inner, number)
        )
        assert cost(texts, (0, *(span.stop for span in found))) == cheapest < float("inf")
    many = spans(shape, torch.full((9000,), 3), 0, "cpu")
    assert max(span.stop - span.start for span in many) * STEP * 32 <= NUMBERS and many[-1].stop == 9000
    assert spans(shape, torch.zeros(0), 0, "cpu") == []
