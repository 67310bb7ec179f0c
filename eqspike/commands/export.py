"""``eqspike export``: a run in one file, or its network for other tools, as NIR or as weights with a description."""

from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from safetensors.torch import save_file
from torch import Tensor

from eqspike.build import config_of
from eqspike_seq.config.settings import FORMAT, RunConfig
from eqspike_seq.errors import ConfigError, RunError
from eqspike_seq.files import read_json, write_atomically, write_json
from eqspike_seq.model.network import Network, Shape
from eqspike_seq.runs.archive import contents, opened, pack
from eqspike_seq.runs.weights import WEIGHTS, network_of, read_table, read_weights
from neuromorphic.brian import BrianBackend
from neuromorphic.rate_code import SpikingBackend

AXES = {
    "w1": ["projection", "D, of x", "D, of s1"],
    "q": ["projection", "query", "D"],
    "wx": ["sc", "D, of x"],
    "bx": ["sc"],
    "wa": ["sc", "D, of s1"],
    "X": ["pattern", "D"],
    "w2": ["s2", "F(s1)"],
}
STACK = {
    "sigma": "sigma(u) = clip(u/2, 0, 1)",
    "s_i": "sigma(w_i s_{i-1} + w_{i+1}^T s_{i+1} + b_i), i >= 2, and w2 F(s1) in place of w_2 s_1",
    "F": "rows of s1, D numbers each, end to end: column n D + d is component d of row n",
    "answer": "the class of the largest output at the fixed point without a nudge",
}
PHI = "s2^T w2 F(s1) + sum_{i>=2} s_{i+1}^T w_{i+1} s_i + sum_{i>=2} b_i^T s_i"


def equations(shape: Shape) -> dict[str, str]:
    """What the tensors of a network of this shape mean."""
    found = dict(STACK)
    if shape.feedback:
        found["feedback"] = "v_i in place of w_i where s_i is sent down; no phi is then minimised"
    if shape.softmax:
        last = len(shape.sizes)
        found["readout"] = f"s_{last} = softmax(w_{last} s_{last - 1} + b_{last}), which has no part in phi"
    if shape.clamped:
        return {"phi": PHI, "s1": "the input itself, held fast: grey values / 255 of images", **found}
    if shape.pooling:
        scores = "log(counts)" if shape.uniform else "(q + F^-1(w2^T s2) / tau) X^T / sqrt(D) + log(counts)"
        return {
            "phi": f"tau s1 . q + {PHI}",
            "s1": f"softmax({scores}) X over the patterns of a text, counts of each in it",
            "tau": f"{shape.temperature:g}, by which the tensor q is divided already",
            "X": "row i is the vector of pattern i, of those listed from 1; row 0 is padding",
            "input": "the ids of the different patterns of a text, and the count of each",
            **found,
        }
    if shape.compared:
        return {
            "phi": f"tau sum_j [s1_j . (x_j w1) + sc_j . (wx x_j + bx + wa s1_j)] + {PHI}",
            "s1": "softmax((x w1 + sc wa / tau) X^T / sqrt(D)) X, X the text that is looked at; each token j asks",
            "sc": "sigma(wx x + bx + wa s1 + w2^T s2 / (tau sqrt(n))), n the tokens of the text that asks",
            "projections": "each is (the text that asks, the text that is looked at), 0 the first of a pair: "
            f"{list(shape.projections)}",
            "tau": f"{shape.temperature:g}, by which the tensor w1 is divided already",
            "X": "row i is the vector of word i, of those listed from 1; row 0 is padding",
            "input": "the ids of the tokens of each text",
            **found,
            "F": "sum_j sc_j / sqrt(n) of each projection, end to end, in place of s1",
        }
    query = "x w1 + F^-1(w2^T s2)"
    if shape.attention:
        found["HopAttn"] = "HopAttn(q, K) = softmax(q K^T / sqrt(D)) K, padding left out if masked"
    return {
        "phi": f"s1 . (x w1) + {PHI}",
        "s1": f"HopAttn({query}, x); padding rows 0" if shape.attention else f"sigma({query}); padding rows 0",
        "input": "x, the word vectors of the first N tokens that `keep` leaves, standardised; rows of 0 after the end",
        **found,
    }


def main(arguments: list[str]) -> None:
    """``eqspike export RUN --format zip|nir|safetensors --out FILE``."""

    def export(run: tyro.conf.Positional[Path], format: Literal["zip", "nir", "safetensors"], out: Path) -> None:
        """Pack a run into one file, or export its network for other tools.

        Args:
            run: A run folder, a zip of one, or the name of a model that comes with eqspike.
            format: zip: the run itself, for predict, report, energy and --start. nir: the layers above s1 of an if or
                lif run. safetensors: all weights, a JSON description beside.
            out: The file.
        """
        run = opened(run)
        config, network = trained(run)
        if format == "zip":
            pack(contents(run), out)
            written = [out]
        else:
            written = (write_nir if format == "nir" else write_weights)(run, config, network, out)
        print("wrote " + " and ".join(map(str, written)))

    tyro.cli(export, args=arguments, prog="eqspike export")


def trained(run: Path) -> tuple[RunConfig, Network]:
    """Settings and network of a run folder, without its data. Raises ConfigError or RunError."""
    config, path = config_of(run), run / WEIGHTS
    if not path.is_file():
        raise RunError(
            f"{run} has no weights (no checkpoint/model.safetensors), expected a complete run folder. Repeat the run."
        )
    saved = read_weights(path)
    asking = saved.get("w1", saved.get("q", torch.zeros(0, 1, 1)))
    last = saved.get(f"b{len(config.network.hidden) + 2}", torch.zeros(0))
    return config, network_of(config.shape(asking.shape[-1], last.numel()), path)


def write_nir(run: Path, config: RunConfig, network: Network, out: Path) -> list[Path]:
    """The layers above s¹ as a NIR file (HDF5). Raises ConfigError where the run's neurons are not NIR's."""
    try:
        import nir
    except ImportError as error:
        raise ConfigError("--format nir needs the package nir. Install it: pip install 'eqspike[nir]'") from error
    from neuromorphic.nir import graph_of

    if not isinstance(config.backend, SpikingBackend | BrianBackend):
        neuron = config.settings().get("neuron")
        got = f"a run with --neuron {neuron}" if neuron else "a dense run"
        raise ConfigError(f"--format nir: {run} is {got}, expected a run with if or lif. Use --format safetensors.")
    graph = graph_of(network, config.backend.neuron)
    write_atomically(out, lambda path: nir.write(path, graph))
    return [out]


def write_weights(run: Path, config: RunConfig, network: Network, out: Path) -> list[Path]:
    """All weights, and what they mean as JSON beside."""
    beside = out.with_suffix(".json")
    if beside == out:
        raise ConfigError(f"--out: got {out}, expected another suffix than .json, which is used for the description")
    tensors = {name: tensor.contiguous() for name, tensor in network.named()}
    if network.shape.pooling:
        tensors["X"] = read_table(run, run / WEIGHTS)
    write_atomically(out, lambda path: save_file(tensors, path))
    write_json(beside, description(run, config, network.shape, tensors))
    return [out, beside]


def description(run: Path, config: RunConfig, shape: Shape, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """What a reader of the weights needs: shapes, axes, equations, settings, and where the word vectors came from."""

    def of(name: str, tensor: Tensor) -> dict[str, Any]:
        layer = name[1:]
        axes = AXES.get(name) or ([f"s{layer}", f"s{int(layer) - 1}"] if name[0] in "wv" else [f"s{layer}"])
        return {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch."), "axes": axes}

    place = run / "environment.json"
    try:
        made = read_json(place) if place.is_file() else {}
        patterns = read_json(run / "vocabulary.json")["words"] if "X" in tensors else None
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{run}: {place.name} or vocabulary.json cannot be read ({error}). Repeat the run.") from error
    return {
        "format": FORMAT,
        "tensors": {name: of(name, tensor) for name, tensor in tensors.items()},
        "sizes": {
            "Q" if shape.pooling else "N": shape.rows,
            "D": shape.dim,
            "hidden": list(shape.hidden),
            "C": shape.classes,
        },
        **({} if patterns is None else {"patterns": patterns}),
        "classes": class_names(run),
        "equations": equations(shape),
        "embeddings": {"source": made.get("embeddings"), "sha256": made.get("embedding_sha256")},
        "settings": config.computed(),
    }


def class_names(run: Path) -> list[str] | None:
    """Of the output units, in order; None where the run has no predictions."""
    import pyarrow.parquet as pq

    path = run / "predictions.parquet"
    if not path.is_file():
        return None
    try:
        names = pq.read_schema(path).names
    except Exception as error:  # Arrow has many kinds of its own
        raise RunError(f"{path} cannot be read ({error}). Repeat the run.") from error
    return [name.removeprefix("rate_") for name in names if name.startswith("rate_")]
