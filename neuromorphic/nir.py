"""A trained network's layers above s¹ as a graph of the Neuromorphic Intermediate Representation (NIR).

    current ─→ s2 ─→ w3 ─→ s3 ─→ w4 ─→ s4 ─→ output
               │ ↑         │ ↑         │
    feedback ←─┘ └ w3_back ┘ └ w4_back ┘

HopAttn has no primitive in NIR: it stays outside, between ``feedback``, the spikes of s², and ``current``, which is
w₂F(s¹). ``w3`` is w₃ with the bias b₃ and so on; ``w3_back`` is w₃ᵀ with b₂, since ``current`` passes no affine node;
the others lead back without a bias.

Neurons, ``DT`` seconds a step, I the sum of what arrived, held for a step:

    IF    dv/dt = R I             R = 1/(2 DT)         v ← v + u/2
    LIF   τ dv/dt = −v + R I      R = 1/(2 (1 − λ))    v ← λ v + u/2,   λ = exp(−DT/τ)

What NIR has no field for is each neuron's ``metadata``: how it resets, where it starts, and where v is held.
Source: Pedersen et al. (Nature Communications 2024), the NIR; version 1 of its files.
"""

import math
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from eqspike_seq.errors import ConfigError
from eqspike_seq.model.network import Network
from neuromorphic.neurons import IntegrateAndFire, LeakyIntegrateAndFire, Neuron

DT = 1e-3  # seconds a step
ABOUT = (
    "current is w2 F(s1), constant or set anew at each reading of HopAttn, which is not part of this graph; feedback "
    "are the spikes of s2 that it reads. A spike is a current of 1 for one step, and arrives one step after it was "
    "fired, on all edges. Neurons integrate their input exactly, held over a step of dt seconds, then fire if v > "
    "v_threshold, then reset, then v is held within v_low and v_high, all in one step."
)


def graph_of(network: Network, neuron: Neuron) -> nir.NIRGraph:
    """The layers above s¹ as a graph. Raises ConfigError where NIR has no neuron of this kind."""
    if not network.shape.hidden:
        raise ConfigError("--format nir: the network has no hidden layer, so there is nothing to export")
    weights = [weight.detach().cpu().numpy() for weight in network.weights]
    biases = [bias.detach().cpu().numpy() for bias in network.biases]
    nodes: dict[str, Any] = {"current": nir.Input(np.array([len(biases[0])]))}
    edges = [("current", "s2"), ("s2", "feedback"), (f"s{len(biases) + 1}", "output")]
    for index, bias in enumerate(biases, start=2):
        nodes[f"s{index}"] = neurons_of(neuron, len(bias))
    for index in range(3, len(biases) + 2):
        weight, below = weights[index - 2], biases[index - 3]
        nodes[f"w{index}"] = nir.Affine(weight, biases[index - 2])
        nodes[f"w{index}_back"] = nir.Affine(weight.T.copy(), below if index == 3 else np.zeros_like(below))
        edges += [(f"s{index - 1}", f"w{index}"), (f"w{index}", f"s{index}")]
        edges += [(f"s{index}", f"w{index}_back"), (f"w{index}_back", f"s{index - 1}")]
    nodes["feedback"] = nir.Output(np.array([len(biases[0])]))
    nodes["output"] = nir.Output(np.array([len(biases[-1])]))
    return nir.NIRGraph(nodes, edges, metadata={"dt": DT, "about": ABOUT})


def neurons_of(neuron: Neuron, size: int) -> nir.NIRNode:
    """A layer of ``size`` neurons. Raises ConfigError."""

    def each(value: float) -> NDArray[np.float64]:
        return np.full(size, value)

    common = {"v_threshold": each(1.0), "v_reset": each(0.0)}
    if isinstance(neuron, IntegrateAndFire):
        held = {"v_start": neuron.start, "v_low": neuron.low, "v_high": neuron.high}
        return nir.IF(r=each(0.5 / DT), **common, metadata={"reset": "subtract", "dt": DT, **held})
    if isinstance(neuron, LeakyIntegrateAndFire) and not neuron.refractory:
        leak, reset = math.exp(-1 / neuron.membrane_tau), {"soft": "subtract", "hard": "zero"}[neuron.reset]
        held = {"v_start": neuron.start, "v_low": neuron.low, "v_high": math.inf}
        tau, r = each(neuron.membrane_tau * DT), each(0.5 / (1 - leak))
        metadata = {"reset": reset, "dt": DT, **held}
        return nir.LIF(tau=tau, r=r, v_leak=each(0.0), **common, metadata=metadata)
    got = "lif with a refractory period" if isinstance(neuron, LeakyIntegrateAndFire) else type(neuron).__name__
    raise ConfigError(
        f"--format nir: got neurons of the kind {got}, expected if, or lif without a refractory period; NIR has no "
        "neuron of another kind. Use --format safetensors."
    )
