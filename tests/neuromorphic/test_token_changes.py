"""A token layer of change-coded neurons, against rates and against a count of its own spikes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from eqspike_seq.checks.bptt import SETTLED, compare
from eqspike_seq.learning.estimators import ThreePhase, TwoPhase
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network
from eqspike_seq.phases import Phase
from neuromorphic.attention.gated import Gated
from neuromorphic.attention.winners import GatedWinners
from neuromorphic.change_code import SigmaDeltaBackend
from neuromorphic.event_driven import EventDriven
from tests.eqspike_seq.test_token_layer import DIM, SHAPE, TEXTS, UNITS, network_of, texts

FINE = SigmaDeltaBackend(
    free_steps=200,
    nudge_steps=60,
    threshold=(1e-4,),
    projection_threshold=1e-4,
    token_threshold=1e-4,
    output_threshold=1e-4,
    nudge_threshold=1e-6,
    token_nudge_threshold=1e-6,
    projection_nudge_threshold=1e-6,
    dtype=torch.float64,
)
COARSE = SigmaDeltaBackend(
    free_steps=30,
    nudge_steps=20,
    nudge_threshold=1e-3,
    token_nudge_threshold=2e-4,
    projection_nudge_threshold=1e-4,
    dtype=torch.float64,
)


@pytest.fixture
def batch() -> Batch:
    return texts()


@pytest.fixture
def network() -> Network:
    return network_of()


@pytest.mark.parametrize("circuit", [Gated(), Gated(attention_threshold=1e-9), Gated(query_threshold=1e-5)])
def test_fine_steps_settle_where_rates_do(network: Network, batch: Batch, circuit: Gated) -> None:
    found, truth = replace(FINE, circuit=circuit).free(network, batch), SETTLED.free(network, batch)
    torch.testing.assert_close(found.rates.output, truth.rates.output, rtol=0, atol=5e-4)
    torch.testing.assert_close(found.rates.projection, truth.rates.projection, rtol=0, atol=5e-4)


@pytest.mark.parametrize("estimator", [ThreePhase(0.1), TwoPhase(0.01)])
def test_fine_steps_learn_what_rates_do(network: Network, batch: Batch, estimator: ThreePhase | TwoPhase) -> None:
    truth = estimator(SETTLED, network, batch).gradients
    found = estimator(FINE, network, batch).gradients
    assert set(found) == set(truth)
    for each in compare(found, truth):
        assert each.cosine is not None and each.cosine > 0.995, each


def test_coarse_spikes_keep_the_gradient_of_their_own_network(network: Network, batch: Batch) -> None:
    """The same free phase with nudges that are all but continuous: on average over the dither it is their gradient."""
    fine = replace(COARSE, nudge_threshold=1e-7, token_nudge_threshold=1e-7, projection_nudge_threshold=1e-7)
    truth = ThreePhase(0.1)(fine, network, batch).gradients
    draws = [ThreePhase(0.1)(COARSE, network, replace(batch, seed=seed)).gradients for seed in range(40)]
    mean = {name: torch.stack([draw[name] for draw in draws]).sum(0) / len(draws) for name in truth}
    for each in compare(mean, truth):
        assert each.cosine is not None and each.cosine > 0.95, each


def test_winners_may_find_what_tokens_ask_for(network: Network, batch: Batch) -> None:
    backend = replace(COARSE, circuit=GatedWinners(winners=256, pattern_nudge_threshold=2e-5))
    truth = ThreePhase(0.1)(replace(backend, circuit=Gated()), network, batch).gradients
    for each in compare(ThreePhase(0.1)(backend, network, batch).gradients, truth):
        assert each.cosine is not None and each.cosine > 0.5, each


def test_the_ledger_is_a_count_of_what_was_sent(network: Network, batch: Batch) -> None:
    """Every spike of one text alone, by what has been transmitted: at most one step of several thresholds each."""
    one = batch.take(slice(4, 5), 7)
    found = replace(COARSE, free_steps=1).free(network, one)
    spikes = {layer: sum(phases.values()) for layer, phases in found.ledger.spikes().items()}
    compared = (found.rates.projection / COARSE.token_threshold).round()
    assert spikes["sc"] == int(compared.abs().sum()) > 0
    s2 = ((found.rates.layers[0] - 0.5) / COARSE.threshold[0]).round()
    assert spikes["s2"] == int(s2.abs().sum())
    tokens = [int(one.mask[0, side].sum()) for side in (0, 1)]
    counts = {layer: phases[Phase.FREE] for layer, phases in found.ledger.counts.items()}
    assert counts["s1"]["synaptic_events"] == spikes["s1"] * UNITS
    assert counts["sc"]["synaptic_events"] == spikes["sc"] * (DIM + 8)
    assert counts["s2"]["synaptic_events"] == spikes["s2"] * (2 * UNITS + 3)
    assert counts["sc"]["state_reads"] == spikes["sc"] * (DIM + 8) + 3 * counts["sc"]["neuron_updates"]
    assert found.ledger.synapses["wa"] == 2 * sum(tokens) * DIM * UNITS
    assert found.ledger.synapses["w2"] == (sum(tokens) + 2) * UNITS * 8


@pytest.mark.parametrize(
    ("settings", "projections"),
    [
        ({}, ((1, 0), (0, 1))),
        ({"circuit": Gated(attention_threshold=0.02), "origin": (0.2,)}, ((0, 1), (1, 0))),
        ({"deadband": 0.8}, ((0, 0),)),
        ({"free_steps": 2}, ((0, 1), (0, 0))),
    ],
)
def test_one_example_at_a_time_spikes_as_in_a_batch(
    batch: Batch, settings: dict[str, Any], projections: tuple[tuple[int, int], ...]
) -> None:
    """Every neuron above s¹ in each step, s¹ and s^c by what they have sent in the end, and all that it costs."""
    thetas = {"threshold": (0.05,), "projection_threshold": 0.1, "token_threshold": 0.05, "output_threshold": 0.02}
    backend = replace(COARSE, **{**thetas, **settings})
    network = network_of(replace(SHAPE, projections=projections))
    table = torch.zeros(12, DIM, dtype=torch.float64)
    assert batch.ids is not None
    table[batch.ids.flatten()] = batch.x.flatten(0, 2)
    ready, spikes, silent = EventDriven(network, backend, table), np.zeros(4, dtype=np.int64), 0
    for row in range(len(batch)):
        one = batch.take(slice(row, row + 1), SHAPE.rows)
        if len(projections) == 1:
            one = replace(one, x=one.x[:, :1], mask=one.mask[:, :1], ids=batch.ids[row : row + 1, :1])
        assert one.ids is not None
        theirs = backend.free(network, one, record=True)
        mine = ready.free(one.ids[one.mask].numpy(), lengths=one.mask[0].sum(1).numpy(), record=True)
        assert mine.steps == len(theirs.outputs)
        np.testing.assert_allclose(mine.outputs, theirs.outputs[:, 0].numpy(), rtol=0, atol=1e-12)
        for index, layer in enumerate(mine.sent[2:], start=2):
            np.testing.assert_array_equal(layer, theirs.trace[f"spikes_s{index}"][:, 0].numpy())
        np.testing.assert_array_equal(mine.spikes[:, 1], theirs.trace["spikes_s1"][:, 0].numpy())
        units = (theirs.rates.projection[0, 0] / backend.token_threshold).round().numpy()
        np.testing.assert_array_equal(mine.sent[1].sum(0), units[: len(mine.sent[1][0])])
        own, expected = mine.ledger(network), theirs.ledger
        for ledger in (own, expected):  # in a batch, moments at which only padding moved count as well
            ledger.counts["hopattn"]["free"]["pattern_reads"] = 0
        assert own == expected
        spikes, silent = spikes + mine.spikes[1:].sum(0), silent + mine.silent
    assert spikes.min() > 3  # it was not all over after a step
    assert silent >= TEXTS // 2 or "free_steps" in settings


def test_a_silent_text_sends_nothing_more(network: Network, batch: Batch) -> None:
    short, long = (replace(COARSE, free_steps=steps).free(network, batch) for steps in (30, 60))
    assert int(short.steps.max()) < 30
    assert short.ledger.counts == long.ledger.counts
    torch.testing.assert_close(short.rates.output, long.rates.output, rtol=0, atol=0)


def test_a_text_does_not_depend_on_its_batch(network: Network, batch: Batch) -> None:
    whole = COARSE.free(network, batch)
    for row in range(len(batch)):
        alone = COARSE.free(network, batch.take(slice(row, row + 1), SHAPE.rows))
        torch.testing.assert_close(alone.rates.output[0], whole.rates.output[row], rtol=0, atol=1e-12)
        assert int(alone.steps) == int(whole.steps[row])
