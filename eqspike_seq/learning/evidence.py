"""Which patterns of a text decided: what each adds to the margin of the answer over the class that comes next.

The margin is m = u_a − u_b, inputs of the output units of the two highest rates. Patterns reach it through
s¹ = Σ_j p_j x_j; what they add is measured against a text that says nothing, s¹ = 0, all that comes down from above
held. Layer by layer a change of inputs δu becomes δs = k δu, k = (σ(u) − σ(u − δu))/δu, the secant of σ between the two
(the rescale rule of DeepLIFT, Shrikumar et al. 2017), so that nothing is lost where σ is flat:

    e_j = Σ_rows p_j x_j · g,   g = w₂ᵀ k₂ w₃ᵀ k₃ … wₙᵀ(1_a − 1_b),     Σ_j e_j = m − m(s¹ = 0)
"""

import torch
from torch import Tensor

from eqspike_seq.learning.closeup import shares_of
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network, sigma
from eqspike_seq.model.token_layer import dense_layer
from eqspike_seq.relaxation.equilibrium import Equilibrium
from eqspike_seq.relaxation.stack import above


def evidence(network: Network, batch: Batch, free: Equilibrium) -> Tensor:
    """e (B, N) of the patterns of a batch at the end of a free phase, of a network with pooling queries."""
    shares = shares_of(network, batch, free)[:, 0]
    inputs = dense_layer(network, batch, network.dtype).inputs
    found = (inputs.patterns if inputs.values is None else inputs.values)[:, 0]
    change = (shares @ found).flatten(1)
    level, slopes = torch.zeros_like(change), list[Tensor]()  # level: of the layer below, of a text that says nothing
    rates = tuple(layer.to(network.dtype) for layer in free.rates.layers)  # Brian2 counts in float64
    for index, weight in enumerate(network.weights[:-1]):
        moved = change @ weight.T
        before = level @ weight.T + above(network, rates, index)
        level, change = sigma(before), sigma(before + moved) - sigma(before)
        slopes.append(torch.where(moved == 0, 0.0, change / moved))
    first, second = free.outputs[-1].topk(2).indices.unbind(1)  # what spiking units have sent may be a tie
    back = network.weights[-1][first] - network.weights[-1][second]
    for weight, slope in zip(reversed(network.weights[:-1]), reversed(slopes), strict=True):
        back = (back * slope) @ weight
    return torch.einsum("bqn,bqd,bnd->bn", shares, back.unflatten(1, (shares.shape[1], -1)), found)
