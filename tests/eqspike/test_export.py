"""What ``eqspike export`` writes, read back by others: NIR by nir and snnTorch, weights by safetensors."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.spiking import current_network
from eqspike.build import configure
from eqspike.commands.export import trained
from eqspike_seq.errors import EqspikeError
from eqspike_seq.model.network import Network, Shape
from neuromorphic.neurons import IntegrateAndFire, LeakyIntegrateAndFire, Neuron
from neuromorphic.rate_code import SpikingBackend
from tests.conftest import command
from tests.test_docs import blocks

nir = pytest.importorskip("nir")
STEPS = 120


def simulate(graph: Any, current: torch.Tensor) -> dict[str, torch.Tensor]:
    """The loop of snnTorch neurons that the page shows."""
    (example,) = blocks("how-to/hand-off.md", "python")
    found: dict[str, Any] = {}
    exec(example, found)
    spikes: dict[str, torch.Tensor] = found["simulate"](graph, current, STEPS)
    return spikes


def ours(network: Network, neuron: Neuron, current: torch.Tensor) -> list[torch.Tensor]:
    """Spikes of s², s³, … of our own simulator under a constant current."""
    backend = SpikingBackend(STEPS, STEPS, STEPS, 20, neuron=neuron, dtype=current.dtype)
    trace = backend.free(*current_network(network, current), record=True).trace
    return [trace[f"spikes_s{index}"] for index in range(2, len(network.weights) + 2)]


def same_spikes(graph: Any, network: Network, neuron: Neuron) -> None:
    current = 2 * torch.randn(6, network.shape.hidden[0], generator=torch.Generator().manual_seed(1)).double()
    theirs = simulate(graph, current)
    for index, spikes in enumerate(ours(network.to(torch.float64), neuron, current), start=2):
        assert torch.equal(theirs[f"s{index}"].bool(), spikes), index
        assert 0.05 < spikes.double().mean() < 0.95


def make_run(folder: Path, **settings: Any) -> tuple[Path, Network]:
    """A run folder as training leaves it, with random weights."""
    config = configure("mini", settings.pop("backend", "spiking"), **settings)
    shape = Shape(config.data.rows, config.settings()["dim"], config.network.hidden, 2)
    network = Network.create(shape, torch.Generator().manual_seed(0))
    (folder / "checkpoint").mkdir(parents=True)
    (folder / "config.toml").write_bytes(config.to_toml())
    save_file(dict(network.named()), folder / "checkpoint" / "model.safetensors")
    return folder, network


@pytest.mark.parametrize("hidden", [(24,), (24, 10)])
@pytest.mark.parametrize(
    ("neuron", "flags"),
    [
        (IntegrateAndFire(), {"neuron": "if"}),
        (LeakyIntegrateAndFire(20.0), {"neuron": "lif", "membrane_tau": 20.0}),
        (LeakyIntegrateAndFire(20.0, reset="hard"), {"neuron": "lif", "membrane_tau": 20.0, "reset": "hard"}),
    ],
)
def test_nir_read_back_fires_spike_for_spike_in_snntorch(
    tmp_path: Path, neuron: Neuron, flags: dict[str, Any], hidden: tuple[int, ...]
) -> None:
    rates = {"learning_rate": (1e-3,), "rule": "count"}
    run, network = make_run(tmp_path / "run", hidden=hidden, **rates, **flags)
    command("export", run, "--format", "nir", "--out", tmp_path / "a.nir")
    same_spikes(nir.read(tmp_path / "a.nir"), network, neuron)


def test_nir_says_where_it_ends_and_what_it_cannot_say(tmp_path: Path) -> None:
    run, network = make_run(tmp_path / "run")
    command("export", run, "--format", "nir", "--out", tmp_path / "a.nir")
    graph = nir.read(tmp_path / "a.nir")
    assert set(graph.nodes) == {"current", "s2", "w3", "w3_back", "s3", "feedback", "output"}
    assert set(graph.inputs) == {"current"} and set(graph.outputs) == {"feedback", "output"}
    assert float(graph.metadata["dt"]) == 1e-3 and "HopAttn" in graph.metadata["about"]
    assert graph.nodes["s2"].metadata["v_high"] == 2 and (graph.nodes["s2"].r == 500).all()
    assert (graph.nodes["w3_back"].bias == network.biases[0].numpy()).all()


def test_weights_come_with_a_description(tmp_path: Path) -> None:
    run, network = make_run(tmp_path / "run", backend="dense")
    command("export", run, "--format", "safetensors", "--out", tmp_path / "a.safetensors")
    found, about = load_file(tmp_path / "a.safetensors"), json.loads((tmp_path / "a.json").read_text())
    for name, tensor in network.named():
        assert torch.equal(found[name], tensor)
        assert about["tensors"][name]["shape"] == list(tensor.shape)
        assert len(about["tensors"][name]["axes"]) == tensor.dim()
    assert about["sizes"] == {"N": 40, "D": 32, "hidden": [64], "C": 2} and about["settings"]["backend"] == "dense"


@pytest.mark.parametrize("network", ["tokens", "pooling"])
def test_a_run_that_was_trained_is_exported_with_the_names_of_its_classes(tmp_path: Path, network: str) -> None:
    run = tmp_path / "run"
    flags = ("--neuron", "if", "--network", network, "--limit", 32, "--epochs", 1)
    command("run", "mini", "--backend", "spiking", *flags, "--out", run)
    command("export", run, "--format", "safetensors", "--out", tmp_path / "a.safetensors")
    command("export", run, "--format", "nir", "--out", tmp_path / "a.nir")
    about = json.loads((tmp_path / "a.json").read_text())
    assert about["classes"] == ["negative", "positive"] and len(about["embeddings"]["sha256"]) == 64
    made = trained(run)[1]
    assert made.shape.pooling == (network == "pooling")
    same_spikes(nir.read(tmp_path / "a.nir"), made, IntegrateAndFire())


def test_neurons_of_brian_are_those_of_ours(tmp_path: Path) -> None:
    run, network = make_run(tmp_path / "run", backend="brian2")
    command("export", run, "--format", "nir", "--out", tmp_path / "a.nir")
    same_spikes(nir.read(tmp_path / "a.nir"), network, IntegrateAndFire())


@pytest.mark.parametrize(
    ("settings", "arguments", "says"),
    [
        ({"backend": "dense"}, ("--format", "nir"), "a dense run"),
        ({"neuron": "sigma-delta"}, ("--format", "nir"), "sigma-delta"),
        ({"neuron": "bernoulli"}, ("--format", "nir"), "Bernoulli"),
        ({"neuron": "lif", "refractory": 2}, ("--format", "nir"), "refractory"),
        ({}, ("--format", "safetensors", "--out", "a.json"), "another suffix"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    tmp_path: Path, settings: Any, arguments: Any, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = make_run(tmp_path / "run", **settings)
    out = () if "--out" in arguments else ("--out", tmp_path / "a.nir")
    with pytest.raises(SystemExit, match="2"):
        command("export", run, *arguments, *out)
    assert says in capsys.readouterr().err and not (tmp_path / "a.nir").exists()


def test_folders_without_a_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EqspikeError, match="no run folder"):
        trained(tmp_path)
    run, _ = make_run(tmp_path / "run")
    weights = run / "checkpoint" / "model.safetensors"
    weights.write_bytes(b"half")
    with pytest.raises(EqspikeError, match="cannot be read"):
        trained(run)
    weights.unlink()
    with pytest.raises(EqspikeError, match="no weights"):
        trained(run)
