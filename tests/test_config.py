import tomllib
from pathlib import Path

import pytest

from eqspike.commands.run import parse_run
from eqspike_seq.config.presets import from_preset, presets, read_toml
from eqspike_seq.config.settings import RunConfig
from eqspike_seq.data.registry import pixels_of
from eqspike_seq.errors import ConfigError


@pytest.mark.parametrize("preset", presets())
@pytest.mark.parametrize(
    ("backend", "neuron"),
    [("dense", "if"), ("brian2", "if"), *(("spiking", neuron) for neuron in ("if", "lif", "bernoulli", "sigma-delta"))],
)
def test_every_preset_parses_and_survives_its_own_file(preset: str, backend: str, neuron: str, tmp_path: Path) -> None:
    dataset = preset if pixels_of(preset) else preset.split("-")[0] if preset.startswith("snli") else "imdb"
    config = from_preset(dataset, backend, preset, neuron=neuron)
    (tmp_path / "config.toml").write_bytes(config.to_toml())
    assert RunConfig(**read_toml(tmp_path / "config.toml")) == config
    assert tomllib.loads(config.to_toml().decode())["format"] == 1


def test_paper_preset_is_the_papers() -> None:
    config = from_preset("imdb", "dense", "paper")
    assert (config.tokens, config.dim, config.hidden, config.beta) == (600, 300, (1000, 40), 0.1)
    assert (config.free_steps, config.nudge_steps, config.batch, config.epochs) == (50, 25, 128, 40)
    assert config.learning_rate == (1e-4, 5e-5, 5e-5, 5e-5)
    config = from_preset("snli", "dense", "snli-paper")
    assert (config.tokens, config.dim, config.hidden, config.beta) == (25, 300, (400,), 0.5)
    assert (config.free_steps, config.nudge_steps, config.batch, config.epochs) == (60, 30, 256, 50)
    assert config.learning_rate == (5e-4, 2e-4, 2e-4) and len(config.layout()) == 4


def test_flags_override_the_file_and_the_file_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("beta = 0.3\nepochs = 2\n")
    config = parse_run(["imdb", "--config", str(file), "--epochs", "7", "--hidden", "12", "5"])
    assert (config.beta, config.epochs, config.hidden, config.tokens) == (0.3, 7, (12, 5), 256)
    assert parse_run(["--beta", "0.2", "mini"]).tokens == 40
    assert config.preset == "cpu" and parse_run(["mini", "--backend", "spiking"]).preset == "mini"


def test_paths_hold_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = from_preset("mini", "dense", embeddings="mine/vectors.npz", data_dir=Path("data"))
    assert config.embeddings == str(tmp_path / "mine/vectors.npz") and config.data_dir == tmp_path / "data"
    names = ("word2vec", "random", "google-news")
    assert [from_preset("mini", "dense", embeddings=name).embeddings for name in names] == list(names)


def test_a_neuron_has_its_own_part_of_a_preset() -> None:
    config = parse_run(["mini", "--backend", "spiking", "--neuron", "sigma-delta"])
    assert config.neuron == "sigma-delta" and config.free_steps == 12
    assert parse_run(["mini", "--backend", "spiking"]).free_steps == 100
    assert parse_run(["mini", "--backend", "spiking", "--neuron=sigma-delta", "--free-steps", "9"]).free_steps == 9


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"beta": 0.0}, "--beta"),
        ({"free_steps": 0}, "--free-steps"),
        ({"nudge_steps": 0}, "--nudge-steps"),
        ({"tokens": 0}, "--tokens"),
        ({"batch": 0}, "--batch"),
        ({"hidden": (4, 0)}, "--hidden"),
        ({"learning_rate": (1e-3, 1e-3)}, "--learning-rate: got 2 values, expected 1 or 4"),
        ({"backend": "analog"}, "--backend"),
        ({"backend": "spiking", "estimator": "bptt"}, "--estimator bptt"),
        ({"backend": "spiking", "window": 150}, "--window"),
        ({"backend": "spiking", "window": 240}, "--window"),
        ({"backend": "spiking", "free_steps": 210}, "--free-steps"),
        ({"backend": "spiking", "neuron": "sigma-delta", "rule": "trace"}, "--rule trace"),
        ({"neuron": "hodgkin-huxley"}, "--neuron"),
        ({"rule": "hebb"}, "--rule"),
        ({"threshold": (0.0,)}, "--threshold"),
        ({"baseline": (0.1, 0.2, 0.3)}, "--baseline: got 3 values, expected 1 or 2"),
        ({"deadband": 0.4}, "--deadband"),
        ({"neurons": 5}, "unknown setting 'neurons'"),
    ],
)
def test_settings_that_cannot_be_are_named(changes: dict[str, object], says: str) -> None:
    settings = from_preset("imdb", "spiking").model_dump() | {"backend": "dense"} | changes
    with pytest.raises(ConfigError, match=says):
        RunConfig(**settings)


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
    with pytest.raises(ConfigError, match="expected one of cpu, digits, mini, mnist, own, paper, snli-cpu"):
        parse_run(["imdb", "--preset", "huge"])
    with pytest.raises(ConfigError, match="cannot read"):
        parse_run(["imdb", "--config", str(tmp_path / "none.toml")])


def test_every_field_has_help() -> None:
    assert all(field.description for name, field in RunConfig.model_fields.items())
