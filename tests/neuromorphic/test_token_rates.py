"""A token layer of neurons that send rates, against rates themselves and a count of its own spikes."""

from dataclasses import replace

import pytest
import torch

from eqspike_seq.checks.bptt import SETTLED, compare
from eqspike_seq.learning.estimators import ThreePhase, TwoPhase
from eqspike_seq.model.batch import Batch
from eqspike_seq.phases import Phase
from neuromorphic.neurons import Bernoulli, LeakyIntegrateAndFire, Neuron
from neuromorphic.plasticity import Count, MembraneCount, Rule
from neuromorphic.rate_code import SpikingBackend
from tests.eqspike_seq.test_token_layer import DIM, SHAPE, UNITS, network_of, texts

LONG = SpikingBackend(free_steps=600, nudge_steps=600, window=500, tick_steps=10, dtype=torch.float64)


@pytest.fixture
def batch() -> Batch:
    return texts()


@pytest.mark.parametrize(
    "neuron", [LONG.neuron, LeakyIntegrateAndFire(1e9), Bernoulli()], ids=["if", "lif", "bernoulli"]
)
def test_spike_counts_settle_where_rates_do(batch: Batch, neuron: Neuron) -> None:
    network = network_of()
    found, truth = replace(LONG, neuron=neuron).free(network, batch).rates, SETTLED.free(network, batch).rates
    close = 0.05 if neuron.stochastic else 0.01
    for mine, theirs in zip((found.projection, *found.layers), (truth.projection, *truth.layers), strict=True):
        assert float((mine - theirs).abs().mean()) < close


@pytest.mark.parametrize(
    ("rule", "estimator", "least"),
    [(MembraneCount(), ThreePhase(0.5), 0.99), (Count(), ThreePhase(0.5), 0.8), (MembraneCount(), TwoPhase(0.2), 0.95)],
)
def test_spikes_learn_what_rates_do(batch: Batch, rule: Rule, estimator: ThreePhase | TwoPhase, least: float) -> None:
    network = network_of()
    truth = estimator(SETTLED, network, batch).gradients
    steps = 600 if isinstance(estimator, ThreePhase) else 1500  # of one nudge the free phase has to settle
    backend = replace(LONG, rule=rule, free_steps=steps, nudge_steps=steps, window=2 * steps // 3)
    found = estimator(backend, network, batch).gradients
    assert set(found) == set(truth)
    for each in compare(found, truth):
        assert each.cosine is not None and each.cosine > least, each


def test_the_ledger_is_a_count_of_what_was_sent(batch: Batch) -> None:
    """One pair of 3 and 5 words in 40 steps of 4 ticks."""
    one, backend = batch.take(slice(4, 5), 7), replace(LONG, free_steps=40, nudge_steps=40, window=40)
    found = backend.free(network_of(), one, record=True)
    tokens = [int(one.mask[0, side].sum()) for side in (0, 1)]
    counts = {layer: phases[Phase.FREE] for layer, phases in found.ledger.counts.items()}
    spikes = {layer: kinds["spikes"] for layer, kinds in counts.items()}
    assert spikes["sc"] == round(40 * float(found.rates.projection.sum())) > 0
    assert spikes["s2"] == int(found.trace["spikes_s2"].sum())
    assert spikes["s1"] == 0 and counts["s1"]["graded_events"] == 4 * sum(tokens) * DIM
    assert counts["s1"]["multiply_accumulates"] == 4 * sum(tokens) * DIM * UNITS
    assert counts["sc"]["synaptic_events"] == spikes["sc"] * (DIM + 8)
    assert counts["s2"]["synaptic_events"] == spikes["s2"] * (2 * UNITS + 3)
    assert counts["sc"]["neuron_updates"] == 40 * sum(tokens) * UNITS
    pairs = 2 * tokens[0] * tokens[1]
    assert counts["hopattn"]["multiply_accumulates"] == 4 * 2 * (pairs + sum(tokens)) * DIM
    events = sum(kinds["synaptic_events"] for layer, kinds in counts.items())
    assert float(found.events[-1, 0]) == pytest.approx(events)


def test_a_text_does_not_depend_on_its_batch(batch: Batch) -> None:
    network, backend = network_of(), replace(LONG, free_steps=60, nudge_steps=60, window=40)
    whole = backend.free(network, batch)
    for row in range(len(batch)):
        alone = backend.free(network, batch.take(slice(row, row + 1), SHAPE.rows))
        torch.testing.assert_close(alone.rates.output[0], whole.rates.output[row], rtol=0, atol=1e-9)


def test_low_precision_keeps_the_gradient(batch: Batch) -> None:
    network, batch = network_of().to(torch.float32), replace(batch, x=batch.x.float())
    whole, low = (
        ThreePhase(0.5)(replace(LONG, rule=MembraneCount(), dtype=dtype, window=400), network, batch).gradients
        for dtype in (torch.float32, torch.bfloat16)
    )
    for each in compare(low, whole):
        assert each.cosine is not None and each.cosine > 0.9, each
