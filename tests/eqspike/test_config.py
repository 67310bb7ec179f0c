import tomllib
from pathlib import Path

import pytest

from eqspike.build import BACKENDS, NEURONS, config_of, configure
from eqspike.flags import everything, parse_run
from eqspike_seq.config.presets import presets
from eqspike_seq.data.registry import pixels_of
from eqspike_seq.errors import ConfigError

CHANGES = {"backend": "spiking", "neuron": "sigma-delta"}


@pytest.mark.parametrize("preset", presets())
@pytest.mark.parametrize(
    ("backend", "chosen"),
    [("dense", {}), ("brian2", {}), *(("spiking", {"neuron": neuron}) for neuron in NEURONS)],
)
def test_every_preset_parses_and_survives_its_own_file(
    preset: str, backend: str, chosen: dict[str, str], tmp_path: Path
) -> None:
    dataset = preset if pixels_of(preset) else preset.split("-")[0] if preset.startswith("snli") else "imdb"
    kind = configure(dataset, "dense", preset).network.name
    if kind == "token-layer" and backend == "brian2":
        with pytest.raises(ConfigError, match="--backend brian2: it has no token layer. Take --network tokens"):
            configure(dataset, backend, preset, **chosen)
        return
    config = configure(dataset, backend, preset, **chosen)
    (tmp_path / "config.toml").write_bytes(config.to_toml())
    assert config_of(tmp_path) == config
    assert tomllib.loads(config.to_toml().decode())["format"] == 2


def test_a_run_saves_what_acts_and_nothing_else() -> None:
    dense, changes = (configure("imdb", "dense"), configure("imdb", "spiking", neuron="sigma-delta"))
    assert not {"neuron", "window", "threshold", "projections", "bptt_steps"} & set(dense.settings())
    assert not {"window", "order", "membrane_tau", "sampler"} & set(changes.settings())
    assert len(dense.to_toml().splitlines()) < 60  # 84 when every setting was saved


def test_paper_preset_is_the_papers() -> None:
    config = configure("imdb", "dense", "paper")
    assert (config.data.rows, config.settings()["dim"], config.network.hidden, config.learning.beta) == (
        600,
        300,
        (1000, 40),
        0.1,
    )
    assert (config.backend.free_steps, config.backend.nudge_steps, config.learning.batch, config.learning.epochs) == (
        50,
        25,
        128,
        40,
    )
    assert config.learning.learning_rate == (1e-4, 5e-5, 5e-5, 5e-5)
    config = configure("snli", "dense", "snli-paper")
    assert (config.data.rows, config.settings()["dim"], config.network.hidden, config.learning.beta) == (
        25,
        300,
        (400,),
        0.5,
    )
    assert (config.backend.free_steps, config.backend.nudge_steps, config.learning.batch, config.learning.epochs) == (
        60,
        30,
        256,
        50,
    )
    assert config.learning.learning_rate == (5e-4, 2e-4, 2e-4) and len(config.network.layout) == 4


def test_flags_override_the_file_and_the_file_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("beta = 0.3\nepochs = 2\n")
    config = parse_run(["imdb", "--network", "tokens", "--config", str(file), "--epochs", "7", "--hidden", "12", "5"])
    assert (config.learning.beta, config.learning.epochs, config.network.hidden, config.data.rows) == (
        0.3,
        7,
        (12, 5),
        256,
    )
    assert parse_run(["--beta", "0.2", "mini"]).data.rows == 40
    assert config.run.preset == "paper-small"
    assert {parse_run(["imdb", "--backend", name]).run.preset for name in BACKENDS} == {"imdb"}
    assert parse_run(["mini", "--backend", "spiking"]).run.preset == "mini"


def test_paths_hold_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = configure("imdb", embeddings="mine/vectors.npz", data_dir=Path("data")).settings()
    assert settings["embeddings"] == str(tmp_path / "mine/vectors.npz") and settings["data_dir"] == str(
        tmp_path / "data"
    )
    names = ("word2vec", "random", "google-news")
    assert [configure("mini", embeddings=name).settings()["embeddings"] for name in names] == list(names)


def test_a_neuron_has_its_own_part_of_a_preset() -> None:
    config = parse_run(["mini", "--backend", "spiking", "--neuron", "sigma-delta"])
    assert config.settings()["neuron"] == "sigma-delta" and config.backend.free_steps == 12
    assert parse_run(["mini", "--backend", "spiking"]).backend.free_steps == 100
    assert (
        parse_run(["mini", "--backend", "spiking", "--neuron=sigma-delta", "--free-steps", "9"]).backend.free_steps == 9
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"beta": 0.0}, "--beta"),
        ({"free_steps": 0}, "--free-steps"),
        ({"nudge_steps": 0}, "--nudge-steps"),
        ({"network": "tokens", "tokens": 0}, "--tokens"),
        ({"network": "graph"}, "--network: got 'graph', expected one of tokens, pooling"),
        ({"queries": 0}, "--queries"),
        ({**CHANGES, "readout": "softmax"}, "--readout softmax: acts with --backend dense only; got --backend spiking"),
        ({"temperature": 0.5}, "--temperature"),
        ({"ngrams": 4}, "--ngrams"),
        ({"readout": "softmax", "hidden": (), "learning_rate": (1e-3,)}, "--readout softmax"),
        ({"batch": 0}, "--batch"),
        ({"hidden": (4, 0)}, "--hidden"),
        ({"learning_rate": (1e-3, 1e-3)}, r"--learning-rate: got 2 values, expected 1 or 3 \(q and"),
        ({"backend": "analog"}, "--backend"),
        ({"backend": "spiking", "estimator": "bptt"}, "--estimator bptt"),
        ({"backend": "spiking", "window": 150}, "--window"),
        ({"backend": "spiking", "window": 240}, "--window"),
        ({"preset": "paper-small", "backend": "spiking", "free_steps": 210}, "--free-steps"),
        ({"backend": "spiking", "neuron": "sigma-delta", "rule": "trace"}, "--rule trace"),
        ({"backend": "spiking", "neuron": "hodgkin-huxley"}, "--neuron"),
        ({"backend": "spiking", "rule": "hebb"}, "--rule"),
        ({**CHANGES, "threshold": (0.0,)}, "--threshold"),
        ({**CHANGES, "preset": "paper-small", "origin": (0.1, 0.2, 0.3)}, "--origin: got 3 values, expected 1 or 2"),
        ({**CHANGES, "deadband": 0.4}, "--deadband"),
        ({"neurons": 5}, "unknown setting 'neurons'"),
    ],
)
def test_settings_that_cannot_be_are_named(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        configure("imdb", **{"backend": "dense", **changes})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("beta = ", "not TOML"),
        ("format = 9", "format 9"),
        ("neurons = 5", "unknown setting 'neurons'"),
        ("beta = 'much'", "--beta"),
    ],
)
def test_config_files_that_will_not_do(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=says):
        parse_run(["imdb", "--config", str(file)])


def test_unknown_preset_and_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one of digits, imdb, imdb-small, mini, mnist, own, paper, paper-small"):
        parse_run(["imdb", "--preset", "huge"])
    with pytest.raises(ConfigError, match="cannot read"):
        parse_run(["imdb", "--config", str(tmp_path / "none.toml")])


def test_every_setting_has_help() -> None:
    """A field without one is no setting, so what is missing here cannot be set at all."""
    assert len(everything()) > 60 and all(setting.help for setting in everything().values())


@pytest.mark.parametrize(
    "flags",
    ["--no-attention", "--shuffle-words", "--beta=0.3", "--hidden 7 --beta 0.3", "--backend spiking --rule count"],
)
def test_flags_say_the_same_before_the_data_set_and_after_it(flags: str) -> None:
    before, after = parse_run([*flags.split(), "mini"]), parse_run(["mini", *flags.split()])
    assert before == after != parse_run(["mini"])
