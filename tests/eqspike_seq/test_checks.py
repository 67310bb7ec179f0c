"""What ``eqspike check`` computes, against autograd and mathematics; and the command itself."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from analysis.check_pictures import pictures
from eqspike.build import config_of, configure
from eqspike.cli import main
from eqspike.commands.check import GradientFlags, rates_only
from eqspike_seq.checks import gradients as gradcheck
from eqspike_seq.checks.bptt import CURVE_TEXTS, bptt_course, compare, ep_course
from eqspike_seq.checks.convergence import hopfield_energy, over_time, temperature_sweep
from eqspike_seq.checks.gradients import SEARCHED, Stage, teaching, texts_of
from eqspike_seq.config.presets import run_settings
from eqspike_seq.config.section import flat
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.data.batches import Batches, random_batch
from eqspike_seq.data.dataset import load_dataset
from eqspike_seq.learning.estimators import BPTT
from eqspike_seq.model.attention import hopattn
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network
from eqspike_seq.model.projection import DenseProjection
from eqspike_seq.relaxation.dense import DenseBackend
from eqspike_seq.runs.findings import Agreement, ConvergenceCheck, GradientCheck
from tests.conftest import is_whole, make_batch, make_clamped, make_network

RESULTS = Path(__file__).parents[2] / "results"
SAVED = {path.parent: run_settings(path.parent) for path in sorted(RESULTS.glob("*/config.toml"))}
DENSE = [path for path, saved in SAVED.items() if saved["backend"] == "dense" and not rates_only(saved)]
EXACT = DenseBackend(free_steps=500, tolerance=1e-14, dtype=torch.float64)


@pytest.mark.parametrize("clamped", [False, True])
def test_bptt_course_is_autograd_through_the_last_steps(clamped: bool) -> None:
    network, batch = make_clamped() if clamped else (make_network(), make_batch())
    course = bptt_course(network, batch, EXACT.free(network, batch).rates, 12)
    for steps in (1, 2, 5, 12):
        truth = BPTT(steps)(EXACT, network, batch).gradients
        for name, value in truth.items():
            torch.testing.assert_close(course[steps - 1][name], value, atol=1e-10, rtol=1e-7)


@pytest.mark.parametrize("attention", [True, False])
def test_ep_follows_bptt_step_by_step(attention: bool) -> None:
    """The gradient-descending updates: EP after t nudged steps is BPTT through t steps, for every t, as β → 0."""
    network, batch = make_network(attention=attention), make_batch()
    free, projection = EXACT.free(network, batch).rates, DenseProjection.of(network, batch, torch.float64)
    ep = ep_course(projection, batch, free, 0.001, 10)
    bptt = bptt_course(network, batch, free, 10)
    for t in range(10):
        for name, value in bptt[t].items():
            torch.testing.assert_close(ep[t][name], value, atol=1e-6, rtol=1e-3)
    assert not ep[0]["w1"].any() and ep[9]["w1"].any()  # the nudge takes its time to come down


def test_compare_says_cosine_and_relative_error() -> None:
    truth = {"a": torch.tensor([3.0, 4.0]), "b": torch.zeros(2)}
    records = compare({"a": torch.tensor([4.0, 3.0]), "b": torch.ones(2)}, truth)
    assert records[0].cosine == pytest.approx(24 / 25)
    assert records[0].relative_rmse == pytest.approx(math.sqrt(2) / 5)
    assert records[1] == Agreement(parameter="b", cosine=None, relative_rmse=None)


def test_hopattn_is_the_update_that_lowers_the_hopfield_energy() -> None:
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randn(9, 5, generator=generator, dtype=torch.float64)
    state = torch.randn(30, 5, generator=generator, dtype=torch.float64)
    beta = 1 / math.sqrt(5)
    for _ in range(5):
        new = hopattn(state, patterns)
        before, after = hopfield_energy(state, patterns, beta), hopfield_energy(new, patterns, beta)
        assert (after <= before + 1e-12).all() and (after >= -1e-12).all()
        state = new
    leaf = state[0].clone().requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(hopfield_energy(leaf.unsqueeze(0), patterns, beta).sum(), leaf)
    torch.testing.assert_close(leaf.detach() - slope, hopattn(state[:1], patterns)[0])


def test_temperature_leads_from_the_mean_of_all_patterns_to_one() -> None:
    text = torch.randn(20, 16, generator=torch.Generator().manual_seed(0))
    found = temperature_sweep(text, 1 / 4)
    assert found.effective_patterns[0] > 19 and found.effective_patterns[-1] == pytest.approx(1, abs=1e-3)
    assert found.retrieved[0] < 0.2 and found.retrieved[-1] == 1
    assert max(found.largest_rise_of_energy) < 1e-9 and found.second_less_first[-1] < 1e-3


def test_phases_settle() -> None:
    found = over_time(make_network(dim=4), make_batch(), 0.5)
    free = found["free"]
    assert len(free.phi) == 50 and free.residual[-1] < 1e-3 * free.residual[0]
    assert found["nudge+"].residual[-1] < 1e-3


def run_check(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["eqspike", "check", *arguments])
    main()


def test_check_gradients_of_a_run_at_three_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    short = ["--limit", "80", "--epochs", "2", "--out", "run", "--free-steps", "40", "--nudge-steps", "40"]
    monkeypatch.setattr("sys.argv", ["eqspike", "run", "mini", "--backend", "spiking", "--window", "20", *short])
    main()
    run_check(monkeypatch, "gradients", "run", "--texts", "20", "--windows", "40", "80", "--betas", "0.5", "1.0")
    found = json.loads((tmp_path / "run/checks/gradients.json").read_text())
    records = found["records"]
    assert found["format"] == FORMAT
    assert {r["stage"] for r in records} == {"initial", "halfway", "end"}
    assert {r["parameter"] for r in records} == {"w1", "w2", "b2", "w3", "b3"}
    assert is_whole(tmp_path / "run/checks/gradients.json", GradientCheck, "environment")
    spiking = [r for r in records if r["reference"] == "eq18"]
    assert {(r["beta"], r["window"]) for r in spiking} == {(0.5, 40), (0.5, 80), (1.0, 40), (1.0, 80)}
    assert all(r["neuron"] == "if" and r["circuit"] == "clocked" for r in spiking)
    assert all(r["cosine"] > 0.999 for r in records if r["reference"] == "bptt")
    for stage in ("initial", "halfway", "end"):
        assert "<svg" in (tmp_path / f"run/checks/gradients-over-time-{stage}.svg").read_text()
    assert "<svg" in (tmp_path / "run/checks/gradients-fidelity.svg").read_text()
    run_check(monkeypatch, "convergence", "run", "--texts", "8")
    found = json.loads((tmp_path / "run/checks/convergence.json").read_text())
    assert set(found["stages"]) == {"initial", "halfway", "end"} and "spiking" in found["stages"]["end"]
    assert is_whole(tmp_path / "run/checks/convergence.json", ConvergenceCheck, "environment")
    assert "<svg" in (tmp_path / "run/checks/hopfield.svg").read_text()
    assert "a second HopAttn" in capsys.readouterr().out


@pytest.mark.parametrize("run", DENSE, ids=lambda run: run.name)
@pytest.mark.parametrize("neuron", [None, "sigma-delta"])
def test_a_dense_run_is_checked_with_the_spikes_of_its_preset(run: Path, neuron: str | None) -> None:
    saved, given = run_settings(run), {} if neuron is None else {"neuron": neuron}
    config = GradientFlags(run=run).config(backend="spiking", **given)
    network = {name: saved[name] for name in ("hidden", "attention") if name in saved}
    preset = configure(saved["dataset"], "spiking", saved["preset"], **network, **given)
    assert config.backend == preset.backend
    for name, value in config.settings().items():
        if name not in ("estimator", "backend", *flat(config.backend)) and name in saved:
            assert value == saved[name], name
    assert config.settings()["neuron"] == (neuron or preset.settings()["neuron"])
    assert config.learning.estimator == "three-phase"


@pytest.mark.parametrize("changes", [{"readout": "softmax"}, {"uniform_attention": True}])
def test_what_no_spikes_relax_is_checked_on_rates(tmp_path: Path, changes: dict[str, Any]) -> None:
    (tmp_path / "config.toml").write_bytes(
        configure("mini", "dense", network="pooling", hidden=(8,), **changes).to_toml()
    )
    assert GradientFlags(run=tmp_path).config(backend="spiking") == config_of(tmp_path)


def test_a_run_that_learnt_by_backpropagation_is_checked_too(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(configure("mini", "dense", estimator="bptt", beta=0.3).to_toml())
    config = GradientFlags(run=tmp_path).config(backend="spiking")
    assert (
        config.learning.estimator == "three-phase" and config.learning.beta == 0.3 and config.backend.free_steps == 100
    )


def test_a_text_teaches_as_long_as_its_output_answers_to_a_nudge() -> None:
    """At the output ds/dβ = (y − s)/2 where σ is not clipped, 0 where it is, whether right or wrong."""
    network, batch = make_network(dtype=torch.float32), make_batch(dtype=torch.float32)
    assert teaching(network, batch)[0].all()
    for label, accuracy in ((0, 1.0), (1, 0.0)):
        batch = Batch(batch.x, batch.mask, torch.full_like(batch.labels, label))
        network.biases[-1] = torch.tensor([20.0, -20.0])
        teaches, right = teaching(network, batch)
        assert not teaches.any() and right == accuracy
    network.biases[-1] = torch.tensor([20.0, 1.0])  # the second output is unclipped: it teaches, though all are right
    teaches, right = teaching(network, Batch(batch.x, batch.mask, torch.zeros_like(batch.labels)))
    assert teaches.all() and right == 1.0


@pytest.mark.parametrize(
    ("every", "taken", "says"),
    [
        (1, 32, None),
        (8, 32, None),
        (16, 32, "32 of these are compared"),
        (64, 0, "is skipped"),
        (1000, 0, "is skipped"),
    ],
)
def test_where_few_texts_teach_others_that_do_are_looked_for(
    every: int, taken: int, says: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each ``every``-th training text teaches, in the order in which they are drawn."""
    config = configure("mini", "dense")
    data = load_dataset(config.data)
    drawn = random_batch(config, data, len(data.train))
    place = {text.numpy().tobytes(): row for row, text in enumerate(drawn.x)}

    def rows(batch: Batch) -> list[int]:
        return [place[text.numpy().tobytes()] for text in batch.x]

    def teaching(network: Network, batch: Batch) -> tuple[torch.Tensor, float]:
        return torch.tensor([row % every == 0 for row in rows(batch)]), 0.5

    monkeypatch.setattr(gradcheck, "teaching", teaching)
    batch, about = texts_of(Stage("end", make_network(), Batches.of(config, data)), config, data, 32)
    assert about.texts == taken and (batch is None) == (taken == 0)
    searched = min(SEARCHED * 32, len(data.train))
    if says is None:
        assert about.note is None and batch is not None
        assert rows(batch) == list(range(32))
    else:
        assert about.note and says in about.note and "almost no gradient" in about.note
        assert batch is None or rows(batch) == list(range(0, 32 * every, every))
        assert taken or -(-searched // every) < CURVE_TEXTS


def test_of_a_run_that_has_learnt_all_its_texts_the_start_is_compared_and_the_rest_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    short = ["--limit", "40", "--batch", "20", "--epochs", "60", "--learning-rate", "0.001", "--out", "run"]
    monkeypatch.setattr("sys.argv", ["eqspike", "run", "mini", *short])
    main()
    last = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])
    assert last["train_accuracy"] == 1.0
    capsys.readouterr()
    run_check(monkeypatch, "gradients", "run", "--texts", "24", "--windows", "80")
    found = json.loads((tmp_path / "run/checks/gradients.json").read_text())
    said = " ".join("".join(capsys.readouterr()).split())
    assert found["stages"]["initial"]["note"] is None and found["stages"]["initial"]["teaching"] == 24
    end = found["stages"]["end"]
    assert end["right"] == 1.0 and end["teaching"] == end["texts"] == 0
    assert f"warning: end: {end['note']}" in said and "40 texts 0 still respond: too few" in end["note"]
    assert "end" not in {record["stage"] for record in found["records"]} and "end" not in found["curves"]
    assert not (tmp_path / "run/checks/gradients-over-time-end.svg").exists()
    (fidelity,) = (picture for picture in pictures(GradientCheck.read(found)) if picture.name == "gradients-fidelity")
    assert all(axis.lines for axis in fidelity.drawn.axes) and end["note"] in fidelity.caption


@pytest.mark.parametrize("path", sorted(RESULTS.glob("checks/*/gradients.json")), ids=lambda path: path.parent.name)
def test_recorded_checks_are_drawn(path: Path) -> None:
    """They have no ``stages``."""
    *_, picture = pictures(GradientCheck.read(json.loads(path.read_text())))
    assert picture.name == "gradients-fidelity" and all(axis.lines for axis in picture.drawn.axes)


def test_check_gradients_of_a_preset_with_another_neuron(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_check(monkeypatch, "gradients", "--dataset", "mini", "--neuron", "sigma-delta", "--texts", "16", "--out", "c")
    records = json.loads((tmp_path / "c/gradients.json").read_text())["records"]
    assert {r["stage"] for r in records} == {"initial"}
    assert {r["neuron"] for r in records if r["reference"] == "eq18"} == {"sigma-delta"}
    assert all(r["cosine"] > 0.95 for r in records if r["reference"] == "offset" and r["parameter"] != "w1")


def test_common_random_numbers_leave_more_of_the_contrast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cosines: dict[str, list[float]] = {}
    for common in ("True", "False"):
        flags = ["--neuron", "bernoulli", "--common-noise", common, "--windows", "140", "--out", common]
        run_check(monkeypatch, "gradients", "--dataset", "mini", "--texts", "32", *flags)
        found = json.loads((tmp_path / common / "gradients.json").read_text())
        assert found["settings"]["common_noise"] is (common == "True")
        cosines[common] = [r["cosine"] for r in found["records"] if r["parameter"] in ("w2", "w3") and r["rule"]]
    assert all(same > other + 0.05 for same, other in zip(cosines["True"], cosines["False"], strict=True)), cosines


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Expected one of {gradients, convergence}"),
        (("everything",), "everything"),
        (("gradients", "nowhere"), "nowhere"),
        (("gradients", "--texts", "0", "--dataset", "mini"), "--texts"),
        (("gradients", "--dataset", "mini", "--neuron", "sigma-delta", "--rule", "trace"), "--rule trace"),
        (("convergence", "--dataset", "mnist"), "mnist is images, without HopAttn"),
        (("gradients", "--dataset", "mini", "--betas", "0"), "--betas: got 0, expected above 0"),
        (
            ("gradients", "--dataset", "mini", "--windows", "4"),
            "got 4, expected multiples of --tick-steps 20",
        ),
        (("gradients", "--dataset", "mini", "--neuron", "sigma-delta", "--windows", "40"), "--windows: has no effect"),
        (("gradients", "results/mini-spiking-seed0", "--seed", "5"), "--seed: has no effect with results"),
    ],
)
def test_mistakes_are_named(
    arguments: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_check(monkeypatch, *arguments)
    said = capsys.readouterr()
    assert ended.value.code == 2 and says in said.out + said.err
