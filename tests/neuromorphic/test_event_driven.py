"""One text at a time: the same spikes as the batched path, neuron by neuron and step by step."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from eqspike_seq.errors import EqspikeError
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network
from neuromorphic.attention.gated import Gated
from neuromorphic.attention.winners import GatedWinners
from neuromorphic.change_code import SigmaDeltaBackend
from neuromorphic.event_driven import EventDriven, Relaxed
from tests.conftest import make_network
from tests.eqspike_seq.test_pooling import pooling, texts

TOKENS, DIM, WORDS = 12, 8, 15  # so few words that texts repeat some
SMALL = SigmaDeltaBackend(
    free_steps=30, threshold=(0.1,), projection_threshold=0.2, output_threshold=0.02, dtype=torch.float64
)
CASES = {
    "as it is": ({}, {}),
    "rows anew where the query moved": ({"circuit": Gated(attention_threshold=0.05)}, {}),
    "silent at first": ({"origin": (0.0, 0.5), "circuit": Gated(attention_threshold=0.03)}, {}),
    "coarse s²": ({"threshold": (0.7, 0.05), "origin": (0.0, 0.5)}, {}),
    "one hidden layer": ({"circuit": Gated(attention_threshold=0.05)}, {"hidden": (9,)}),
    "three hidden layers": ({}, {"hidden": (9, 7, 5)}),
    "wide deadband": ({"deadband": 0.8, "circuit": Gated(attention_threshold=0.02)}, {}),
    "no attention": ({"origin": (0.0, 0.5), "deadband": 0.6}, {"attention": False}),
    "no attention, one hidden layer": ({}, {"attention": False, "hidden": (9,)}),
    "few steps": ({"free_steps": 2}, {}),
}


def words(seed: int) -> torch.Tensor:
    table = torch.randn(WORDS + 1, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    table[0] = 0
    return table


def batched(backend: SigmaDeltaBackend, network: Network, table: torch.Tensor, ids: np.ndarray) -> list[Any]:
    """From batches of one: signed units of s¹ (steps, n, D), s², … (steps, Hᵢ) in each step, outputs, the ledger."""
    full = torch.zeros(1, 1, network.shape.rows, dtype=torch.int64)
    full[0, 0, : len(ids)] = torch.from_numpy(ids)
    batch = Batch(table[full], full > 0, torch.zeros(1, dtype=torch.int64))
    whole = backend.free(network, batch, record=True)
    so_far = [np.zeros((len(ids), network.shape.dim))]
    for steps in range(1, len(whole.outputs) + 1):
        rates = replace(backend, free_steps=steps).free(network, batch).rates
        so_far.append((rates.projection[0, 0, : len(ids)] / backend.projection_threshold).round().numpy())
    layers = [whole.trace[f"spikes_s{i}"][:, 0].numpy() for i in range(2, 2 + len(network.weights))]
    return [np.diff(np.stack(so_far), axis=0), *layers, whole.outputs[:, 0].numpy(), whole.ledger]


@pytest.mark.parametrize("case", CASES)
def test_same_spikes_outputs_and_costs_as_in_a_batch(case: str) -> None:
    settings, shape = CASES[case]
    backend, rng, spikes = replace(SMALL, **settings), np.random.default_rng(0), 0
    for seed, length in enumerate((1, 2, 5, 9, TOKENS, TOKENS)):
        network = make_network(tokens=TOKENS, dim=DIM, seed=seed, **{"hidden": (9, 6), **shape})
        network.weights[0] *= 2
        table, ids = words(seed), rng.integers(1, WORDS + 1, length).astype(np.int32)
        found = EventDriven(network, backend, table).free(ids, record=True)
        *sent, outputs, ledger = batched(backend, network, table, ids)
        for mine, theirs in zip(found.sent, sent, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        np.testing.assert_allclose(found.outputs, outputs, rtol=0, atol=1e-12)
        assert found.predicted == outputs[-1].argmax()
        mine, theirs = found.ledger(network), ledger
        if length < TOKENS and "hopattn" in mine.counts:  # there, moments at which only padding moved count as well
            for counted in (mine, theirs):
                counted.counts["hopattn"]["free"]["pattern_reads"] = 0
        assert mine == theirs
        spikes += found.spikes[1:].sum()
    assert spikes > 30  # it was not all over after a step


@pytest.mark.parametrize("settings", [{}, {"circuit": Gated(attention_threshold=0.002)}, {"origin": (0.0, 0.5)}])
def test_pooling_queries_spike_as_in_a_batch(settings: dict[str, Any]) -> None:
    backend, network, given = replace(SMALL, **settings), pooling(temperature=3.0), texts()
    ready, heard = EventDriven(network, backend, given.table), 0
    for row in range(len(given)):
        real = given.ids[row, 0] > 0
        batch = given.take(torch.tensor([row]), int(real.sum()))
        whole = backend.free(network, batch, record=True)
        assert given.counts is not None
        ids, counts = given.ids[row, 0][real].numpy(), given.counts[row, 0][real].numpy()
        found = ready.free(ids, counts, record=True)
        for index, mine in enumerate(found.sent[1:], start=2):
            np.testing.assert_array_equal(mine, whole.trace[f"spikes_s{index}"][:, 0].numpy())
        np.testing.assert_array_equal(
            found.sent[0].sum(0), (whole.rates.projection[0, 0] / backend.projection_threshold).round().numpy()
        )
        np.testing.assert_allclose(found.outputs, whole.outputs[:, 0].numpy(), rtol=0, atol=1e-12)
        assert found.ledger(network) == whole.ledger
        heard += found.retrievals
    assert heard > len(given)  # s² was heard
    nothing = ready.free(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    assert not nothing.spikes[:, 0].any()


def test_fewer_rows_are_computed_where_little_moved() -> None:
    network, ids = make_network(tokens=TOKENS, dim=DIM, hidden=(9, 6)), np.arange(1, TOKENS + 1)

    def rows(threshold: float) -> Relaxed:
        settings = replace(SMALL, circuit=Gated(attention_threshold=threshold))
        return EventDriven(network, settings, words(0)).free(ids)

    every, some, first = rows(0.0), rows(0.05), rows(100.0)
    assert every.rows == TOKENS * every.retrievals
    assert TOKENS < some.rows < every.rows
    assert first.rows == TOKENS and first.silent


def test_a_text_without_a_known_word_and_texts_that_are_none() -> None:
    network = make_network(tokens=TOKENS, dim=DIM)
    ready = EventDriven(network, SMALL, words(0))
    empty = ready.free(np.zeros(0, dtype=np.int32))
    *sent, outputs, _ = batched(SMALL, network, words(0), np.zeros(0, dtype=np.int64))
    np.testing.assert_allclose(empty.outputs, outputs, rtol=0, atol=1e-12)
    assert empty.spikes[:, 0].sum() == 0 and empty.rows == 0
    with pytest.raises(EqspikeError, match="got a text of 13 words, expected at most 12"):
        ready.free(np.ones(13, dtype=np.int32))
    for ids in ([3, 0], [WORDS + 1]):
        with pytest.raises(EqspikeError, match=f"got word ids from .*, expected 1 to {WORDS}"):
            ready.free(np.array(ids))


def test_single_precision_decides_alike() -> None:
    """Rounding in another order may move a spike, so counts are nearly, decisions all but surely equal."""
    network, table = make_network(tokens=TOKENS, dim=DIM, hidden=(9, 6)), words(3)
    ids = np.random.default_rng(1).integers(1, WORDS + 1, 10)
    double = EventDriven(network, SMALL, table).free(ids)
    single = EventDriven(network.to(torch.float32), SMALL, table.float()).free(ids)
    assert single.outputs.dtype == np.float32
    np.testing.assert_allclose(single.outputs[-1], double.outputs[-1], atol=0.05)


@pytest.mark.parametrize(
    ("settings", "shape", "message"),
    [
        ({"circuit": GatedWinners()}, {}, "got circuit GatedWinners, expected Gated"),
        ({"circuit": Gated(query_threshold=0.5)}, {}, "got query_threshold 0.5"),
        ({"circuit": Gated(top_patterns=3)}, {}, "got top_patterns 3"),
        ({"events": "graded"}, {}, "got events graded"),
        ({}, {"masked": False}, "got masked False"),
        ({}, {"projections": ()}, "got projections"),
        ({}, {"hidden": ()}, "got hidden layers False"),
    ],
)
def test_what_it_does_not_do_is_said(settings: dict, shape: dict, message: str) -> None:
    network = make_network(tokens=TOKENS, dim=DIM, **{"hidden": (9,), **shape})
    with pytest.raises(EqspikeError, match=message):
        EventDriven(network, replace(SMALL, **settings), words(0))


def test_numba_is_not_loaded_unless_it_is_used() -> None:
    code = "import sys, eqspike.cli, neuromorphic.change_code; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
