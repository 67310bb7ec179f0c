"""Answers of a finished run: those of its own test, a line each, from its folder alone."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file

from eqspike.build import configure, run
from eqspike.commands.predict import PredictFlags, as_json, as_line, costs, explained, lines, main, texts
from eqspike.prediction import Predictor
from eqspike_seq.data.dataset import load_dataset
from eqspike_seq.errors import DataError, EqspikeError, RunError
from eqspike_seq.progress import Reporter
from neuromorphic.pricing import price, read_table, total
from tests.eqspike_seq.test_runs import small

KINDS = {
    "dense": {},
    "if": {"backend": "spiking"},
    "sigma-delta": {"backend": "spiking", "neuron": "sigma-delta", "rule": "count"},
    "no-attention": {"attention": False},
}
TEXTS = ("it is not at all dull", "", "zebra", "the plot was superb and the zebra was moving")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each kind of run, trained in float32 as predictions are made."""
    place = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EQSPIKE_CACHE", str(place / "cache"))
        for name, settings in KINDS.items():
            run(small(place / name, **{"precision": "float32", **settings}), Reporter(quiet=True))
    return {name: place / name for name in KINDS}


@pytest.mark.parametrize("neuron", [{}, {"backend": "spiking"}], ids=["dense", "sigma-delta"])
def test_texts_together_are_answered_as_each_by_itself(tmp_path: Path, neuron: dict[str, Any]) -> None:
    pooling: dict[str, Any] = {"network": "pooling", "embeddings": "random", "dim": 8, "min_texts": 1, "epochs": 1}
    config = configure("mini", neuron.get("backend", "dense"), limit=40, out=tmp_path / "run", **pooling)
    run(config, Reporter(quiet=True))
    predictor = Predictor.open(tmp_path / "run")
    asked = [(text,) for text in (*load_dataset(config.data).test_texts[:20], *TEXTS)]
    together, price_of = predictor.predict_all(asked), read_table("loihi")
    for text, found in zip(asked, together, strict=True):
        alone = predictor.predict(*text)
        np.testing.assert_allclose(list(found.rates.values()), list(alone.rates.values()), rtol=0, atol=1e-5)
        assert replace(found, rates={}) == replace(alone, rates={})
        assert found.ledger == alone.ledger
        if found.read:
            batch = predictor.backend.free(*predictor._batch(predictor._seen(text)))  # counted by the backend itself
            assert price(found.ledger, price_of) == price(batch.ledger, price_of)
    took = [(cost.spikes, cost.graded_events, cost.joules) for cost in costs(together, price_of)]
    ledgers = [found.ledger for found in together]
    sent = [(ledger.total("spikes"), ledger.total("graded_events")) for ledger in ledgers]
    assert took == [(*each, total(price(ledger, price_of))) for each, ledger in zip(sent, ledgers, strict=True)]
    assert len({found.ledger.total("exponentials") for found in together}) > 5


def test_lines_are_taken_as_they_come_and_those_before_a_bad_one_are_answered() -> None:
    class Chunks(io.BytesIO):
        given = iter([b"one\ntwo\nth", b"ree\n", b"f\xe9\nfive\n", b""])

        def read1(self, size: int | None = -1) -> bytes:
            return next(self.given)

    asked = lines(Chunks(), "name", 1, 9)
    assert next(asked) == [("one",), ("two",)]
    assert next(asked) == [("three",)]
    assert next(asked) == []
    with pytest.raises(DataError, match="name, line 4: not UTF-8"):
        next(asked)
    many = list(lines(io.BytesIO(b"a\n" * 10 + b"end"), "name", 1, 9))
    assert [len(group) for group in many] == [9, 1, 1] and many[-1] == [("end",)]


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_the_runs_own_test(runs: dict[str, Path], kind: str) -> None:
    predictor = Predictor.open(runs[kind])
    assert (predictor.single is not None) == (kind == "sigma-delta")
    data = load_dataset(predictor.config.data)
    saved = pq.read_table(runs[kind] / "predictions.parquet").to_pydict()
    found = [predictor.predict(text) for text in data.test_texts]
    assert [predictor.classes.index(str(one.label)) for one in found] == saved["predicted"]
    for name in predictor.classes:
        rates = [one.rates[name] for one in found]
        np.testing.assert_allclose(rates, saved[f"rate_{name}"], rtol=0, atol=1e-4)
    assert [one.stable_steps for one in found] == saved["stable_steps"]
    spikes = sum(one.ledger.total("spikes") for one in found)
    whole = json.loads((runs[kind] / "ledger.json").read_text())["inference"]["counts"]
    counted = sum(layer["free"]["spikes"] for layer in whole.values())
    assert spikes == pytest.approx(counted, rel=1e-4)  # a sum in another order, as a batch has, may move a spike
    assert (spikes > 0) == (kind in ("if", "sigma-delta"))
    both = found[0].ledger
    both += found[1].ledger  # of texts of different lengths: still of one network
    assert both.samples == {"free": 2}


def test_words_that_the_network_does_not_know_or_see_are_left_out(runs: dict[str, Path]) -> None:
    predictor = Predictor.open(runs["dense"])
    found = predictor.predict("The ZEBRA plot <br /> was superb", explain=True)
    assert found.words == ("the", "zebra", "plot", "was", "superb") and found.read == (0, 2, 3, 4)
    assert sum(found.attention) == pytest.approx(4, abs=1e-4) and len(found.attention) == 4
    assert predictor.predict("the plot was superb").rates == found.rates
    long = predictor.predict("dull " * 30 + "plot zebra " + "superb " * 30)
    assert long.read == (*range(20), *range(42, 62)) and long.label is not None
    for text in ("", "zebra unheard", "…\x00"):
        nothing = predictor.predict(text, explain=True)
        assert nothing.label is None and nothing.rates == {} and nothing.steps == 0 and not nothing.ledger.counts


@pytest.mark.parametrize("kind", ["dense", "if", "sigma-delta"])
def test_each_line_is_answered_by_one_json_object(
    runs: dict[str, Path], kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts").write_bytes("\r\n".join(TEXTS).encode())
    main([str(runs[kind]), "--file", str(tmp_path / "texts"), "--json", "--explain", "--hardware", "loihi"])
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["note"] for answer in answers] == [None, "no word", "unknown words only", None]
    predictor, table = Predictor.open(runs[kind]), read_table("loihi")
    for text, answer in zip(TEXTS, answers, strict=True):
        found = predictor.predict(text)
        assert (answer["label"], answer["rates"], answer["steps"]) == (found.label, found.rates, found.steps)
        assert answer["hardware"] == "loihi" and [word for word, _ in answer["attention"]] == list(found.words)
        if answer["note"]:
            assert answer["joules"] is None and answer["spikes"] == 0
        else:
            assert answer["joules"]["value"] == pytest.approx(total(price(found.ledger, table)).value)
            assert answer["label"] == max(answer["rates"], key=answer["rates"].get)
            assert 1 <= answer["stable_steps"] <= answer["steps"]
    assert answers[3]["attention"][6] == ["zebra", None] and answers[3]["words_read"] == 8


def test_a_text_on_the_command_line(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    main([str(runs["if"]), "the plot was superb", "--explain"])
    answer, cost, words, most = capsys.readouterr().out.splitlines()
    assert all(part in answer for part in ("positive", "negative", "confidence "))
    assert all(part in cost for part in ("decided after", " spikes", "J on 45 nm digital"))
    assert words.split() == ["the", "plot", "was", "superb"] and "even share" in most
    main([str(runs["if"]), "None", "zebra"])
    assert capsys.readouterr().out == "–  (unknown words only)\n" * 2


def test_each_argument_is_a_text_of_its_own(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    main([str(runs["dense"]), *TEXTS, "--json"])
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    predictor = Predictor.open(runs["dense"])
    assert [answer["rates"] for answer in answers] == [predictor.predict(text).rates for text in TEXTS]


@pytest.mark.parametrize(
    ("rates", "tie"),
    [((0.5, 0.46), True), ((0.46, 0.5), True), ((0.5, 0.44), False), ((0.0, 0.0), True), ((0.1, 0.9, 0.88), True)],
)
def test_answers_that_are_nearly_a_tie_say_so(runs: dict[str, Path], rates: tuple[float, ...], tie: bool) -> None:
    found = replace(Predictor.open(runs["dense"]).predict(TEXTS[0]), rates=dict(zip("abc", rates, strict=False)))
    (cost,) = costs([found], read_table("loihi"))
    assert as_json(found, cost, False)["nearly_a_tie"] is tie and ("nearly a tie, " in as_line(found, cost)) is tie


@pytest.mark.parametrize(
    ("text", "unknown", "mostly"),
    [
        ("plot", 0, False),
        ("zebra plot", 1, False),  # half is not most
        ("zebra plot unheard", 2, True),
        ("zebra plot zebra unheard plot zebra", 4, True),
        ("superb " * 50 + "zebra", 1, False),  # known words beyond N are left out, not unknown
        ("zebra", 1, True),
        ("", 0, False),
    ],
)
def test_texts_of_which_most_words_are_unknown_say_so(
    runs: dict[str, Path], text: str, unknown: int, mostly: bool
) -> None:
    found, table = Predictor.open(runs["dense"]).predict(text), read_table("loihi")
    (cost,) = costs([found], table)
    answer, line = as_json(found, cost, False), as_line(found, cost)
    assert (answer["words_unknown"], answer["mostly_unknown"]) == (unknown, mostly)
    assert (f"{unknown} of {len(text.split())} words unknown, " in line) == (mostly and bool(found.read))


def test_words_are_those_of_the_runs_tokeniser(runs: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(runs["dense"], tmp_path / "run")
    config = (tmp_path / "run/config.toml").read_text()
    assert 'tokeniser = "ascii"' in config
    for now, words in (("ascii", ("plot", "sch", "n")), ("unicode", ("plot", "schön"))):
        (tmp_path / "run/config.toml").write_text(config.replace('"ascii"', f'"{now}"'))
        assert Predictor.open(tmp_path / "run").predict("plot schön").words == words


def test_words_are_the_darker_the_more_attention_beyond_an_even_share_they_get(runs: dict[str, Path]) -> None:
    found = Predictor.open(runs["dense"]).predict("the zebra plot was superb", explain=True)
    shown = explained(found)
    styles = {shown.plain[span.start : span.end]: str(span.style) for span in shown.spans}
    assert styles["zebra"] == "dim" and all(f" {word} " in shown.plain for word in found.words)
    greens = {word: int(style.split("rgb(")[1].split(",")[1]) for word, style in styles.items() if "rgb" in style}
    received = dict(zip((found.words[place] for place in found.read), found.attention, strict=True))
    most = [word for word in sorted(received, key=lambda word: -received[word]) if received[word] > 1]
    assert sorted(greens, key=lambda word: greens[word]) == most and 0 < len(most) < 4


def test_standard_input_is_answered_line_by_line(runs: dict[str, Path]) -> None:
    script = "from eqspike.cli import main; main()"
    command = [sys.executable, "-c", script, "predict", str(runs["dense"]), "--json"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin and process.stdout and process.stderr
        for text in TEXTS:  # the next line is sent when the last has been answered
            process.stdin.write(text.encode() + b"\n")
            process.stdin.flush()
            assert "label" in json.loads(process.stdout.readline())
        process.stdin.write(b"caf\xe9\n")
        process.stdin.close()
        said = process.stderr.read().decode()
        assert process.wait(60) == 2 and "standard input, line 5: not UTF-8" in said and "Traceback" not in said


def test_no_more_is_read_than_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        given = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            self.given += 1
            buffer[:6] = b"a day\n"
            return 6

    source = Endless()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(source)))
    asked = texts(PredictFlags("run"), 1, 9)
    assert [next(asked) for _ in range(3)] == [[("a day",)]] * 3 and source.given == 3


def test_output_that_nobody_reads_any_more_is_no_fault(runs: dict[str, Path]) -> None:
    shell = f"yes dull | {sys.executable} -m eqspike predict {runs['dense']} | head -n 1"
    found = subprocess.run(shell, shell=True, capture_output=True, text=True, timeout=120, env=os.environ)
    assert found.stdout.count("\n") == 1 and found.stderr == ""


def test_what_cannot_be_answered_is_said(runs: dict[str, Path], tmp_path: Path) -> None:
    results = Path(__file__).parents[2] / "results"
    (tmp_path / "empty").mkdir()
    latin = tmp_path / "latin"
    latin.write_bytes(b"fine\ncaf\xe9\n")
    for arguments, says in (
        ((tmp_path / "nowhere", "text"), "no such run"),
        ((tmp_path / "empty", "text"), "no config.toml"),
        ((results / "digits-spiking-seed0", "text"), "images"),
        ((results / "mini-dense-seed0", "text"), "no vocabulary.json.*Train it again: eqspike run --config"),
        ((runs["dense"], "text", "--file", latin), "Give only one of them"),
        ((runs["dense"], "--file", tmp_path / "none"), "cannot read .*none"),
        ((runs["dense"], "--file", tmp_path), "cannot read"),
        ((runs["dense"], "--file", latin), "latin, line 2: not UTF-8"),
        ((runs["dense"], "text", "--hardware", "abacus"), "--hardware"),
        ((runs["no-attention"], "dull", "--explain"), "--no-attention"),
    ):
        with pytest.raises(EqspikeError, match=says):
            main([str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("result.json", b"{}", "has not ended"),
        ("vocabulary.json", b'{"classes": ["a", "b"], "words": ["one"]}', "1 words and vectors of shape"),
        ("vocabulary.json", b"{", "cannot be read"),
        ("vectors.safetensors", b"half", "cannot be read"),
        ("checkpoint/model.safetensors", b"half", "cannot be read"),
    ],
)
def test_damaged_folders_are_named(runs: dict[str, Path], tmp_path: Path, name: str, content: bytes, says: str) -> None:
    for file in (
        "config.toml",
        "result.json",
        "vocabulary.json",
        "vectors.safetensors",
        "checkpoint/model.safetensors",
    ):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes((runs["dense"] / file).read_bytes())
    Predictor.open(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RunError, match=says):
        Predictor.open(tmp_path)


def test_weights_of_another_network_are_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    for file in ("config.toml", "result.json", "vocabulary.json", "vectors.safetensors"):
        (tmp_path / file).write_bytes((runs["dense"] / file).read_bytes())
    weights = load_file(runs["dense"] / "checkpoint" / "model.safetensors")
    (tmp_path / "checkpoint").mkdir()
    save_file({**weights, "w1": weights["w1"][:, :3].contiguous()}, tmp_path / "checkpoint" / "model.safetensors")
    with pytest.raises(RunError, match="parameter w1"):
        Predictor.open(tmp_path)


def test_example_of_the_documentation_runs(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/predict.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    exec(example.replace("runs/spiking", str(runs["if"])), {})
    assert capsys.readouterr().out.startswith(("negative {'negative':", "positive {'negative':"))
