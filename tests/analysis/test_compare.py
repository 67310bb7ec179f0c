"""``eqspike compare``: statistics against known values, folders of all sorts, files that repeat."""

import json
import math
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.comparison import compare, interval, mcnemar, reference, seeds
from analysis.folders import Run, groups, open_run, open_runs
from analysis.pictures import SIDE_BY_SIDE, draw_all, front
from eqspike_seq.errors import ConfigError
from eqspike_seq.runs.schema import Result
from neuromorphic.pricing import read_table
from tests.conftest import command

RESULTS = Path(__file__).parents[2] / "results"

TABLE = "horowitz-45nm-fp32"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A dense run, and a spiking one with two seeds."""
    place, made = tmp_path_factory.mktemp("runs"), []
    for name, flags in (
        ("dense", ["--backend", "dense"]),
        ("seed0", ["--backend", "spiking", "--neuron", "sigma-delta"]),
        ("seed1", ["--backend", "spiking", "--neuron", "sigma-delta", "--seed", "1"]),
    ):
        made.append(place / name)
        command("run", "mini", "--limit", 120, "--epochs", 2, *flags, "--out", made[-1])
    return made


def test_interval_is_wilsons() -> None:
    """p ± … in closed form; 0 of n is not certainty."""
    right, texts, z = 45, 60, 1.959963984540054
    p = right / texts
    middle = (p + z * z / (2 * texts)) / (1 + z * z / texts)
    half = z / (1 + z * z / texts) * math.sqrt(p * (1 - p) / texts + z * z / (4 * texts * texts))
    assert interval(right, texts) == pytest.approx((middle - half, middle + half), abs=1e-9)
    assert interval(0, 60)[0] == 0 and interval(0, 60)[1] > 0.05


def made_up(place: Path, predicted: list[int]) -> Run:
    place.mkdir()
    columns = {"text_sha256": [f"{i}" for i in range(10)], "label": [1] * 10, "predicted": predicted}
    pq.write_table(pa.table(columns), place / "predictions.parquet")
    return Run(place, {}, Result.model_construct(n_test=10), [])


def test_mcnemar_counts_the_texts_on_which_two_runs_differ(tmp_path: Path) -> None:
    one, other = made_up(tmp_path / "a", [1] * 6 + [0] * 4), made_up(tmp_path / "b", [0] * 6 + [1] + [0] * 3)
    only, lost, p = mcnemar(one, other) or (0, 0, 0.0)
    assert (only, lost) == (6, 1)
    assert p == pytest.approx(2 * (math.comb(7, 0) + math.comb(7, 1)) / 2**7)
    assert mcnemar(one, one) == (0, 0, 1.0)


def test_gap_and_test_are_to_the_dense_run_of_the_same_data(folders: list[Path]) -> None:
    runs, left_out = open_runs(folders)
    assert not left_out
    dense, spiking, _ = compare(runs, read_table(TABLE))
    assert dense.against is None and spiking.against is runs[0] and spiking.test is not None
    only, lost, _ = spiking.test
    gap = spiking.record()["points_to_dense"]
    assert gap == pytest.approx(100 * (only - lost) / runs[0].result.n_test)
    assert reference(runs[1], runs[1:]) is None


def test_seeds_of_the_same_settings_are_one_group(folders: list[Path]) -> None:
    runs, _ = open_runs(folders)
    assert [[run.name for run in group] for group in groups(runs)] == [["dense"], ["seed0", "seed1"]]
    both = [run.result.test_accuracy for run in runs[1:]]
    row = seeds(runs)[1]
    assert row["seeds"] == 2 and row["mean"] == pytest.approx(sum(both) / 2)
    assert row["standard_deviation"] == pytest.approx(abs(both[0] - both[1]) / math.sqrt(2))


def test_the_front_leaves_out_what_takes_more_and_is_not_better() -> None:
    assert front([(3, 90), (1, 80), (2, 79), (4, 90), (5, 95)]) == [(1, 80), (3, 90), (5, 95)]


def test_same_runs_same_files(folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for out in ("once", "again"):
        command("compare", *folders, "--out", tmp_path / out)
    assert "±" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "once").iterdir())
    assert len(names) == 2 + 2 * (len(SIDE_BY_SIDE) + 2)
    assert {"raster.svg", "attention.csv"} <= set(names)
    for name in names:
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    records = json.loads((tmp_path / "once" / "comparison.json").read_text())["runs"]
    assert [record["run"] for record in records] == ["dense", "seed0", "seed1"]
    assert records[1]["joules_inference"] > 0


def test_bad_folders_are_named_and_left_out(folders: list[Path], tmp_path: Path) -> None:
    made = {}
    for name in ("broken", "newer", "partial", "foreign", "unfinished", "pruned"):
        made[name] = tmp_path / name
        shutil.copytree(folders[0], made[name])
    result = json.loads((folders[0] / "result.json").read_text())
    (made["broken"] / "result.json").write_text("{")
    (made["newer"] / "result.json").write_text(json.dumps({**result, "format": 99}))
    (made["partial"] / "config.toml").unlink()
    (made["foreign"] / "result.json").write_text('{"answer": 42}')
    (made["unfinished"] / "result.json").write_text(json.dumps({**result, "complete": False}))
    for name in ("ledger.json", "samples.npz", "curves.json", "predictions.parquet"):
        (made["pruned"] / name).unlink()  # less to show, still a run
    runs, left_out = open_runs([*made.values(), tmp_path / "nowhere", folders[1]])
    assert [run.name for run in runs] == ["pruned", "seed0"]
    for reason, says in zip(
        left_out,
        ("cannot be read", "newer eqspike", "no config.toml", "not a run", "has not ended", "no result.json"),
        strict=True,
    ):
        assert says in reason
    assert compare(runs, read_table(TABLE))[0].joules is None
    assert len(list(draw_all(runs, read_table(TABLE)))) == len(SIDE_BY_SIDE) + 2
    with pytest.raises(ConfigError, match="no finished run"):
        open_run(tmp_path)


def test_nothing_to_compare_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        command("compare", tmp_path)
    assert stop.value.code == 2 and "none of the folders given holds a finished run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "expected"),
    [(1, ("88.9 ± 0.3", "(published)")), (2, ("180000-1000-40-2", "1280-64-2")), (3, ("7 GB", "cpu"))],
)
def test_tables_of_the_paper_hold_its_rows_and_ours(
    number: int,
    expected: tuple[str, ...],
    folders: list[Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "240")
    command("table", number, *folders)
    said = capsys.readouterr().out
    assert all(text in said for text in expected)
    if number == 1:
        values = [100 * open_run(path).result.test_accuracy for path in folders[1:]]
        assert f"{sum(values) / 2:.2f} ± {abs(values[0] - values[1]) / math.sqrt(2):.2f}" in said


def test_there_is_no_table_4(folders: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        command("table", 4, *folders)
    assert stop.value.code == 2 and "expected 1, 2 or 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("run", "label"),
    [
        ("snli-words-seed0", "dense EP, token layer"),
        ("snli-words-both-seed0", "dense EP, token layer, both directions"),
        ("snli-dense-without-aa-seed0", "dense EP, without aa"),
    ],
)
def test_a_label_says_which_texts_of_a_pair_search(run: str, label: str) -> None:
    assert open_run(RESULTS / run).label == label
