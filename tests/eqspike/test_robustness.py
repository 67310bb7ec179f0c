"""``eqspike robustness``: which runs it is made of, that it goes on, and what is said of it."""

import json
import tomllib
from pathlib import Path

import pytest

from analysis.energy_report import text_of
from analysis.robustness_report import table, verdict
from eqspike_seq.ledger import Ledger
from eqspike_seq.runs.findings import OnChip, Robustness
from neuromorphic.pricing import price, read_table
from tests.conftest import command, is_whole

BASE = ("robustness", "digits", "--limit", 60, "--epochs", 2, "--hidden", 12, "--word-dropout", 0.2)


def test_it_measures_each_way_on_each_chip_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "r"
    small = (*BASE, "--strengths", 1e-6, 1.0, "--devices", 2, "--rules", "exact", "--out", out)
    command(*small)
    assert is_whole(out / "robustness.json", Robustness, "environment")
    found = Robustness.read(json.loads((out / "robustness.json").read_text()))
    assert (found.epochs, found.tuning_epochs, found.missing, set(found.ideal)) == (2, 0.2, 0, {"0"})
    assert found.tuning is not None and {"v3", "w3"} < set(found.tuning.counts)
    noises = {point.noise for point in found.points if point.way == "injected"}
    assert noises <= {5e-7, 2e-6 / 3, 1e-6, 0.5, 2 / 3, 1.0}
    assert all((point.noise is None) == (point.way != "injected") for point in found.points)
    ways = {(point.way, point.rule, point.strength, point.device): point.accuracy for point in found.points}
    rules = {"deployed": None, "tuned": "exact", "biases": None, "trained": "exact", "injected": None}
    assert set(ways) == {(way, rule, s, d) for way, rule in rules.items() for s in (1e-6, 1.0) for d in (0, 1)}
    assert (
        ways["deployed", None, 1e-6, 0] == ways["deployed", None, 1e-6, 1] == found.ideal["0"]
    )  # no mismatch to speak of
    assert ways["deployed", None, 1.0, 0] != ways["deployed", None, 1.0, 1]  # two chips
    expected = {"batch": 8, "learning_rate": [0.012, 0.003], "word_dropout": 0.3, "epochs": 0.2}
    for way in ("tuned", "biases"):
        settings = tomllib.loads((out / f"{way}-seed0/trial1-seed0/config.toml").read_text())["learning"]
        assert expected.items() <= settings.items()
    trained = json.loads((out / "tuned-seed0/trial3-seed0/result.json").read_text())["test_accuracy"]
    assert ways["tuned", "exact", 1.0, 0] == trained
    assert "on test" in capsys.readouterr().out and (out / "robustness.csv").read_text().count("\n") == 21
    assert "<svg" in (out / "robustness.svg").read_text()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("result.json")}
    assert len(before) == 1 + 4 + 4 + 4 + 6
    command(*small)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("result.json")} == before
    assert Robustness.read(json.loads((out / "robustness.json").read_text())) == found


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("mini", "--network", "tokens"), "--network pooling or token-layer"),
        (("digits", "--backend", "spiking", "--rules", "exact"), "expected plain"),
        (("mini", "--network", "pooling", "--backend", "brian2"), "--backend brian2"),
        (("digits", "--start", "somewhere"), "--start"),
        (("digits", "--seed", "3"), "--seed"),
        (("digits", "--strengths", "0"), "--strengths"),
        (("digits", "--strengths", "0.5", "0.5"), "--strengths"),
        (("digits", "--devices", "0"), "--devices"),
        (("digits", "--rules", "hebbian"), "--rules"),
        (("digits", "--betta", "1"), "--betta"),
        (("digits", "--out", "a,b"), "commas"),
    ],
)
def test_mistakes_are_told_before_anything_runs(
    arguments: tuple[str, ...],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        command("robustness", *arguments)
    said = capsys.readouterr()
    assert stopped.value.code == 2 and says in said.out + said.err
    assert not list(tmp_path.rglob("*.json"))


def test_the_verdict_counts_from_the_first_loss_of_ten_points() -> None:
    accuracies = {
        (0.5, "deployed"): (0.90, 0.92),
        (0.5, "tuned"): (0.94, 0.94),
        (1.0, "deployed"): (0.60, 0.70),
        (1.0, "tuned"): (0.90, 0.90),
    }
    points = [
        OnChip(
            way=way,  # type: ignore[arg-type]
            rule="exact" if way == "tuned" else None,
            strength=strength,
            device=device,
            seed=0,
            accuracy=accuracy,
            validation=accuracy + 0.01,
        )
        for (strength, way), both in accuracies.items()
        for device, accuracy in enumerate(both)
    ]
    tuning = Ledger(samples={"free": 200})
    tuning.add("w2", "free", multiply_accumulates=10**6)
    found = Robustness(
        settings={},
        imperfection="mismatch",
        tuning=tuning,
        epochs=20,
        tuning_epochs=2,
        ideal={"0": 0.95},
        ideal_validation={"0": 0.96},
        points=points,
    )
    said = verdict(found)
    assert "σ = 1:" in said and "95.0%" in said and "65.0%" in said
    assert "90.0%, 83% of the loss regained" in said  # (0.90 − 0.65)/(0.95 − 0.65)
    each = price(tuning, read_table("horowitz-45nm-fp32"))[0].joules.value / 200
    assert f"200 samples of {text_of(each)}, {text_of(200 * each)} in all" in said
    assert table(found) == [
        ("", "σ = 0.5", "σ = 1"),
        ("trained elsewhere, then deployed", "91.0 ± 1.4 (90)", "65.0 ± 7.1 (60)"),
        ("deployed, then tuned by EP, exact", "94.0 ± 0.0 (94)", "90.0 ± 0.0 (90)"),
    ]
