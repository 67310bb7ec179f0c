"""Joules against sums by hand; cost tables that are not right; the report of a run."""

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from analysis import energy as report
from analysis.energy_report import draw
from analysis.folders import open_run
from analysis.units import text_of
from eqspike_seq.errors import ConfigError
from eqspike_seq.ledger import KINDS, Ledger
from neuromorphic.pricing import GROUPS, PRICED, at_bits, extremes, names, price, read_table, total
from tests.conftest import command

CONSTANT = {"value": 2.0, "low": 1.0, "high": 4.0, "unit": "pJ", "label": "modelled", "source": "a test"}


FP32 = read_table("horowitz-45nm-fp32")


def table(**changes: Any) -> dict[str, Any]:
    """A cost table that prices two kinds."""
    prices = {"spikes": dict(CONSTANT), "multiply_accumulates": {**CONSTANT, "value": 3.0}}
    omitted = {kind: "not here" for kind in PRICED if kind not in prices}
    return {"name": "mine", "title": "Mine", "word_bits": 8, "prices": prices, "omitted": omitted, **changes}


def written(path: Path, content: dict[str, Any]) -> str:
    path.write_text(tomli_w.dumps(content))
    return str(path)


def test_joules_are_counts_times_constants(tmp_path: Path) -> None:
    ledger = Ledger(samples={"free": 2}, steps={"free": 30})
    ledger.add("s2", "free", spikes=10, multiply_accumulates=5, weight_reads=1000)  # the last is omitted
    ledger.add("s3", "free", spikes=1)
    static = {"power": {**CONSTANT, "unit": "W"}, "step_seconds": {**CONSTANT, "unit": "s"}}
    plain = read_table(written(tmp_path / "plain.toml", table()))
    found = total(price(ledger, plain))
    assert found.value == pytest.approx((11 * 2 + 5 * 3) * 1e-12)
    assert found.low == pytest.approx(16e-12) and found.high == pytest.approx(64e-12)
    powered = read_table(written(tmp_path / "powered.toml", table(static=static)))
    assert total(price(ledger, powered)).value - found.value == pytest.approx(2 * 2 * 30)


def test_range_of_a_ratio_is_that_over_all_corners(tmp_path: Path) -> None:
    """Three constants, each low or high: the least and greatest of the eight ratios."""
    prices = {
        "spikes": {**CONSTANT, "low": 1.0, "high": 9.0, "value": 2.0},
        "accumulates": {**CONSTANT, "low": 0.5, "high": 3.0},
        "weight_reads": {**CONSTANT, "low": 2.0, "high": 20.0, "value": 5.0},
    }
    omitted = {kind: "not here" for kind in PRICED if kind not in prices}
    found = read_table(written(tmp_path / "three.toml", table(prices=prices, omitted=omitted)))
    one, other = Ledger(samples={"free": 2}), Ledger(samples={"free": 5})
    one.add("s2", "free", spikes=3, accumulates=50, weight_reads=7)
    other.add("s2", "free", spikes=60, accumulates=10, weight_reads=9)
    corners = [
        (3 * a + 50 * b + 7 * c) / 2 / ((60 * a + 10 * b + 9 * c) / 5)
        for a in (1.0, 9.0)
        for b in (0.5, 3.0)
        for c in (2.0, 20.0)
    ]
    assert extremes(one, other, found) == pytest.approx((min(corners), max(corners)))


def test_graded_events_are_sent_like_spikes_and_no_fetch_is_paid_twice(tmp_path: Path) -> None:
    ledger = Ledger(samples={"free": 1})
    ledger.add("hopattn", "free", graded_events=4, synaptic_events=10, pattern_reads=10)
    ledger.add("s1", "free", pattern_reads=3)
    prices = {kind: dict(CONSTANT) for kind in ("spikes", "synaptic_events", "pattern_reads")}
    omitted = {kind: "not here" for kind in PRICED if kind not in prices}
    found = read_table(written(tmp_path / "chip.toml", table(prices=prices, omitted=omitted)))
    assert total(price(ledger, found)).value == pytest.approx(2e-12 * (4 + 10 + 3))


def test_every_kind_of_event_has_a_price_or_a_reason_on_every_hardware() -> None:
    assert set(PRICED) == set(KINDS) - {"graded_events"} == {kind for kinds in GROUPS.values() for kind in kinds}
    for name in names():
        found = read_table(name)
        assert found.name == name and set(found.prices) | set(found.omitted) == set(PRICED)
        assert all(len(constant.source) > 10 for constant in found.prices.values())
        assert all(len(reason) > 5 for reason in found.omitted.values())
        assert not found.dense or found.dense in names()


def test_published_constants_are_as_published() -> None:
    fp32, loihi = read_table("horowitz-45nm-fp32").prices, read_table("loihi").prices
    assert (fp32["accumulates"].value, fp32["multiply_accumulates"].value) == (0.9, pytest.approx(0.9 + 3.7))
    assert read_table("horowitz-45nm-fp16").prices["multiply_accumulates"].value == pytest.approx(0.4 + 1.1)
    assert fp32["state_reads"].low == 10 / 2 and fp32["weight_reads"].value == 100 / 2  # 64-bit accesses, 32-bit words
    assert (loihi["synaptic_events"].value, loihi["plasticity_writes"].value) == (23.6, 120)
    assert read_table("h200-peak").prices["multiply_accumulates"].value == pytest.approx(2 * 700 / 989, rel=1e-3)


def test_fewer_bits() -> None:
    whole, half = read_table("horowitz-45nm-int8"), at_bits(read_table("horowitz-45nm-int8"), 4)
    assert half.prices["multiply_accumulates"].value == pytest.approx(0.1 + 0.2 / 4)  # the sum stays 32 bits wide
    assert half.prices["io_bytes"] == whole.prices["io_bytes"]
    assert half.prices["weight_reads"].high == pytest.approx(whole.prices["weight_reads"].high / 2)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"omitted": {}}, "payload_bits.*missing"),
        ({"prices": {"spikes": {**CONSTANT, "unit": "nJ"}}}, "unit"),
        ({"prices": {"spikes": {**CONSTANT, "unit": "W"}}}, "got unit W, expected pJ"),
        ({"prices": {"spikes": {**CONSTANT, "value": -1.0}}}, "greater than or equal to 0"),
        ({"prices": {"spikes": {**CONSTANT, "low": 3.0}}}, "low 3.0, value 2.0"),
        ({"prices": {"spikes": {**CONSTANT, "label": "guessed"}}}, "label"),
        ({"prices": {"spikes": {**CONSTANT, "value": math.nan}}}, "finite"),
        ({"prices": {"spiks": dict(CONSTANT)}}, "no such kind"),
        ({"prices": {"spikes": {k: v for k, v in CONSTANT.items() if k != "source"}}}, "source"),
        ({"static": {"power": dict(CONSTANT), "step_seconds": {**CONSTANT, "unit": "s"}}}, "expected W"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_cost_tables_that_are_not_right_are_refused(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    content = table(**changes)
    if "prices" in changes:
        content["omitted"] = {kind: "not here" for kind in PRICED if kind not in content["prices"]}
    with pytest.raises(ConfigError, match=rf"mine\.toml: .*{says}"):
        read_table(written(tmp_path / "mine.toml", content))


def test_neither_a_name_nor_a_file_nor_toml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected one of a100"):
        read_table("abacus")
    (tmp_path / "odd.toml").write_text("= 3")
    with pytest.raises(ConfigError, match="not a TOML file"):
        read_table(str(tmp_path / "odd.toml"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A short spiking and a short dense run."""
    place, made = tmp_path_factory.mktemp("runs"), {}
    for backend, flags in (("spiking", ["--neuron", "sigma-delta"]), ("dense", [])):
        made[backend] = place / backend
        command("run", "mini", "--backend", backend, "--limit", 120, "--epochs", 1, *flags, "--out", made[backend])
    return made


def test_report_of_a_run(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    command("energy", runs["spiking"], "--hardware", "horowitz-45nm-fp32", "loihi", "truenorth", "--verbose")
    said = capsys.readouterr().out
    for expected in ("not counted: clock", "the chip cannot learn", "TrueNorth against dense EP", "Claim of 1000"):
        assert expected in " ".join(said.split())
    found = json.loads((runs["spiking"] / "energy.json").read_text())
    for entry in found["hardware"].values():
        for part in ("inference", "training"):
            mine = entry[part]
            for split in ("components", "layers", "phases", "groups"):
                assert sum(row["value"] for row in mine[split].values()) == pytest.approx(mine["joules"]["value"])
            assert mine["joules"]["low"] <= mine["joules"]["value"] <= mine["joules"]["high"]
    digital = found["hardware"]["horowitz-45nm-fp32"]
    assert set(digital["training"]["components"]) == {"layers", "HopAttn", "x w1", "loading", "learning"}
    truenorth = found["hardware"]["truenorth"]
    assert truenorth["dense_over_this"]["training"] is None and "cannot learn" in truenorth["verdict"]
    with (runs["spiking"] / "energy.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if (row["hardware"], row["part"]) == ("loihi", "inference")]
    assert sum(float(row["joules"]) for row in rows) == pytest.approx(
        found["hardware"]["loihi"]["inference"]["joules"]["value"]
    )
    assert all((runs["spiking"] / name).stat().st_size > 1000 for name in ("energy.svg", "energy-break-even.svg"))


def test_it_begins_with_its_verdict_and_fits_a_terminal(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for backend in ("spiking", "dense"):
        command("energy", runs[backend])
        out, err = capsys.readouterr()
        lines = out.splitlines()
        assert len(lines) + len(err.splitlines()) <= 40 and max(map(len, lines)) <= 80
        found = json.loads((runs[backend] / "energy.json").read_text())
        assert lines[0].startswith(
            f"An inference takes {text_of(found['hardware'][FP32.name]['inference']['joules']['value'])}"
        )
        verdict = " ".join(out[: out.index("\n\n")].split())
        bag = next(row for row in found["baselines"] if "TF-IDF" in row["name"])
        assert f"{bag['name'].replace(',', ' on', 1)}: {text_of(bag['joules']['value'])} an inference" in verdict
        right = json.loads((runs[backend] / "result.json").read_text())["baseline"]["test_accuracy"]
        assert f"with {right:.2%} right" in verdict
        for entry in found["hardware"].values():
            assert sum(line.startswith(entry["title"] + "  ") for line in lines) == 1


def test_spiking_costs_as_much_as_dense_at_the_break_even_rate(runs: dict[str, Path]) -> None:
    """Events scaled from the rate that was to the break-even rate make the two sums equal."""
    found = report.energy(runs["spiking"], [FP32], None, None)
    entry = found["hardware"]["horowitz-45nm-fp32"]
    ledger = open_run(runs["spiking"]).ledgers.inference
    factor = entry["break_even_spikes_per_synapse"]["inference"] / found["spikes_per_synapse"]["inference"]
    prices = FP32.prices
    extra = 0.0
    for layer in (
        "s1",
        "s2",
        "s3",
    ):  # mini has one hidden layer; each event: an addition, a fetch, a sum read and written
        row = ledger.counts[layer]["free"]
        each = sum(prices[kind].value for kind in ("accumulates", "weight_reads", "state_reads", "state_writes"))
        extra += (factor - 1) * (row["synaptic_events"] * each + row["spikes"] * prices["spikes"].value)
    scaled = entry["inference"]["joules"]["value"] + extra * 1e-12 / ledger.samples["free"]
    assert scaled == pytest.approx(entry["dense"]["inference"]["joules"]["value"])


def test_against_a_dense_run_and_of_one(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    found = report.energy(runs["spiking"], [FP32], runs["dense"], None)
    ledger = open_run(runs["dense"]).ledgers.inference
    expected = total(price(ledger, FP32)).value / ledger.samples["free"]
    entry = found["hardware"]["horowitz-45nm-fp32"]
    assert entry["dense"]["inference"]["joules"]["value"] == pytest.approx(expected)
    command("energy", runs["dense"])
    assert "break-even" not in capsys.readouterr().out
    for subject, against in (("dense", "spiking"), ("spiking", "spiking"), ("dense", "dense")):
        with pytest.raises(ConfigError, match="expected a spiking run and then a dense one"):
            report.energy(runs[subject], [], runs[against], None)


def test_a_table_of_ones_own_by_path(runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "own.toml", {**table(), "name": "horowitz-45nm-fp16"})  # a name that is taken already
    command("energy", runs["spiking"], "--hardware", path)
    with (runs["spiking"] / "energy.csv").open() as file:
        joules = sum(float(row["joules"]) for row in csv.DictReader(file) if row["part"] == "inference")
    found = json.loads((runs["spiking"] / "energy.json").read_text())["hardware"]["horowitz-45nm-fp16"]
    assert joules == pytest.approx(found["inference"]["joules"]["value"]) and found["title"] == "Mine"
    for arguments, says in (
        (("--hardware", path, "horowitz-45nm-fp16"), "given twice"),
        (("--hardware",), "got nothing"),
        (("--hardware", "x" * 400), "expected one of"),
        (("--classifiers", tmp_path / "none.json"), "no none.json"),
    ):
        with pytest.raises(SystemExit) as stop:
            command("energy", runs["spiking"], *arguments)
        assert stop.value.code == 2 and says in capsys.readouterr().err


def test_cheap_classifiers_by_hand(runs: dict[str, Path], tmp_path: Path) -> None:
    scores = tmp_path / "scores.json"
    scores.write_text(json.dumps({"tfidf_logistic": {"test_accuracy": 0.7}}))
    bag, mean = report.energy(runs["spiking"], [], None, scores)["baselines"][-2:]
    ledger = open_run(runs["spiking"]).ledgers.inference
    texts, row = ledger.samples["free"], ledger.counts["input"]["free"]
    tokens = row["lookup_reads"] / 32 / texts  # D = 32
    prices = read_table("horowitz-45nm-fp32").prices
    ngrams = 2 * (4 * prices["multiply_accumulates"].value + 3 * prices["weight_reads"].value)  # 2 a token, 2 classes
    each = ngrams + 4 * prices["io_bytes"].value
    assert bag["joules"]["value"] == pytest.approx((tokens * each + prices["io_bytes"].value) * 1e-12)
    assert bag["test_accuracy"] == 0.7 and mean["test_accuracy"] is None


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("ledger.json", None, "has no ledger.json"),
        ("ledger.json", "{", "cannot be read"),
        ("ledger.json", "[]", "got list"),
        (
            "ledger.json",
            '{"inference": {"counts": {}}}',
            "cannot be read: inference: samples: Field required",
        ),
        ("ledger.json", '{"inference": {"counts": {"s1": {"free": {"spikes": -1}}}}}', "greater than or equal to 0"),
        (
            "ledger.json",
            '{"inference": {"counts": {}, "samples": {"free": 0}, "steps": {}, "synapses": {}, "sizes": []}}',
            "lacks kinds",
        ),
        ("result.json", None, "has no result.json"),
        ("result.json", "[]", "not a run of eqspike"),
    ],
)
def test_runs_without_a_ledger_are_refused(
    runs: dict[str, Path], tmp_path: Path, name: str, content: str | None, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "run"
    shutil.copytree(runs["spiking"], broken)
    (broken / name).unlink()
    if content is not None:
        (broken / name).write_text(content)
    with pytest.raises(SystemExit) as stop:
        command("energy", broken)
    assert stop.value.code == 2 and says in capsys.readouterr().err


def test_another_networks_dense_run_is_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(runs["dense"], other)
    ledger = json.loads((other / "ledger.json").read_text())
    ledger["inference"]["sizes"] = [1, 2, 3]
    (other / "ledger.json").write_text(json.dumps(ledger))
    with pytest.raises(ConfigError, match=r"layers of \[1, 2, 3\] units, expected"):
        report.energy(runs["spiking"], [], other, None)
    settings = (other / "config.toml").read_text()
    (other / "config.toml").write_text(settings.replace("attention = true", "attention = false"))
    with pytest.raises(ConfigError, match="has attention False, expected True"):
        report.energy(runs["spiking"], [], other, None)


def test_units_that_fit_and_pictures_that_repeat(runs: dict[str, Path], tmp_path: Path) -> None:
    assert [text_of(j) for j in (2.0, 3.21e-3, 5e-7, 0.0, 4e-13, 9.999e-4, 1.5e4)] == [
        "2 J",
        "3.21 mJ",
        "500 nJ",
        "0",
        "0.4 pJ",
        "1 mJ",
        "15 kJ",
    ]
    found = report.energy(runs["spiking"], [read_table("loihi"), read_table("horowitz-45nm-fp16")], None, None)
    once, again = draw(found, tmp_path / "a"), draw(found, tmp_path / "b")
    assert [path.read_bytes() for path in once] == [path.read_bytes() for path in again]
