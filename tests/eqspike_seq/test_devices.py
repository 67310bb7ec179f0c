"""Imperfect synapses: each equation, what a chip keeps, and runs on it."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tomli_w
import torch
from scipy.stats import kstest
from torch import Tensor

from eqspike.build import config_of, configure, make_backend, make_single
from eqspike.prediction import Predictor
from eqspike_seq.config.settings import RunConfig
from eqspike_seq.data.dataset import load_dataset
from eqspike_seq.devices.chip import Chip
from eqspike_seq.devices.device_model import DeviceModel, profiles, read_device
from eqspike_seq.devices.imperfections import (
    Bits,
    Injected,
    Mismatch,
    Programming,
    Pulses,
    Range,
    SoftBounds,
    Stuck,
    Thresholds,
)
from eqspike_seq.errors import ConfigError, RunError
from eqspike_seq.learning.estimators import ThreePhase
from eqspike_seq.learning.evaluation import evaluate
from eqspike_seq.learning.trainer import Trainer
from eqspike_seq.learning.training import describe
from eqspike_seq.model.batch import Lookup
from eqspike_seq.model.network import Network, Shape
from eqspike_seq.relaxation.dense import DenseBackend
from eqspike_seq.runs.folder import RunFolder
from eqspike_seq.runs.weights import read_table, read_weights
from neuromorphic.change_code import SigmaDeltaBackend
from neuromorphic.plasticity import Count, MembraneCount, Rule
from neuromorphic.rate_code import SpikingBackend
from tests.conftest import command
from tests.eqspike_seq.test_feedback import cosine, pairs_of, texts_of

SAID = {"label": "modelled", "source": "a test"}
NAMED, LABELLED = 'name = "x"\ntitle = "x"\n', 'label = "modelled"\nsource = "x"\n'
SHAPE = Shape(400, 1, (300, 200), 100, projections=(), attention=False, feedback="plain")
SPIKING = ("--network", "pooling", "--backend", "spiking", "--neuron", "sigma-delta")
NO_TEXTS = Lookup(torch.zeros(1, 1), torch.zeros(0, 1, 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
BITS = Bits(bits=4, **SAID)  # type: ignore[arg-type]
RANGE = Range(limit=4.0, **SAID)  # type: ignore[arg-type]


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def model(**parts: object) -> DeviceModel:
    return DeviceModel(name="test", title="A test", **parts)  # type: ignore[arg-type]


def network(seed: int = 0) -> Network:
    return Network.create(SHAPE, random(seed))


def test_stochastic_rounding_is_right_in_the_mean_and_nearest_is_not() -> None:
    limit, step = 1.0, BITS.step(1.0)
    assert step == 1 / 7
    for weight in (-0.93, -0.02, 0.0, 0.2, 3 / 7 + 0.01):
        draws = BITS.rounded(torch.full((100_000,), weight, dtype=torch.float64), limit, random())
        low = math.floor(weight / step) * step
        assert float((draws - low).abs().minimum((draws - low - step).abs()).max()) < 1e-12  # the two levels beside it
        assert abs(float(draws.mean()) - weight) < 5 * step / math.sqrt(100_000)
    levels = torch.arange(-7, 8, dtype=torch.float64) * step
    assert torch.equal(BITS.rounded(levels, limit, random()), levels)
    assert torch.equal(replace(BITS, rounding="nearest").rounded(levels + 0.4 * step, limit, random()), levels)


def test_small_updates_add_up_under_stochastic_rounding_and_are_lost_under_plain() -> None:
    """200 updates of a hundredth of a step each: two steps."""
    start = torch.zeros(20_000, 16)
    limit = RANGE.of(16)
    step = BITS.step(limit)

    def after(bits: Bits) -> Tensor:
        device, weight, draws = model(range=RANGE, bits=bits), start, random(3)
        for _ in range(200):
            weight = device.written(weight, torch.full_like(weight, step / 100), limit, draws)
        return weight / step

    assert not after(replace(BITS, rounding="nearest")).any()
    assert abs(float(after(BITS).mean()) - 2) < 0.01


def test_pulses_have_the_mean_and_the_noise_that_they_say() -> None:
    pulses = Pulses(least=0.01, spread=2.0, **SAID)  # type: ignore[arg-type]
    limit, change = 3.0, torch.full((200_000,), -0.075, dtype=torch.float64)  # two pulses and a half
    found = pulses.given(change, limit, random())
    size = 0.03
    assert abs(float(found.mean()) + 0.075) < 1e-3
    expected = size * math.sqrt(2.0**2 * 2.5 + 0.25)  # of the noise of each, and of their number
    assert abs(float(found.std()) / expected - 1) < 0.01
    few = pulses.given(torch.full((200_000,), 0.003, dtype=torch.float64), limit, random())
    assert abs(float((few != 0).double().mean()) - 0.1) < 0.005
    assert not pulses.given(torch.zeros(9), limit, random()).any()


def test_soft_bounds_solve_their_equation() -> None:
    bounds = SoftBounds(up=1.5, down=0.5, **SAID)  # type: ignore[arg-type]
    limit = 2.0
    weight = torch.linspace(-2, 2, 41, dtype=torch.float64)
    for change in (0.7, -1.3):
        euler, steps = weight.clone(), 100_000
        for _ in range(steps):
            rate = 1.5 * (1 - euler / limit) if change > 0 else -0.5 * (1 + euler / limit)
            euler += abs(change) / steps * rate
        once = bounds.moved(weight, torch.full_like(weight, change), limit)
        half = torch.full_like(weight, change / 2)
        twice = bounds.moved(bounds.moved(weight, half, limit), half, limit)
        assert float((once - euler).abs().max()) < 1e-4 and torch.allclose(once, twice, atol=1e-12)
        assert float(once.abs().max()) <= limit
    assert torch.equal(bounds.moved(weight, torch.zeros_like(weight), limit), weight)


def test_mismatch_is_log_normal_of_its_sigma_by_the_seed_and_of_each_copy_its_own() -> None:
    device = model(mismatch=Mismatch(sigma=0.4, **SAID))  # type: ignore[arg-type]
    made = [network() for _ in range(3)]
    chips = [Chip(device, dict(each.named()), seed) for each, seed in zip(made, (7, 7, 8), strict=True)]
    ideal = dict(network().named())
    gains = {name: dict(made[0].named())[name] / ideal[name] for name in ("w2", "w3", "v3", "w4", "v4")}
    for name, gain in gains.items():
        logs = gain.log().flatten() + 0.4**2 / 2
        assert kstest((logs / 0.4).numpy(), "norm").pvalue > 1e-3, name
        assert abs(float(logs.std()) / 0.4 - 1) < 0.02 and abs(float(gain.mean()) - 1) < 0.02
        assert torch.equal(chips[0].gains[name], chips[1].gains[name])
        assert not torch.equal(chips[0].gains[name], chips[2].gains[name])
    logs = torch.stack([gains["w3"].log().flatten(), gains["v3"].log().flatten()])
    assert abs(float(torch.corrcoef(logs)[0, 1])) < 0.02
    assert all(torch.equal(dict(made[0].named())[name], ideal[name]) for name in ("b2", "b3", "b4"))


def test_an_update_reaches_the_network_through_the_gain_of_its_synapse() -> None:
    subject = network()
    chip = Chip(model(mismatch=Mismatch(sigma=0.4, **SAID)), dict(subject.named()), 0)  # type: ignore[arg-type]
    before = subject.weights[1].clone()
    subject.weights[1] += 0.25
    chip.write(0)
    torch.testing.assert_close(subject.weights[1], before + 0.25 * chip.gains["w3"])


def test_programming_misses_by_its_error_and_ends_at_the_range() -> None:
    device = model(range=RANGE, programming=Programming(error=0.1, **SAID))  # type: ignore[arg-type]
    found = device.programmed(torch.zeros(1000, 100), 0.4, random())
    assert abs(float(found.std()) / (0.1 * 0.4) - 1) < 0.02
    assert float(device.programmed(torch.full((10, 100), 9.0), 0.4, random()).max()) <= 0.4 + 1e-6


def test_stuck_synapses_are_as_many_as_said_and_stay() -> None:
    subject = network()
    chip = Chip(model(range=RANGE, stuck=Stuck(share=0.2, **SAID)), dict(subject.named()), 1)  # type: ignore[arg-type]
    start = {name: tensor.clone() for name, tensor in subject.named()}
    for tensor in dict(subject.named()).values():
        tensor += 0.01
    chip.write(0)
    for name, tensor in subject.named():
        still = (tensor == start[name]).double().mean()
        assert abs(float(still) - (0.2 if name[0] in "wv" else 0)) < 0.015, name
    held = subject.weights[0][chip.faults["w2"][0]] / float(RANGE.of(400))
    assert kstest(held.numpy(), "uniform", (-1, 2)).pvalue > 1e-3


def test_injected_gains_are_drawn_for_each_step_and_leave_nothing() -> None:
    subject = network()
    chip = Chip(model(injected=Injected(sigma=0.3, **SAID)), dict(subject.named()), 0)  # type: ignore[arg-type]
    first, again, second = (chip.at_work(subject, NO_TEXTS, step)[0].weights[1] for step in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, second)
    assert abs(float((first / subject.weights[1]).log().std()) / 0.3 - 1) < 0.02
    assert torch.equal(subject.weights[1], network().weights[1])


def test_units_have_offsets_that_their_biases_hold() -> None:
    subject, ideal = network(), dict(network().named())
    Chip(model(thresholds=Thresholds(sigma=0.2, **SAID)), dict(subject.named()), 0)  # type: ignore[arg-type]
    offsets = torch.cat([tensor - ideal[name] for name, tensor in subject.named() if name[0] == "b"])
    assert kstest((offsets / 0.2).numpy(), "norm").pvalue > 1e-3
    assert all(torch.equal(tensor, ideal[name]) for name, tensor in subject.named() if name[0] != "b")


def test_every_profile_can_be_read_and_says_where_its_figures_come_from() -> None:
    assert {"ideal", "loihi-8bit", "pcm", "rram", "cmos-mismatch"} == set(profiles())
    for name in profiles():
        device = read_device(name)
        assert device.name == name and bool(device.imperfections) == (name != "ideal")
        for part in device.imperfections.values():
            assert len(part.source) > 20


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name = 1", "name"),
        ('name = "x"', "title"),
        ('name = "x"\ntitle = "x"\n[noise]\nsize = 1', "noise"),
        ('name = "x"\ntitle = "x"\n[mismatch]\nsigma = 0.1', "mismatch"),
        ('name = "x"\ntitle = "x"\n[mismatch]\nsigma = nan\nlabel = "modelled"\nsource = "x"', "finite"),
        ('name = "x"\ntitle = "x"\n[mismatch]\nsigma = -1\nlabel = "modelled"\nsource = "x"', "greater"),
        ('name = "x"\ntitle = "x"\n[mismatch]\nsigma = 1\nlabel = "guessed"\nsource = "x"', "label"),
        ('name = "x"\ntitle = "x"\n[bits]\nbits = 8\nlabel = "modelled"\nsource = "x"', r"\[range\]"),
        ('name = "x"\ntitle = "x"\n[bits]\nbits = 1\nlabel = "modelled"\nsource = "x"', "bits"),
        (f"{NAMED}[range]\nlimit = 8\n{LABELLED}[pulses]\nleast = 9e-230\n{LABELLED}", "pulses.least"),
        (f"{NAMED}[range]\nlimit = 1e-300\n{LABELLED}", "range.limit"),
        ("name =", "not a device model"),
        ("a" + ".a" * 5000 + " = 1", "not a device model"),
    ],
)
def test_a_device_model_that_is_none_is_told(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "device.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        read_device(str(path))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("digits", "--device-model", "nothing"), "cmos-mismatch"),
        (("mini", "--network", "pooling", "--backend", "brian2", "--device-model", "pcm"), "--backend brian2"),
        (("digits", "--backend", "spiking", "--device-model", "pcm", "--feedback-rule", "exact"), "expected plain"),
        (("mini", *SPIKING, "--circuit", "wta", "--device-model", "pcm"), "--circuit wta"),
        (("mini", *SPIKING, "--device-model", "pcm", "--feedback-rule", "exact"), "expected plain"),
        (("mini", "--network", "tokens", "--device-model", "pcm"), "--network pooling"),
        (("mini", "--readout", "softmax", "--device-model", "pcm"), "--readout softmax"),
        (("mini", "--start", "somewhere"), "somewhere is no run folder"),
        (("digits", "--device-seed", "1"), "--device-model"),
        (("digits", "--device-model", "ideal", "--feedback-rule", "exact"), "--device-model"),
        (("digits", "--start", "nowhere", "--limit", "40"), "nowhere"),
    ],
)
def test_what_a_device_cannot_do_is_refused_by_name(
    arguments: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        command("run", *arguments, "--out", tmp_path / "run")
    assert stopped.value.code == 2 and says in capsys.readouterr().err


def short(**settings: object) -> RunConfig:
    return configure("digits", epochs=1, limit=100, **settings)


def trained(config: RunConfig, steps: int) -> Trainer:
    trainer = Trainer(config, load_dataset(config.data), make_backend(config))
    with torch.no_grad():
        for _ in range(steps):
            trainer.train_batch()
    return trainer


def test_the_ideal_device_is_no_device_bit_for_bit(tmp_path: Path) -> None:
    assert short(device_model="ideal").to_toml() == short().to_toml()
    for name, settings in (("none", ()), ("ideal", ("--device-model", "ideal"))):
        command("run", "digits", "--limit", 100, "--epochs", 1, "--out", tmp_path / name, *settings)
    for file in ("checkpoint/model.safetensors", "checkpoint/optimizer.safetensors", "predictions.parquet"):
        assert (tmp_path / "none" / file).read_bytes() == (tmp_path / "ideal" / file).read_bytes()


@pytest.mark.parametrize(
    ("table", "figures"),
    [
        ("mismatch", {"sigma": 0}),
        ("asymmetry", {"eta": 0}),
        ("thresholds", {"sigma": 0}),
        ("read_noise", {"sigma": 0}),
        ("drift", {"spread": 0, "seconds": 100}),
        ("lost_spikes", {"share": 0}),
        ("stuck", {"share": 0}),
        ("programming", {"error": 0}),
        ("injected", {"sigma": 0}),
    ],
)
def test_every_imperfection_of_size_0_is_no_device(table: str, figures: dict[str, object], tmp_path: Path) -> None:
    config = short(device_model=device_file(tmp_path / "zero.toml", **{table: figures}))
    assert config.learning.device_model is None and config.to_toml() == short().to_toml()


def test_a_chip_with_nothing_wrong_is_ep_of_symmetric_weights(tmp_path: Path) -> None:
    """No σ to speak of, so that every write is exact: the copies stay equal, and the run is that without a device."""
    device, steps = tmp_path / "nothing.toml", 4
    said = 'label = "modelled"\nsource = "a test"'
    device.write_text(f'name = "nothing"\ntitle = "Nothing"\n[mismatch]\nsigma = 1e-12\n{said}')
    plain, chip = trained(short(), steps), trained(short(device_model=str(device)), steps)
    for name, tensor in plain.parameters.items():
        torch.testing.assert_close(chip.parameters[name], tensor, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(chip.parameters["v3"], chip.parameters["w3"], rtol=0, atol=1e-6)


def test_training_on_a_chip_wakes_output_units_that_no_nudge_can_reach(tmp_path: Path) -> None:
    device = device_file(tmp_path / "m.toml", mismatch={"sigma": 0.1})

    def rates(config: RunConfig, offset: float) -> list[float]:
        """Of both output units after a step from a start where the second one hears ``offset`` more."""
        trainer = trained(config, 0)
        with torch.no_grad():
            trainer.network.biases[-1][1] += offset
            trainer.train_batch()
            part = trainer.dataset.train
            return evaluate(trainer.backend, trainer.network, trainer.gather, part, 16).rates.mean(0).tolist()

    for offset in (-6.0, 6.0):
        silent, awake = rates(of_texts(), offset), rates(of_texts(device_model=device), offset)
        assert silent[1] in (0, 1) and 0.3 < awake[1] < 0.7
    assert rates(of_texts(device_model=device), 0.5)[1] > 0.6  # such a unit learns, and is left as it is


@pytest.mark.parametrize("device", ["loihi-8bit", "pcm", "rram", "cmos-mismatch"])
def test_a_run_on_a_chip_goes_on_as_if_nothing_had_happened(device: str) -> None:
    config = short(device_model=device, device_seed=3, feedback_rule="exact")
    whole, first = trained(config, 4), trained(config, 2)
    saved = first.checkpoint()
    second = trained(config, 0)
    second.restore(saved)
    with torch.no_grad():
        for _ in range(2):
            second.train_batch()
    for name, tensor in whole.parameters.items():
        assert torch.equal(tensor, second.parameters[name]), name


def of_texts(**settings: object) -> RunConfig:
    small = {"network": "pooling", "limit": 96, "batch": 16, "epochs": 1, "hidden": (6,), "dim": 8}
    return configure("mini", str(settings.pop("backend", "dense")), **small, **settings)


def device_file(path: Path, **tables: dict[str, object]) -> str:
    """A device model with these imperfections."""
    made = {name: {**figures, **SAID} for name, figures in tables.items()}
    path.write_text(tomli_w.dumps({"name": path.stem, "title": "A test", **made}))
    return str(path)


def test_patterns_are_stored_twice_and_learn_as_one_where_nothing_is_wrong(tmp_path: Path) -> None:
    device = device_file(tmp_path / "nothing.toml", mismatch={"sigma": 1e-12})
    plain, chip = trained(of_texts(), 4), trained(of_texts(device_model=device), 4)
    keys, values = chip.gather.table.chunk(2, 1)
    torch.testing.assert_close(keys, plain.gather.table, rtol=1e-4, atol=1e-4)
    assert torch.equal(keys, values) and not torch.equal(keys, trained(of_texts(), 0).gather.table)
    for name, tensor in plain.parameters.items():
        torch.testing.assert_close(chip.parameters[name], tensor, rtol=1e-4, atol=1e-5)


def test_keys_and_values_have_gains_of_their_own_and_rows_that_no_text_has_rest(tmp_path: Path) -> None:
    device = device_file(tmp_path / "m.toml", mismatch={"sigma": 0.4})
    ideal, start, after = (
        trained(of_texts(**more), steps).gather.table
        for more, steps in (({}, 0), *[({"device_model": device}, s) for s in (0, 2)])
    )
    there = ideal != 0
    logs = [(copy[there] / ideal[there]).log() + 0.4**2 / 2 for copy in start.chunk(2, 1)]
    for log in logs:
        assert abs(float(log.std()) / 0.4 - 1) < 0.05 and abs(float(log.mean())) < 0.03
    assert abs(float(torch.corrcoef(torch.stack(logs))[0, 1])) < 0.05
    moved = (after != start).any(1)
    trainer = trained(of_texts(device_model=device), 2)
    assert (
        trainer.patterns is not None
        and torch.equal(moved, trainer.patterns.moved)
        and 0 < int(moved.sum()) < len(moved)
    )


def test_what_a_text_adds_to_its_own_patterns_is_less_by_their_gains(tmp_path: Path) -> None:
    """Its part in the log-count ratios, which training takes away: keys of a text seen by no other have no ratio."""
    device = device_file(tmp_path / "m.toml", mismatch={"sigma": 0.4})
    plain, chip = (trained(of_texts(**more), 0) for more in ({}, {"device_model": device}))
    seen = []
    for trainer in (plain, chip):
        lookup = trainer.gather.lookup(trainer.dataset.train, np.arange(4), 0.0, np.random.default_rng(0))
        seen.append(trainer.chip.at_work(trainer.network, lookup, 0)[1].whole())
    gains = chip.chip.gains["X"][seen[0].ids]
    torch.testing.assert_close(seen[1].stored, gains * seen[0].x.repeat(1, 1, 1, 2))


def test_a_run_on_texts_goes_on_answers_and_is_started_from(tmp_path: Path) -> None:
    """A chip with all there is: resumed as if nothing had happened, read by predict, tuned from an ideal run."""
    device = device_file(
        tmp_path / "all.toml",
        range={"limit": 8},
        bits={"bits": 6},
        mismatch={"sigma": 0.3},
        stuck={"share": 0.05},
        programming={"error": 0.01},
    )
    config = of_texts(device_model=device, feedback_rule="exact", device_seed=2)
    whole, first = trained(config, 4), trained(config, 2)
    second = trained(config, 0)
    second.restore(first.checkpoint())
    with torch.no_grad():
        for _ in range(2):
            second.train_batch()
    assert torch.equal(whole.gather.table, second.gather.table)
    assert all(torch.equal(tensor, second.parameters[name]) for name, tensor in whole.parameters.items())
    small = ("run", "mini", "--network", "pooling", "--limit", 96, "--epochs", 1, "--hidden", 6, "--dim", 8)
    command(*small, "--out", tmp_path / "ideal")
    on_chip = ("--device-model", device, "--start", tmp_path / "ideal", "--out", tmp_path / "chip")
    command(*small, *on_chip)
    predictor, saved = Predictor.open(tmp_path / "chip"), pq.read_table(tmp_path / "chip" / "predictions.parquet")
    for text, row in zip(load_dataset(config.data).test_texts[:5], saved.to_pylist(), strict=False):
        rates = predictor.predict(text).rates
        assert rates == pytest.approx({name: row[f"rate_{name}"] for name in rates}, abs=1e-4)
    start = trained(config_of(tmp_path / "ideal", start=tmp_path / "ideal"), 0)
    assert torch.equal(
        start.gather.table, read_table(tmp_path / "ideal", tmp_path / "ideal/checkpoint/model.safetensors")
    )
    with pytest.raises(RunError, match="components"):
        trained(of_texts(start=tmp_path / "chip"), 0)


def test_a_run_notices_that_its_device_model_has_changed(tmp_path: Path) -> None:
    device = device_file(tmp_path / "m.toml", mismatch={"sigma": 0.4})
    config = of_texts(device_model=device, out=tmp_path / "run")
    folder, trainer = RunFolder.open(config), trained(config, 1)
    describe(trainer, folder)
    folder.check_data(config, trainer.dataset.source, trainer.dataset.embeddings.digest)
    device_file(tmp_path / "m.toml", mismatch={"sigma": 0.5})
    read_device.cache_clear()
    with pytest.raises(RunError, match="has changed"):
        folder.check_data(config, trainer.dataset.source, trainer.dataset.embeddings.digest)
    folder.close()


def test_spikes_of_changes_learn_on_a_chip_as_rates_do_by_the_plain_rule(tmp_path: Path) -> None:
    """Sent finely: the gradient of keys, values and both copies of each weight is that of the dense backend."""
    fine = SigmaDeltaBackend(300, 300, threshold=(1e-3,), projection_threshold=1e-3, output_threshold=1e-3)
    finer = {"nudge_threshold": 1e-5, "projection_nudge_threshold": 1e-5, "token_nudge_threshold": 1e-5}
    fine = replace(fine, **finer, token_threshold=1e-3, dtype=torch.float64, rule=MembraneCount())
    dense = DenseBackend(300, 300, tolerance=1e-9, dtype=torch.float64)
    for copies, (network, batch) in (
        ({"v2", "v3", "v4", "X"}, texts_of("plain", 0.5)),
        ({"va", "v2", "v3", "X"}, pairs_of("plain", 0.5)),
    ):
        found, expected = (ThreePhase(0.1)(each, network, batch).gradients for each in (fine, dense))
        assert copies < set(found) == set(expected)
        for name, value in expected.items():
            mine, theirs = ((each.to_dense() if each.is_sparse else each) for each in (found[name], value))
            assert cosine(mine, theirs) > 0.999, name
    device = device_file(tmp_path / "m.toml", mismatch={"sigma": 0.2})
    config = of_texts(device_model=device, backend="spiking", neuron="sigma-delta")
    assert make_single(make_backend(config), network, torch.zeros(1, 1)) is None
    start, after = (trained(config, steps) for steps in (0, 2))
    assert not torch.equal(start.gather.table, after.gather.table)


@pytest.mark.parametrize(("rule", "least"), [(MembraneCount(), 0.99), (Count(), 0.9)], ids=["membrane", "count"])
def test_spikes_of_rate_codes_learn_on_a_chip_as_rates_do_by_the_plain_rule(
    rule: Rule, least: float, tmp_path: Path
) -> None:
    long = SpikingBackend(1200, 1200, window=800, tick_steps=5, feedback_tau=20.0, rule=rule, dtype=torch.float64)
    dense = DenseBackend(300, 300, tolerance=1e-9, dtype=torch.float64)
    for copies, made in (({"v2", "v3", "v4", "X"}, texts_of), ({"va", "v2", "v3", "X"}, pairs_of)):
        network, batch = made("plain", 0.5)
        found, expected = (ThreePhase(0.5)(each, network, batch).gradients for each in (long, dense))
        symmetric = ThreePhase(0.5)(dense, *made("plain", 0.0)).gradients
        assert copies < set(found) == set(expected)
        for name, value in expected.items():
            mine, theirs, other = (
                each.to_dense() if each.is_sparse else each for each in (found[name], value, symmetric[name])
            )
            assert cosine(mine, theirs) > least and cosine(mine, theirs) > cosine(mine, other), name
    device = device_file(tmp_path / "m.toml", mismatch={"sigma": 0.2})
    config = of_texts(device_model=device, backend="spiking", neuron="if", rule=rule.name)
    start, after = (trained(config, steps) for steps in (0, 1))
    assert not torch.equal(start.gather.table, after.gather.table)


def test_weights_of_a_chip_of_few_bits_lie_on_its_levels() -> None:
    trainer = trained(short(device_model="loihi-8bit"), 4)
    for name in ("w2", "w3", "v3"):
        weight = trainer.parameters[name]
        levels = weight / (8 / math.sqrt(weight.shape[1]) / 127)
        assert float((levels - levels.round()).abs().max()) < 1e-3 and float(levels.abs().max()) <= 127.01


def test_a_run_folder_says_what_it_was_trained_on_and_another_starts_from_it(tmp_path: Path) -> None:
    small = ("run", "digits", "--limit", 100, "--epochs", 1)
    command(*small, "--out", tmp_path / "first")
    device = ("--device-model", "cmos-mismatch", "--device-seed", 5)
    command(*small, "--start", tmp_path / "first", *device, "--out", tmp_path / "second")
    made = json.loads((tmp_path / "second" / "environment.json").read_text())["device_model"]
    assert made["mismatch"]["sigma"] == 0.2 and made["mismatch"]["source"]
    config = config_of(tmp_path / "second")
    assert config.learning.device_seed == 5 and config.learning.device_model == "cmos-mismatch"
    first = read_weights(tmp_path / "first" / "checkpoint" / "model.safetensors")
    deployed = trained(config, 0)
    for name, copy in (("w2", "w2"), ("w3", "w3"), ("v3", "w3")):
        assert torch.equal(deployed.parameters[name], deployed.chip.gains[name] * first[copy])
    assert {"v3"} < set(read_weights(tmp_path / "second" / "checkpoint" / "model.safetensors"))


@pytest.mark.parametrize("device", ["cmos-mismatch", "ideal"])
def test_biases_may_learn_alone(device: str) -> None:
    assert "learns" not in short().settings()
    start, after = (trained(short(learns="biases", device_model=device), steps).parameters for steps in (0, 3))
    for name, tensor in start.items():
        assert torch.equal(tensor, after[name]) == (name[0] != "b"), name
