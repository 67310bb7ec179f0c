"""Imperfections that act while a network is used: read noise, drift, and spikes that are lost."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from scipy.stats import binomtest, kstest

from eqspike.build import config_of, make_backend, make_single
from eqspike.prediction import Predictor
from eqspike_seq.data.dataset import load_dataset
from eqspike_seq.devices.chip import Chip
from eqspike_seq.devices.imperfections import Asymmetry, Drift, ReadNoise
from eqspike_seq.devices.reading import NoisyReads
from eqspike_seq.devices.strengths import AXES
from eqspike_seq.errors import ConfigError
from eqspike_seq.learning.estimators import ThreePhase
from eqspike_seq.learning.evaluation import evaluate
from eqspike_seq.learning.trainer import Trainer
from eqspike_seq.learning.training import describe
from eqspike_seq.relaxation.dense import DenseBackend
from eqspike_seq.runs.folder import RunFolder
from eqspike_seq.runs.weights import read_table, read_weights
from neuromorphic import change_code
from neuromorphic.change_code import SigmaDeltaBackend
from neuromorphic.changes import FreeNeurons
from neuromorphic.neurons import Bernoulli, IntegrateAndFire, LeakyIntegrateAndFire, Losing, Neuron, SigmaDelta
from tests.conftest import command
from tests.eqspike_seq.test_devices import SAID, device_file, model, network, of_texts, short, trained
from tests.eqspike_seq.test_feedback import texts_of
from tests.eqspike_seq.test_token_layer import pairs_file

DECAY = {"spread": 0.05, "exponent": 0.02, "seconds": 2e6}


def test_reads_differ_from_batch_to_batch_by_gains_of_their_sigma_and_leave_the_weights() -> None:
    noisy = NoisyReads(DenseBackend(), ReadNoise(sigma=0.3, **SAID), 0)  # type: ignore[arg-type]
    subject, batch = network(), texts_of("plain", 0.0)[1]
    seen = [noisy._read(subject, replace(batch, seed=seed))[0] for seed in (1, 1, 2)]
    logs = (seen[0].weights[1] / subject.weights[1]).log() + 0.3**2 / 2
    assert kstest((logs / 0.3).flatten().numpy(), "norm").pvalue > 1e-3
    assert torch.equal(seen[0].weights[1], seen[1].weights[1])
    assert not torch.equal(seen[0].weights[1], seen[2].weights[1])
    assert not torch.equal(seen[0].weights[1] / subject.weights[1], seen[0].copies[0] / subject.copies[0])
    assert torch.equal(subject.weights[1], network().weights[1]) and torch.equal(seen[0].biases[0], subject.biases[0])


def test_all_phases_of_a_batch_see_the_same_gains() -> None:
    """The gradient is that of the network as it was read, keys and values too."""
    subject, batch = texts_of("exact", 0.5)
    plain = DenseBackend(300, 300, tolerance=1e-9, dtype=torch.float64)
    noisy = NoisyReads(plain, ReadNoise(sigma=0.3, **SAID), 4)  # type: ignore[arg-type]
    found = ThreePhase(0.05)(noisy, subject, batch).gradients
    expected = ThreePhase(0.05)(plain, *noisy._read(subject, batch)).gradients
    without = ThreePhase(0.05)(plain, subject, batch).gradients
    assert {"X", "q", "v2", "w2"} < set(found)
    for name, value in expected.items():
        mine, theirs, other = (
            each.to_dense() if each.is_sparse else each for each in (found[name], value, without[name])
        )
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)
        assert not torch.allclose(theirs, other, rtol=1e-3)


def test_a_run_learns_and_is_tested_under_read_noise(tmp_path: Path) -> None:
    device = device_file(tmp_path / "noisy.toml", read_noise={"sigma": 0.5})
    for config in (short(device_model=device), of_texts(device_model=device)):
        end = trained(config, 2)
        assert isinstance(end.backend, NoisyReads)
        part = end.dataset.validation
        answers = [
            evaluate(backend, end.network, end.gather, part, 16).rates for backend in (end.backend, DenseBackend())
        ]
        assert abs(answers[0] - answers[1]).max() > 0.01
    with pytest.raises(ConfigError, match="bptt"):
        short(device_model=device, estimator="bptt")


def test_weights_decay_by_exponents_of_the_mean_and_spread_that_are_said() -> None:
    subject, ideal = network(), dict(network().named())
    chip = Chip(model(drift=Drift(**DECAY, **SAID)), dict(subject.named()), 3)  # type: ignore[arg-type]
    assert all(torch.equal(tensor, ideal[name]) for name, tensor in subject.named())
    chip.drift()
    exponents = {
        name: -(tensor / ideal[name]).log() / math.log(2e6 / 20) for name, tensor in subject.named() if name[0] in "wv"
    }
    for found in exponents.values():
        assert kstest(((found - 0.02) / 0.05).flatten().numpy(), "norm").pvalue > 1e-3
    both = torch.stack([exponents["w3"].flatten(), exponents["v3"].flatten()])
    assert abs(float(torch.corrcoef(both)[0, 1])) < 0.02
    again = subject.weights[1].clone()
    chip.write(0)  # no update: nothing happens
    assert torch.equal(subject.weights[1], again)


def test_feedback_and_values_begin_with_weights_of_their_own(tmp_path: Path) -> None:
    subject, ideal = network(), dict(network().named())
    Chip(model(asymmetry=Asymmetry(eta=0.4, **SAID)), dict(subject.named()), 3)  # type: ignore[arg-type]
    for name, tensor in subject.named():
        if name[0] != "v":
            assert torch.equal(tensor, ideal[name])
            continue
        rest = (tensor - 0.6 * ideal[name]) / 0.4 / ideal[name].square().mean().sqrt()
        assert kstest(rest.flatten().numpy(), "norm").pvalue > 1e-3
    device = device_file(tmp_path / "a.toml", asymmetry={"eta": 1.0})
    keys, values = trained(of_texts(device_model=device), 0).gather.table.chunk(2, 1)
    plain = trained(of_texts(), 0).gather.table
    assert torch.equal(keys, plain) and not values[0].any()
    assert abs(float((keys * values).sum() / (keys.norm() * values.norm()))) < 0.05
    torch.testing.assert_close(values.square().mean(0), plain.square().mean(0), rtol=0.2, atol=0)


def test_time_passes_once_after_training_or_before_tuning(tmp_path: Path) -> None:
    device = device_file(tmp_path / "drift.toml", drift=DECAY)
    nothing = device_file(tmp_path / "nothing.toml", mismatch={"sigma": 1e-12})
    config = of_texts(device_model=device)
    ends: dict[str, list[Trainer]] = {}
    for name, each in (("drift", config), ("none", of_texts(device_model=nothing))):
        total = trained(each, 0).total
        ends[name] = [trained(each, total - 1), trained(each, total)]
    before, after = ([ends[name][place].parameters["w2"] for name in ("drift", "none")] for place in (0, 1))
    torch.testing.assert_close(before[0], before[1])
    end, other = ends["drift"][1], ends["none"][1]
    factor = (after[0] / after[1]).log() / -math.log(2e6 / 20)
    assert abs(float(factor.mean()) - 0.02) < 0.02 and abs(float(factor.std()) / 0.05 - 1) < 0.2
    ratio = (end.gather.table[1:] / other.gather.table[1:]).log()
    assert abs(float(ratio[ratio.isfinite()].std()) / (0.05 * math.log(2e6 / 20)) - 1) < 0.1
    folder = RunFolder.open(replace(config, run=replace(config.run, out=tmp_path / "run")))
    describe(trained(config, 0), folder)
    folder.save_checkpoint(end.checkpoint())
    found = read_table(tmp_path / "run", tmp_path / "run/checkpoint/model.safetensors")
    assert torch.equal(found, end.gather.table)
    folder.close()
    small = ("run", "digits", "--limit", 100, "--epochs", 1)
    command(*small, "--out", tmp_path / "first")
    command(*small, "--start", tmp_path / "first", "--device-model", device, "--out", tmp_path / "second")
    start = trained(config_of(tmp_path / "second"), 0)
    first = read_weights(tmp_path / "first/checkpoint/model.safetensors")["w2"]
    exponent = (start.parameters["w2"] / first).log() / -math.log(2e6 / 20)
    assert abs(float(exponent[exponent.isfinite()].std()) / 0.05 - 1) < 0.1
    last = trained(config_of(tmp_path / "second"), start.total)
    saved = read_weights(tmp_path / "second/checkpoint/model.safetensors")["w2"]
    assert torch.equal(last.parameters["w2"], saved)  # and not once more at the end
    with pytest.raises(ConfigError, match="--patience"):
        short(device_model=device, patience=2)


@pytest.mark.parametrize(
    "neuron", [IntegrateAndFire(), LeakyIntegrateAndFire(refractory=2), Bernoulli()], ids=lambda each: each.name
)
def test_a_neuron_that_loses_spikes_knows_nothing_of_it(neuron: Neuron) -> None:
    """Its targets hear a share 1 − p, independently of its input; its own estimate is of all spikes that it fired."""
    steps, shape, lost = 400, (1, 1, 2_000), 0.2
    u = torch.full(shape, 1.2)
    generator = torch.Generator().manual_seed(0)
    losing = Losing(neuron, lost)
    start = state = losing.rest(torch.zeros(shape))
    alone, heard, fired = neuron.rest(torch.zeros(shape)), torch.zeros(shape), torch.zeros(shape)
    for _ in range(steps):
        uniform = torch.rand(shape, generator=generator)
        state, z = losing.step(state, u, uniform)
        alone, all_of_them = neuron.step(alone, u, uniform)
        heard, fired = heard + z, fired + all_of_them
    assert torch.equal(state.v, alone.v)
    count = int(fired.sum())
    assert binomtest(count - int(heard.sum()), count, lost).pvalue > 1e-4
    own = heard + (state.v - start.v) - (state.added - start.added)
    torch.testing.assert_close(own, fired + (alone.v - start.v) - (alone.added - start.added), atol=1e-3, rtol=0)
    other = Losing(neuron, lost, chip=1).step(losing.rest(torch.zeros(shape)), 3 * u, uniform)[1]
    assert not torch.equal(other, losing.step(losing.rest(torch.zeros(shape)), 3 * u, uniform)[1])


def test_what_a_change_coding_neuron_has_sent_and_what_has_arrived_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """It fires until it is within half a step of its activation by its own count, whatever its targets have heard."""
    subject, batch = texts_of("plain", 0.2)
    made = list[FreeNeurons]()

    class Watched(FreeNeurons):
        def __init__(self, *given: object) -> None:
            super().__init__(*given)  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr(change_code, "FreeNeurons", Watched)
    whole = SigmaDeltaBackend(300, threshold=(0.05,), projection_threshold=0.05, dtype=torch.float64)
    ends = [
        replace(whole, neuron=neuron).free(subject, batch) for neuron in (SigmaDelta(), SigmaDelta(0.2), SigmaDelta())
    ]
    assert torch.equal(ends[0].rates.output, ends[2].rates.output)
    assert not torch.equal(ends[0].rates.layers[0], ends[1].rates.layers[0])
    neurons, last = made[1], made[1].last
    sent = neurons.units[last] + neurons.lost[last]
    own = neurons.output - neurons.before.output
    assert float((own / neurons.thetas[last] - sent).abs().max()) <= 0.5 + 1e-9
    assert any(bool(lost.any()) for lost in neurons.lost) and bool(neurons.lost1.any())
    gone = sum(int(each.abs().sum()) for each in (*neurons.lost, neurons.lost1))
    assert gone > 0


@pytest.mark.parametrize("neuron", ["if", "bernoulli", "sigma-delta"])
def test_a_run_on_texts_loses_spikes_in_training_and_in_use(neuron: str, tmp_path: Path) -> None:
    device = device_file(tmp_path / "lossy.toml", lost_spikes={"share": 0.3})
    settings = {"backend": "spiking", "neuron": neuron}
    config = of_texts(device_model=device, **settings)
    assert config.shape(8, 2).feedback is None and not config.twice
    lossy, whole = trained(config, 2), trained(of_texts(**settings), 2)
    assert not torch.equal(lossy.parameters["w2"], whole.parameters["w2"])
    other = trained(of_texts(device_model=device, device_seed=1, **settings), 2)
    assert not torch.equal(lossy.parameters["w2"], other.parameters["w2"])
    assert make_single(make_backend(config), lossy.network, lossy.gather.table) is None
    small = ("run", "mini", "--network", "pooling", "--limit", 96, "--epochs", 1, "--hidden", 6, "--dim", 8)
    command(*small, "--backend", "spiking", "--neuron", neuron, "--device-model", device, "--out", tmp_path / "run")
    made = json.loads((tmp_path / "run/environment.json").read_text())["device_model"]
    assert made["lost_spikes"]["share"] == 0.3
    predictor, texts = Predictor.open(tmp_path / "run"), load_dataset(config.data).test_texts[:3]
    assert predictor.predict(texts[0]) == predictor.predict(texts[0])


def test_spikes_are_lost_only_where_there_are_some(tmp_path: Path) -> None:
    device = device_file(tmp_path / "lossy.toml", lost_spikes={"share": 0.3})
    with pytest.raises(ConfigError, match="--backend spiking"):
        short(device_model=device)
    with pytest.raises(ConfigError, match="--feedback-rule"):
        of_texts(device_model=device, backend="spiking", neuron="if", feedback_rule="plain")


def test_every_imperfection_that_can_be_varied_is_a_device_model(tmp_path: Path) -> None:
    for axis in AXES.values():
        tables = {name: table for name, table in axis.model(axis.strengths[0]).items() if isinstance(table, dict)}
        assert axis.table in tables
        backend = "spiking" if axis.table == "lost_spikes" else "dense"
        path = device_file(tmp_path / f"{axis.table}.toml", **tables)
        settings = {"neuron": "if"} if backend == "spiking" else {}
        assert getattr(of_texts(device_model=path, backend=backend, **settings).learning.device, axis.table) is not None


@pytest.mark.parametrize("backend", ["dense", "spiking"])
def test_a_run_on_pairs_learns_on_a_chip_and_answers(backend: str, tmp_path: Path) -> None:
    """Both copies of each word and weight, from an ideal run, and read by predict as the run was tested."""
    device = device_file(tmp_path / "m.toml", mismatch={"sigma": 0.3}, asymmetry={"eta": 0.2})
    file, columns = pairs_file(tmp_path / "pairs.csv", 200), ("--text-column", "claim", "evidence")
    small = ("run", file, *columns, "--epochs", 1, "--precision", "float32")
    command(*small, "--out", tmp_path / "ideal")
    command(
        *small,
        "--backend",
        backend,
        "--start",
        tmp_path / "ideal",
        "--device-model",
        device,
        "--out",
        tmp_path / "chip",
    )
    weights = read_weights(tmp_path / "chip" / "checkpoint" / "model.safetensors")
    assert {"va", "v2", "wa"} < set(weights) and not torch.equal(weights["va"], weights["wa"])
    config = config_of(tmp_path / "chip")
    keys, values = trained(config, 0).gather.table.chunk(2, 1)
    assert not torch.equal(keys, values)
    predictor, saved = Predictor.open(tmp_path / "chip"), pq.read_table(tmp_path / "chip" / "predictions.parquet")
    for text, row in zip(load_dataset(config.data).test_texts[:4], saved.to_pylist(), strict=False):
        rates = predictor.predict(*text.split("\x1f")).rates
        assert rates == pytest.approx({name: row[f"rate_{name}"] for name in rates}, abs=1e-4)
