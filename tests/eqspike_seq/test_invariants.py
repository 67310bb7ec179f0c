"""What holds whatever the settings: spikes are counted, sums are sums of parts, faults of the numbers are named."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.energy import part_of
from eqspike.build import configure, make_backend, run
from eqspike_seq.data.dataset import load_dataset
from eqspike_seq.data.own import load_own
from eqspike_seq.errors import DataError, DivergenceError, NumericalError
from eqspike_seq.files import save_arrays
from eqspike_seq.learning.estimators import Estimate, ThreePhase
from eqspike_seq.learning.trainer import Trainer
from eqspike_seq.ledger import KINDS, Ledger
from eqspike_seq.model.attention import weights
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network
from eqspike_seq.relaxation.dense import DenseBackend
from eqspike_seq.relaxation.equilibrium import Backend
from eqspike_seq.relaxation.stack import largest_change
from neuromorphic.attention.clocked import Circuit, Clocked
from neuromorphic.attention.winners import SAMPLERS, Winners
from neuromorphic.change_code import SigmaDeltaBackend
from neuromorphic.neurons import Bernoulli, IntegrateAndFire, LeakyIntegrateAndFire, Neuron, send_on_change
from neuromorphic.pricing import read_table
from neuromorphic.rate_code import SpikingBackend
from tests.conftest import Listener, make_batch, make_network
from tests.stress.zoo import finite

checked = settings(max_examples=40, derandomize=True, database=None, deadline=None)
few = settings(checked, max_examples=8)
NEURONS: tuple[Neuron, ...] = (
    IntegrateAndFire(),
    LeakyIntegrateAndFire(),
    LeakyIntegrateAndFire(membrane_tau=1.0, refractory=4, reset="hard"),
    Bernoulli(),
)


def scaled(network: Network, gain: float) -> Network:
    return replace(network, weights=[gain * w for w in network.weights], biases=[gain * b for b in network.biases])


@checked
@given(
    st.sampled_from(NEURONS),
    st.lists(st.floats(-1e30, 1e30) | st.floats(-4, 4), min_size=1, max_size=60),
    st.integers(0, 9),
)
def test_a_neuron_fires_once_a_step_or_not(neuron: Neuron, inputs: list[float], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    state, fired = neuron.rest(torch.zeros(1, dtype=torch.float64)), 0.0
    for u in inputs:
        uniform = torch.rand(1, generator=generator, dtype=torch.float64)
        state, z = neuron.step(state, torch.tensor([u], dtype=torch.float64), uniform)
        assert float(z) in (0.0, 1.0) and state.v.isfinite()
        fired += float(z)
    assert fired == int(fired) and 0 <= fired / len(inputs) <= 1


@few
@given(
    st.sampled_from(NEURONS),
    st.floats(0.01, 100),
    st.booleans(),
    st.sampled_from([Clocked(), Winners()]),
    st.integers(0, 9),
)
def test_rates_are_counts_of_at_most_one_spike_a_step(
    neuron: Neuron, gain: float, attention: bool, circuit: Circuit, seed: int
) -> None:
    network = scaled(make_network(attention=attention, seed=seed, dtype=torch.float32), gain)
    batch = make_batch(4, seed=seed, dtype=torch.float32)
    backend = SpikingBackend(40, 40, window=20, tick_steps=10, neuron=neuron, circuit=circuit)
    free = backend.free(network, batch, record=True)
    for found in (free, *backend.nudge(network, batch, free, (0.5, -0.5), record=True)):
        for index, rates in enumerate(found.rates.layers, start=2):
            spikes = found.trace[f"spikes_s{index}"]
            assert set(spikes.unique().tolist()) <= {0, 1} and len(spikes) == 40
            torch.testing.assert_close(rates * 20, spikes[-20:].sum(0).float(), atol=1e-4, rtol=0)
            phase = "free" if found is free else next(iter(found.ledger.samples))
            assert found.ledger.counts[f"s{index}"][phase]["spikes"] == int(spikes.sum())


@few
@given(st.floats(1e-3, 2), st.floats(0.01, 20), st.integers(0, 9), st.floats(0.5, 1))
def test_what_is_transmitted_is_the_start_and_signed_units(
    theta: float, gain: float, seed: int, deadband: float
) -> None:
    network, batch = scaled(make_network(seed=seed), gain), make_batch(4, seed=seed)
    backend = SigmaDeltaBackend(20, 10, (theta,), theta, deadband, nudge_threshold=theta, dtype=torch.float64)
    free = backend.free(network, batch, record=True)
    (plus, _) = backend.nudge(network, batch, free, (0.5, -0.5), record=True)
    for found, starts in ((free, [torch.tensor(0.5)] * 3), (plus, list(free.rates.layers))):
        hidden = range(len(network.shape.hidden) if found is free else len(network.shape.hidden) + 1)
        for index in hidden:
            units = found.trace[f"spikes_s{index + 2}"].double()
            torch.testing.assert_close(units, units.round(), atol=0, rtol=0)
            sent = starts[index] + theta * units.sum(0)
            torch.testing.assert_close(found.rates.layers[index], sent, atol=1e-9, rtol=0)
    assert all(layer.isfinite().all() for layer in plus.rates.layers)


@checked
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.floats(1e-6, 10), st.floats(0.5, 1))
def test_a_change_coded_neuron_stays_within_its_deadband(course: list[float], theta: float, deadband: float) -> None:
    sent = torch.zeros(1, dtype=torch.float64)
    for value in course:
        units = send_on_change(sent, torch.tensor([value], dtype=torch.float64), theta, deadband)
        assert float(units) == int(units)
        sent = sent + units
        assert abs(value - theta * float(sent)) <= deadband * theta * (1 + 1e-6) + 1e-12


@checked
@given(st.integers(1, 40), st.integers(1, 9), st.floats(0, 1e4), st.sampled_from(sorted(SAMPLERS)), st.integers(1, 33))
def test_rows_of_attention_sum_to_one_and_have_their_winners(
    patterns: int, seed: int, scale: float, sampler: str, winners: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    queries, stored = (torch.randn(2, n, 5, generator=generator) for n in (3, patterns))
    bias = torch.zeros(2, 1, patterns)
    bias[1, :, 1 + patterns // 2 :] = -1e9  # padding
    for dtype, within in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        shares = weights((scale * queries).to(dtype), stored.to(dtype), bias.to(dtype)).float()
        torch.testing.assert_close(shares.sum(-1), torch.ones(2, 3), atol=within, rtol=0)
        assert (shares >= 0).all() and not shares[1, :, 1 + patterns // 2 :].any()
    exact = weights(scale * queries, stored, bias)
    counts = SAMPLERS[sampler](exact, winners, torch.rand(2, 3, winners, generator=generator))
    assert (counts == counts.round()).all() and (counts >= 0).all()
    assert (counts.sum(-1) == winners).all() and not counts[1, :, 1 + patterns // 2 :].any()


ledgers = st.dictionaries(
    st.sampled_from(["input", "w1", "hopattn", "query", "s1", "s2", "s3", "w2"]),
    st.dictionaries(
        st.sampled_from(["free", "nudge+", "nudge-", "update"]),
        st.dictionaries(st.sampled_from(KINDS), st.integers(0, 2**40), max_size=6),
        min_size=1,
    ),
    min_size=1,
    max_size=5,
)


@checked
@given(ledgers, ledgers, st.sampled_from(["horowitz-45nm-fp32", "loihi", "crossbar"]), st.integers(1, 10**6))
def test_totals_are_sums_of_parts(one: dict, two: dict, name: str, texts: int) -> None:  # type: ignore[type-arg]
    def made(counts: dict[str, dict[str, dict[str, int]]]) -> Ledger:
        ledger = Ledger(samples={"free": texts}, steps={"free": 3 * texts})
        for layer, phases in counts.items():
            for phase, kinds in phases.items():
                ledger.add(layer, phase, **kinds)
        return ledger

    both = made(one)
    both += made(two)
    for kind in KINDS:
        parts = (kinds.get(kind, 0) for counts in (one, two) for phases in counts.values() for kinds in phases.values())
        assert both.total(kind) == sum(parts) == made(one).total(kind) + made(two).total(kind)
        assert both.total(kind) == sum(both.total(kind, (phase,)) for phase in ("free", "nudge+", "nudge-", "update"))
    found = part_of(both, read_table(name))
    for split in ("components", "layers", "phases", "groups"):
        for end in ("low", "value", "high"):
            assert sum(row[end] for row in found[split].values()) == pytest.approx(found["joules"][end], rel=1e-9)


@few
@given(st.floats(0.1, 30), st.integers(1, 12), st.integers(0, 9), st.booleans())
def test_a_phase_is_said_to_have_converged_if_another_sweep_would_not_move_it(
    gain: float, steps: int, seed: int, attention: bool
) -> None:
    """Networks of any gain, many of which do not settle: the residual reported is the one that there is."""
    network, batch = scaled(make_network(seed=seed, attention=attention), gain), make_batch(5, seed=seed)
    backend = DenseBackend(steps, tolerance=1e-3, dtype=torch.float64, order="synchronous")
    free = backend.free(network, batch, record=True)
    before = replace(backend, free_steps=max(1, steps - 1), tolerance=-1.0).free(network, batch)
    assert torch.equal(free.converged, free.residual <= 1e-3) and free.residual.isfinite().all()
    unsettled = ~free.converged & (steps > 1)
    assert (free.steps[~free.converged] == steps).all()
    moved = largest_change(free.rates.layers, before.rates.layers)
    torch.testing.assert_close(free.residual[unsettled], moved[unsettled], atol=1e-12, rtol=0)
    assert free.trace["phi"].isfinite().all()


SMALL = {"limit": 24, "epochs": 1, "batch": 12, "hidden": (6,), "tokens": 8, "dim": 4, "learning_rate": (1e-2,)}
OWN = {"limit": 24, "epochs": 2, "batch": 12, "hidden": (6,), "dim": 8, "learning_rate": (1e-2,)}
RATES = {"free_steps": 20, "nudge_steps": 20, "window": 10, "tick_steps": 10}
CHANGES = {"neuron": "sigma-delta", "rule": "count"}
EDGES = (
    ("dense", {"beta": 1e-4}, ""),
    ("dense", {"beta": 5.0}, ""),
    ("dense", {"free_steps": 5000, "nudge_steps": 5000, "tolerance": 1e-6, "limit": 4}, ""),
    ("dense", {"free_steps": 1, "nudge_steps": 1, "tolerance": 0.0}, "converged"),
    ("dense", {"hidden": (1,), "tokens": 1, "batch": 10_000}, ""),
    ("dense", {"learning_rate": (1e3,), "epochs": 4}, "training diverges: loss"),
    ("dense", {"bias": (-1e6,)}, "layer s2: 100.0% of its rates are silent"),
    ("spiking", {**RATES, "beta": 1e-4, "hidden": (1,)}, ""),
    ("spiking", {**RATES, "beta": 5.0, "neuron": "lif", "membrane_tau": 1.0}, ""),
    ("spiking", {**RATES, "neuron": "bernoulli", "learning_rate": (1e3,), "epochs": 4}, "training diverges: loss"),
    ("spiking", {**RATES, "bias": (-1e6,)}, "layer s2: silent, no spike in any free phase"),
    ("spiking", {**CHANGES, "threshold": (1e-6,), "projection_threshold": 1e-6, "nudge_threshold": 1e-6}, ""),
    (
        "spiking",
        {**CHANGES, "threshold": (1e9,), "projection_threshold": 1e9},
        "layer s2: silent, no spike in any free",
    ),
    ("spiking", {**CHANGES, "nudge_threshold": 1e12, "projection_nudge_threshold": 1e12}, "nudges: silent"),
)


POOLING_EDGES = (
    ({"beta": 1e-4}, ""),
    ({"beta": 5.0, "readout": "softmax"}, ""),
    ({"temperature": 1.0, "naive_bayes": 1e3}, ""),
    ({"temperature": 1e6, "queries": 1}, ""),
    ({"naive_bayes": 0.0, "start_scale": 0.0}, ""),
    ({"naive_bayes": 0.0, "start_scale": 1e6}, ""),
    ({"word_dropout": 0.99, "smoothing": 1e-9}, ""),
    ({"ngrams": 3, "min_texts": 12, "batch": 10_000, "patience": 1}, ""),
    ({"pattern_rate": 1e6, "epochs": 4}, ""),
    ({"estimator": "two-phase", "uniform_attention": True}, ""),
    ({"estimator": "bptt", "fixed_embeddings": True, "embeddings": "word2vec"}, ""),
    ({"learning_rate": (1e3,), "epochs": 4}, "training diverges: loss"),
)


@pytest.mark.parametrize(("changes", "says"), POOLING_EDGES)
def test_pooling_at_its_edges_ends_in_numbers_too(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    listener = Listener()
    config = configure("mini", "dense", out=tmp_path / "run", network="pooling", **{**OWN, **changes})
    result = run(config, listener)
    assert result["complete"] and 0 <= result["test_accuracy"] <= 1
    assert not says or any(says in line for line in listener.said), listener.said
    finite(tmp_path / "run")


@pytest.mark.parametrize(("backend", "changes", "says"), EDGES)
def test_settings_at_their_edges_end_in_numbers_or_are_told_of(
    tmp_path: Path, backend: str, changes: dict[str, object], says: str
) -> None:
    listener = Listener()
    result = run(configure("mini", backend, out=tmp_path / "run", **{**SMALL, **changes}), listener)
    assert result["complete"] and 0 <= result["test_accuracy"] <= 1
    assert not says or any(says in line for line in listener.said), listener.said
    finite(tmp_path / "run")


@pytest.mark.parametrize("backend", ["dense", "spiking"])
@pytest.mark.parametrize("epochs", [1, 3])
def test_divergence_leaves_no_number_that_is_none(tmp_path: Path, backend: str, epochs: int) -> None:
    rates = RATES if backend == "spiking" else {}
    settings = {
        **SMALL,
        **rates,
        "learning_rate": (1e38,),
        "epochs": epochs,
        "checkpoint_every": 1,
    }
    with pytest.raises(DivergenceError, match="diverged.*Lower --learning-rate"):
        run(configure("mini", backend, out=tmp_path / "run", **settings), Listener())
    finite(tmp_path / "run")


def broken(trainer: Trainer, step: int) -> None:
    """Let the gradient of w2 be NaN once, after ``step`` steps."""
    estimator = trainer.estimator

    def once(backend: Backend, network: Network, batch: Batch) -> Estimate:
        found = estimator(backend, network, batch)
        if trainer.step == step:
            found.found["w2"] = torch.full_like(trainer.parameters["w2"], math.nan)
        return found

    trainer.estimator = once


@torch.no_grad()
def test_a_gradient_that_is_not_finite_says_whether_training_diverged(tmp_path: Path) -> None:
    config = configure("mini", "dense", **SMALL)
    trainer = Trainer(config, load_dataset(config.data, lambda _: None), make_backend(config))
    broken(trainer, step=1)
    trainer.train_batch()
    with pytest.raises(NumericalError, match="w2 is not finite at step 2.*a numerical fault, not divergence") as fault:
        trainer.train_batch()
    assert "--precision float32" in str(fault.value) and "--learning-rate" not in str(fault.value)
    trainer.parameters["w2"].mul_(1e6)
    with pytest.raises(DivergenceError, match="training diverged: the gradient of w2 is not finite") as diverged:
        trainer.train_batch()
    assert not isinstance(diverged.value, NumericalError)
    rates = " ".join(f"{rate:g}" for rate in config.learning.learning_rate)
    assert f"--learning-rate (now {rates}), or raise --beta (now {config.learning.beta:g})" in str(diverged.value)


def test_vectors_that_are_all_zero(tmp_path: Path) -> None:
    words = np.array(["the", "was", "and", "dull", "superb"])
    save_arrays(tmp_path / "zero.npz", {"words": words, "vectors": np.zeros((5, 4))})
    small = {name: value for name, value in SMALL.items() if name != "dim"}  # the file has its own
    config = configure("mini", "dense", out=tmp_path / "run", **small, embeddings=str(tmp_path / "zero.npz"))
    assert run(config, Listener())["complete"]
    finite(tmp_path / "run")


def test_one_text_with_opposite_labels(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("text,label\n" + "the same,yes\nthe same,no\n" * 30)
    with pytest.raises(DataError, match="has 1 different text"):
        load_own(path)
    path.write_text("text,label\n" + "".join(f"text {i},yes\ntext {i},no\n" for i in range(40)))
    listener = Listener()
    result = run(configure(str(path), "dense", out=tmp_path / "run", **OWN), listener)
    assert any("texts occur with different labels" in line for line in listener.said) and result["complete"]
    finite(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["counts"]["texts_with_several_labels"] == 40


def test_a_gradient_of_a_network_that_does_not_settle_is_a_number() -> None:
    network, batch = scaled(make_network(), 50.0), make_batch()
    estimate = ThreePhase(5.0)(DenseBackend(50, 25, dtype=torch.float64, order="synchronous"), network, batch)
    assert all(gradient.isfinite().all() for gradient in estimate.gradients.values())
