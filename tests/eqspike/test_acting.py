"""A setting that is given acts, or is refused by name."""

import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from eqspike.build import config_of, configure, make_backend
from eqspike.classifier import EqSpikeClassifier
from eqspike.flags import everything, parse_run
from eqspike_seq.checks.bptt import plain
from eqspike_seq.config.section import flat, names_in
from eqspike_seq.data.batches import random_batch
from eqspike_seq.data.dataset import Dataset, load_dataset, shape_of
from eqspike_seq.errors import ConfigError
from eqspike_seq.learning.estimators import make_estimator
from tests.conftest import command

ROOT = Path(__file__).parents[2]
CHANGES = {"backend": "spiking", "neuron": "sigma-delta"}
POOLING = {"backend": "dense", "network": "pooling"}
TOKEN_LAYER = {"network": "token-layer"}
OTHERS: dict[str, Any] = {  # another value of each setting whose effect a gradient of one batch can show
    "tokens": 20,
    "keep": "head",
    "min_count": 30,
    "dim": 8,
    "embeddings": "word2vec",
    "attention": False,
    "recall": 0.5,
    "network": "pooling",
    "ngrams": 1,
    "min_texts": 4,
    "start_scale": 0.5,
    "naive_bayes": 0.5,
    "naive_bayes_copies": 2,
    "smoothing": 3.0,
    "queries": 3,
    "temperature": 2.0,
    "fixed_embeddings": True,
    "uniform_attention": True,
    "readout": "softmax",
    "masked": False,
    "bptt_steps": 1,
    "order": "synchronous",
    "neuron": "lif",
    "circuit": "wta",
    "rule": "count",
    "sampler": "iid",
    "winners": 8,
    "query_threshold": 0.25,
    "query_nudge_threshold": 0.1,
    "pattern_nudge_threshold": 0.02,
    "attention_threshold": 2.0,
    "top_patterns": 2,
    "window": 40,
    "tick_steps": 10,
    "feedback_tau": 5.0,
    "output_tau": 3.0,
    "trace_tau": 10.0,
    "membrane_tau": 8.0,
    "refractory": 2,
    "reset": "hard",
    "common_noise": False,
    "threshold": (0.2,),
    "projection_threshold": 0.2,
    "origin": (0.2,),
    "deadband": 0.8,
    "output_threshold": 0.2,
    "nudge_threshold": 0.1,
    "projection_nudge_threshold": 0.3,
    "compared": 5,
    "token_threshold": 0.1,
    "token_nudge_threshold": 0.05,
    "feedback_rule": "exact",
}
UNSEEN = {  # act on what is read, kept or counted, which other tests look at
    "baseline",
    "class_names",
    "data_dir",
    "device_model",
    "device_seed",
    "events",
    "label_column",
    "learns",
    "patience",
    "pattern_rate",
    "precision",
    "projections",
    "start",
    "strict",
    "text_column",
    "tokeniser",
    "trust_pickle",
    "workers",
}
EVERYWHERE = {  # part of every run, and looked at by other tests
    *("preset", "seed", "device", "out", "resume", "checkpoint_every", "tensorboard", "dataset", "limit"),
    *("hidden", "bias", "gain", "estimator", "beta", "batch", "epochs", "word_dropout", "optimizer", "learning_rate"),
    *("backend", "free_steps", "nudge_steps", "tolerance"),
    "shuffle_words",
}
CONTEXTS: dict[str, tuple[str, dict[str, Any]]] = {
    "dense": ("mini", {"backend": "dense"}),
    "dense without attention": ("mini", {"backend": "dense", "attention": False}),
    "bptt": ("mini", {"backend": "dense", "estimator": "bptt"}),
    "queries": ("mini", POOLING),
    "pooling, no ratios": ("mini", {**POOLING, "naive_bayes": 0.0}),
    "token layer": ("mini", {"backend": "dense", **TOKEN_LAYER}),
    "images": ("digits", {"backend": "dense"}),
    "images, on a chip": ("digits", {"backend": "dense", "device_model": "cmos-mismatch"}),
    "rates": ("mini", {"backend": "spiking"}),
    "rates, count": ("mini", {"backend": "spiking", "rule": "count"}),
    "lif": ("mini", {"backend": "spiking", "neuron": "lif"}),
    "bernoulli": ("mini", {"backend": "spiking", "neuron": "bernoulli"}),
    "rates, wta": ("mini", {"backend": "spiking", "circuit": "wta"}),
    "rates, images": ("digits", {"backend": "spiking"}),
    "changes": ("mini", CHANGES),
    "changes, query": ("mini", {**CHANGES, "query_threshold": 0.5}),
    "changes, wta": ("mini", {**CHANGES, "circuit": "wta"}),
    "changes without attention": ("mini", {**CHANGES, "attention": False}),
    "changes, images": ("digits", CHANGES),
    "token layer, changes": ("mini", {**CHANGES, **TOKEN_LAYER}),
}


@cache
def data_of(dataset: str, **settings: Any) -> Dataset:
    return load_dataset(configure(dataset, "dense", limit=24, **settings).data)


def gradient(dataset: str, settings: dict[str, Any]) -> dict[str, torch.Tensor]:
    """That of the first batch at the start of training, with weights that make hidden units differ."""
    small = {"free_steps": 40, "nudge_steps": 40, "window": 20, "hidden": (6,)}
    small = small if settings["backend"] == "spiking" and settings.get("neuron") != "sigma-delta" else {"hidden": (6,)}
    if dataset != "digits":
        small |= {"dim": 6} | ({} if settings.get("network") == "pooling" else {"tokens": 24})
    config = configure(dataset, **{**small, **settings})
    kept = ("network", "dim", "min_count", "embeddings", "ngrams", "min_texts", "start_scale", "smoothing")
    kept += ("naive_bayes", "naive_bayes_copies")
    data = data_of(dataset, **{name: value for name, value in config.settings().items() if name in kept})
    network = replace(config.network, gain=4.0).create(shape_of(config, data), seed=0)
    batch = random_batch(config, data, 4)
    with torch.no_grad():
        return plain(make_estimator(config.learning)(make_backend(config), network, batch).gradients)


@pytest.mark.parametrize("context", CONTEXTS)
def test_what_does_not_act_cannot_be_said(context: str) -> None:
    dataset, settings = CONTEXTS[context]
    acting = flat(configure(dataset, **settings))
    idle = {name: value for name, value in OTHERS.items() if name not in acting and name not in settings}
    assert idle
    for name, value in idle.items():
        with pytest.raises(ConfigError, match=f"--(no-)?{name.replace('_', '-')}.*: acts with"):
            configure(dataset, **settings, **{name: value})
    assert not set(idle) & set(configure(dataset, **settings).settings())


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_each_setting_acts_somewhere(name: str) -> None:
    for dataset, settings in CONTEXTS.values():
        if name not in flat(configure(dataset, **settings)) or settings.get(name) == OTHERS[name]:
            continue
        before, after = gradient(dataset, settings), gradient(dataset, {**settings, name: OTHERS[name]})
        same = set(before) == set(after) and all(torch.equal(before[key], after[key]) for key in before)
        if not same:
            return
    pytest.fail(f"{name} changes nothing where it is said to act")


@pytest.mark.parametrize("context", CONTEXTS)
def test_no_name_means_two_things_in_one_run(context: str) -> None:
    dataset, settings = CONTEXTS[context]
    names = names_in(configure(dataset, **settings))
    assert len(names) == len(set(names))


def test_each_setting_is_looked_at() -> None:
    assert set(everything()) == set(OTHERS) | UNSEEN | EVERYWHERE


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            "mini --neuron sigma-delta",
            "--neuron sigma-delta: acts with --backend spiking only; got --backend dense. "
            "Add --backend spiking or leave it out.",
        ),
        ("mini --rule=count", "--rule count: acts with --backend spiking only; got --backend dense"),
        ("mini --circuit wta", "--circuit wta: acts with --backend spiking only; got --backend dense"),
        (
            "mini --threshold 0.5",
            "acts with --backend spiking --neuron sigma-delta only; got --backend dense. "
            "Add --backend spiking --neuron sigma-delta or leave it out.",
        ),
        (
            "mini --backend spiking --neuron sigma-delta --window 40",
            "--window 40: acts with a --neuron other than sigma-delta or --backend brian2 only; "
            "got --neuron sigma-delta, --backend spiking. Leave it out.",
        ),
        (
            "mini --backend spiking --neuron sigma-delta --winners 8",
            "--winners 8: acts with --neuron sigma-delta --circuit wta only; "
            "got --neuron sigma-delta, --circuit clocked",
        ),
        ("mini --backend spiking --order synchronous", "--order synchronous: acts with --backend dense only"),
        ("mini --bptt-steps 5", "--bptt-steps 5: acts with --estimator bptt only; got --estimator three-phase"),
        ("mini --backend spiking --membrane_tau 9", "--membrane-tau 9: acts with --neuron lif only; got --neuron if"),
        ("mini --backend spiking --no-common-noise", "--no-common-noise: acts with --neuron bernoulli only"),
        ("mini --backend spiking --rule count --trace-tau 9", "acts with --rule trace or eqspike only"),
        ("mini --backend spiking --no-attention --circuit wta", "--circuit wta: acts with --attention only"),
        (
            "mini --backend brian2 --precision float32",
            "acts with --backend dense or spiking only; got --backend brian2",
        ),
        ("mini --workers 3", "--workers 3: acts with --embeddings word2vec only; got --embeddings random"),
        ("mini --trust-pickle", "--trust-pickle: acts with --embeddings FILE.kv only"),
        ("mini --projections aa ab ba bb", "acts with pairs of texts only; got mini. Leave it out."),
        ("mini --label-column label", "acts with a file or folder of your own only; got mini"),
        ("mini --data-dir somewhere", "acts with a data set that is looked for only; got mini"),
        ("digits --min-count 2", "--min-count 2: acts with texts only; got digits"),
        (
            "mini --ngrams 3",
            "--ngrams 3: acts with --network pooling only; got --network tokens. Add --network pooling",
        ),
        (
            "mini --network pooling --tokens 9",
            "--tokens 9: acts with --network tokens or token-layer only; got --network pooling",
        ),
        ("mini --compared 9", "--compared 9: acts with --network token-layer only; got --network tokens"),
        ("mini --network pooling --naive-bayes 0 --smoothing 2", "acts with --naive-bayes above 0 only"),
        (
            "mini --network pooling --fixed-embeddings --pattern-rate 1",
            "acts with --network pooling or token-layer, without --fixed-embeddings only",
        ),
        ("digits --network pooling", "--network pooling: acts with texts only; got digits"),
        ("digits --no-attention", "--no-attention: acts with texts only; got digits"),
    ],
)
def test_a_flag_without_effect_is_refused(line: str, says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        parse_run(line.split())


def test_sizes_chosen_from_texts_of_ones_own_count(tmp_path: Path) -> None:
    """Few of them get random vectors, whose making has no threads."""
    file = tmp_path / "mine.csv"
    file.write_text("text,label\n" + "".join(f"text {i},{i % 2}\n" for i in range(40)))
    with pytest.raises(ConfigError, match="--workers 2: acts with --embeddings word2vec only; got --embeddings random"):
        parse_run([str(file), "--workers", "2"])
    assert parse_run([str(file), "--workers", "2", "--embeddings", "word2vec"]).settings()["workers"] == 2


def test_all_of_them_are_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"--winners .*\n--order"):
        parse_run("mini --backend spiking --winners 8 --order synchronous".split())


@pytest.mark.parametrize(
    "line",
    [
        "mini --backend spiking --neuron sigma-delta --circuit wta --winners 8 --pattern-nudge-threshold 1e-3",
        "mini --backend spiking --rule trace --trace-tau 100 --window 80 --common-noise --neuron bernoulli",
        "mini --backend brian2 --window 80 --tick-steps 10",
        "mini --estimator bptt --bptt-steps 5 --order synchronous --beta 0.2",
        "mini --embeddings word2vec --workers 2 --dim 16",
        "snli --projections ab ba",
        "imdb --data-dir somewhere",
    ],
)
def test_flags_that_act_are_taken(line: str) -> None:
    parse_run(line.split())


def test_a_file_by_hand_is_held_to_it_and_that_of_a_run_is_not(tmp_path: Path) -> None:
    hand, saved = tmp_path / "mine.toml", tmp_path / "config.toml"
    hand.write_text("rule = 'count'\n")
    saved.write_bytes(configure("mini", "dense").to_toml())
    with pytest.raises(ConfigError, match="--rule count: acts with --backend spiking only"):
        parse_run(["mini", "--config", str(hand)])
    assert parse_run(["mini", "--backend", "spiking", "--config", str(hand)]).settings()["rule"] == "count"
    assert parse_run(["--config", str(saved)]) == config_of(tmp_path)
    with pytest.raises(ConfigError, match="--neuron lif"):  # a flag over it is
        parse_run(["--config", str(saved), "--neuron", "lif"])
    hand.write_text("out = 'here'\n")
    with pytest.raises(ConfigError, match="'out', which acts on the command line only"):
        parse_run(["mini", "--config", str(hand)])


def test_two_sources_of_all_settings_are_one_too_many(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(configure("mini", "dense").to_toml())
    with pytest.raises(ConfigError, match="--config: got it with --resume"):
        parse_run(["mini", "--resume", str(tmp_path), "--config", str(tmp_path / "config.toml")])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--vary", "winners=8,16"), "--winners 8: acts with --backend spiking"),
        (("--vary", "neuron=if,lif", "--backend", "spiking", "--membrane-tau", "9"), "--membrane-tau 9"),
        (("--vary", "beta=0.1,0.2", "--trials", "3"), "--trials"),
        (("--vary", "beta=0.1,0.2", "--beta", "0.3"), "--beta"),
        (("--vary", "beta=0.1,0.2", "--seeds", "1", "2", "--seed", "3"), "--seed"),
        (("--vary", "beta=0.1,0.2", "--resume", "auto"), "--resume"),
    ],
)
def test_a_sweep_is_held_to_it(
    arguments: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        command("sweep", "mini", *arguments, "--out", tmp_path / "s")
    said = capsys.readouterr()
    assert end.value.code == 2 and says in said.err and not (tmp_path / "s").exists()


def test_a_flag_may_act_with_what_is_varied_only(tmp_path: Path) -> None:
    """digits learns by --rule membrane, which has no trace."""
    small = ("--backend", "spiking", "--limit", "40", "--epochs", "1", "--hidden", "8")
    command("sweep", "digits", *small, "--trace-tau", "90", "--vary", "rule=trace,eqspike", "--out", tmp_path / "s")
    assert len(list((tmp_path / "s").glob("trial*/result.json"))) == 2


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"backend": "dense", "neuron": "if"}, "--neuron if: acts with --backend spiking only"),
        ({"settings": {"winners": 8}}, "--winners 8"),
        ({"backend": "dense", "settings": {"window": 40}}, "--window 40"),
        ({"settings": {"device": "cuda"}}, "device, which apply to `eqspike run` only"),
        ({"settings": {"shuffle_words": True}}, "shuffle_words"),
    ],
)
def test_the_classifier_is_held_to_it(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        EqSpikeClassifier(**given).fit(["one word", "another"], [0, 1])


def test_checks_are_held_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command("check", "gradients", "--dataset", "mini", "--winners", "8")
    assert end.value.code == 2 and "--winners 8: acts with" in capsys.readouterr().err


def documented() -> Iterator[tuple[str, str]]:
    """(page, command) of every `eqspike run` in the documentation, in blocks and in sentences."""
    for page in sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]):
        text = page.read_text()
        blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        lines = [line.split("#")[0] for block in blocks for line in block.splitlines()]
        spoken = [" ".join(code.split()) for code in re.findall(r"`(eqspike run [^`]+)`", text)]
        for line in itertools.chain(lines, spoken):
            if (found := re.search(r"eqspike run (.*)", line)) and not re.search(r"[A-Z]{3}|…|--help|jitter", found[1]):
                yield page.name, found[1].strip()


def test_commands_of_the_documentation_are_held_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reviews.csv").write_text("text,label\n" + "".join(f"text {i},{i % 2}\n" for i in range(20)))
    pairs = "".join(f"claim {i},evidence {i},{i % 2}\n" for i in range(20))
    (tmp_path / "pairs.csv").write_text("claim,evidence,label\n" + pairs)
    (tmp_path / "topics").mkdir()
    monkeypatch.chdir(tmp_path)
    commands = sorted(set(documented()))
    assert len(commands) > 40
    for page, line in commands:
        arguments = shlex.split(line)
        if "topics" not in arguments:  # a data set that a page shows how to add
            assert parse_run(arguments), page


def test_presets_are_not_held_to_it() -> None:
    """paper-small has a threshold for queries that are sent as spikes, which rate codes do not send."""
    assert "query_threshold" not in configure("imdb", "spiking", "paper-small", circuit="wta").settings()
    changes = configure("imdb", "spiking", "paper-small", neuron="sigma-delta", circuit="wta")
    assert changes.settings()["query_threshold"] == 0.5
