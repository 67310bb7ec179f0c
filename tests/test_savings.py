"""Hardware that saves less, by arithmetic on a ledger, against networks that are simulated so."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmarks.savings import KeepMost, holding, in_every_step, narrow, occurrences, reread, stored_at, variants
from eqspike_seq.data.encoding import Encoded
from eqspike_seq.ledger import Ledger
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network, State
from eqspike_seq.model.projection import DenseProjection
from eqspike_seq.phases import RELAXED, Phase
from neuromorphic.change_code import SigmaDeltaBackend
from neuromorphic.changes import FreeNeurons, NudgedNeurons
from neuromorphic.pricing import price, read_table, total
from tests.eqspike_seq.test_pooling import DIM, QUERIES, pooling, texts

BACKEND = SigmaDeltaBackend(threshold=(0.05,), projection_threshold=0.05, dtype=torch.float64)


def relaxed(network: Network, batch: Batch) -> list[Ledger]:
    """The ledgers of the three phases of one text; the nudges one at a time, each until it is silent itself."""
    free = BACKEND.free(network, batch)
    return [free.ledger, *(BACKEND.nudge(network, batch, free, (beta,))[0].ledger for beta in (0.5, -0.5))]


def every_occurrence(batch: Batch) -> Batch:
    """One text, whose equal patterns are places of their own."""
    assert batch.counts is not None and batch.ids is not None
    places = torch.arange(batch.mask.shape[2]).repeat_interleave(batch.counts[0, 0].long())
    parts = {name: getattr(batch, name)[:, :, places] for name in ("x", "mask", "ids")}
    return replace(batch, counts=torch.ones_like(parts["ids"], dtype=batch.x.dtype), **parts)


def readings(ledger: Ledger, phase: Phase) -> Tensor:
    """At how many moments one text was read: each row has a division a component then."""
    return torch.tensor([ledger.counts["hopattn"][phase]["divisions"] // (QUERIES * DIM)])


def one_by_one() -> list[Batch]:
    """Texts with patterns that occur several times."""
    found = texts()
    return [found.take(slice(row, row + 1), 5) for row in range(len(found))]


def test_stored_occurrences_are_counted_as_they_are_where_they_are_simulated() -> None:
    network, grown = pooling(), 0
    for batch in one_by_one():
        assert batch.counts is not None
        stored = batch.counts.sum((1, 2)).long()
        grown += int(stored.sum()) - int(batch.mask.sum())
        for phase, mine, simulated in zip(
            RELAXED, relaxed(network, batch), relaxed(network, every_occurrence(batch)), strict=True
        ):
            assert reread(mine, network.shape, phase, stored, readings(mine, phase)) == simulated
    assert grown > 0


@pytest.mark.parametrize("silent", [True, False])
def test_readings_in_every_step_are_counted_as_they_are_where_they_are_simulated(
    silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, batches, more = pooling(), one_by_one(), 0
    kept = [relaxed(network, batch) for batch in batches]
    ones = property(lambda neurons: torch.ones(1, dtype=torch.bool), lambda neurons, value: None)
    for kind in (FreeNeurons, NudgedNeurons):
        monkeypatch.setattr(kind, "stale", ones, raising=False)
        monkeypatch.setattr(kind, "until_silent", silent)
    for batch, ledgers in zip(batches, kept, strict=True):
        assert batch.counts is not None
        for phase, mine, simulated in zip(RELAXED, ledgers, relaxed(network, batch), strict=True):
            limit = BACKEND.free_steps if phase == Phase.FREE else BACKEND.nudge_steps
            steps = torch.tensor([mine.steps[phase]])
            each = variants(batch.mask[:, 0].sum(1), batch.counts.sum((1, 2)).long(), steps, limit)
            taken = each["silent" if silent else "distinct"]
            assert reread(mine, network.shape, phase, *taken) == simulated
            more += int((taken[1] - readings(mine, phase)).sum())
    assert more > 0


def test_steps_of_silence_are_counted_for_all_neurons() -> None:
    """12 steps where a text was silent after fewer: two hidden layers and the output rest in those left over."""
    network = pooling()
    for batch in one_by_one():
        mine, stored = BACKEND.free(network, batch).ledger, batch.mask[:, 0].sum(1)
        left = 12 - mine.steps[Phase.FREE]
        found = in_every_step(mine, network.shape, Phase.FREE, stored, torch.tensor([12]))
        assert found.steps[Phase.FREE] == 12 and found.samples == mine.samples
        for name, size in (("s2", 7), ("s3", 5), ("s4", 2)):
            before, after = (ledger.counts[name][Phase.FREE]["idle_updates"] for ledger in (mine, found))
            assert after - before == left * size
        s1 = found.counts["s1"][Phase.FREE]
        assert (s1["idle_updates"], s1["neuron_updates"]) == (0, 12 * QUERIES * DIM)


def test_occurrences_of_texts_one_of_them_empty() -> None:
    counts = torch.tensor([2, 1, 5], dtype=torch.int32).numpy()
    lengths, labels = torch.tensor([2, 0, 1]).numpy(), torch.tensor([0, 1, 0]).numpy()
    part = Encoded.of(torch.tensor([4, 7, 4], dtype=torch.int32).numpy(), lengths, labels, counts=counts)
    assert occurrences(part).tolist() == [3, 0, 5]


def test_keeping_most_leaves_the_network_of_the_patterns_kept() -> None:
    p = torch.tensor([[0.5, 0.05, 0.4, 0.05], [0.1, 0.7, 0.1, 0.1]])
    assert holding(p, 0.85).tolist() == [[True, False, True, False], [True, True, True, False]]
    assert holding(p, 0.4).tolist() == [[True, False, False, False], [False, True, False, False]]
    network, fewer = pooling(), 0
    for batch in one_by_one():
        rest = network.rest(1)
        s1 = rest.projection
        circuit, s2 = KeepMost(share=0.5), torch.rand(2, 1, 7, dtype=torch.float64)
        whole = DenseProjection.of(network, batch, torch.float64)
        projection = circuit.projection(whole, batch)
        torch.testing.assert_close(projection.free(s2[0], slice(None), s1), whole.free(s2[0], s1))
        kept = holding(whole.recall(State(s1, (s2[0], *rest.layers[1:])))[0], 0.5).any(2).flatten()
        assert batch.counts is not None and batch.ids is not None
        parts = {name: getattr(batch, name)[:, :, kept] for name in ("x", "mask", "counts", "ids")}
        left = DenseProjection.of(network, replace(batch, **parts), torch.float64)
        for s in s2.flip(0):  # also when the first query comes back
            torch.testing.assert_close(projection.free(s, slice(None), s1), left.free(s, s1))
        ((query, stored, held),) = circuit.held
        assert 0 < query <= held == int(kept.sum()) <= stored == int(batch.mask.sum())
        fewer += stored - held
    assert fewer > 0


def test_each_component_of_the_table_has_its_own_scale() -> None:
    table = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([100.0, 1.0, 0.01])
    found = narrow(table, 8)
    assert ((found - table).abs() <= 0.501 * table.abs().amax(0) / 127).all()
    assert all(len(component.unique()) <= 255 for component in found.unbind(1))


def test_vectors_of_fewer_bits() -> None:
    table = read_table("horowitz-45nm-fp32")
    ledger = Ledger(samples={"free": 1})
    ledger.add("input", "free", lookup_reads=3, io_bytes=5)
    ledger.add("hopattn", "free", pattern_writes=3, pattern_reads=6, multiply_accumulates=6)
    vectors = 3 * 650 + (3 + 6) * 10
    found = total(price(ledger, stored_at(table, 8))).value
    assert found == pytest.approx((vectors / 4 + 5 * 162.5 + 6 * 4.6) * 1e-12)
    assert total(price(ledger, stored_at(table, 32))) == total(price(ledger, table))
