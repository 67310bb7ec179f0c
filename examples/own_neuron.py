"""Train your own neuron with Equilibrium Propagation, using only the core of eqspike: no settings and no files.

python examples/own_neuron.py

The neuron starts at 0, fires above ½ and then falls by 1. docs/how-to/own-neuron.md lists what EP requires of a neuron.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from eqspike_seq.learning.estimators import ThreePhase
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network, Shape, sigma
from neuromorphic.neurons import Membrane, Neuron
from neuromorphic.plasticity import MembraneCount
from neuromorphic.rate_code import SpikingBackend


@dataclass(frozen=True)
class LowThreshold(Neuron):
    """v ← v + u/2,  z = 1[v > ½],  v ← clip(v − z, low, high). The mean of z is σ(u), as EP requires."""

    low: float = -1.5
    high: float = 1.5

    def rest(self, like: Tensor) -> Membrane:
        return Membrane(torch.zeros_like(like), torch.zeros_like(like))

    def step(self, state: Membrane, u: Tensor, uniform: Tensor | None = None) -> tuple[Membrane, Tensor]:
        v = state.v + 0.5 * u
        z = (v > 0.5).to(v.dtype)
        held = (v - z).clamp(self.low, self.high)
        return Membrane(held, state.added + (held - (v - z))), z

    def rate(self, u: Tensor) -> Tensor:
        return sigma(u)


def main() -> float:
    """Learn which of two words a text of four words contains; returns the training accuracy."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randn(12, 8, generator=generator)
    labels = torch.arange(32) % 2
    ids = torch.randint(2, 12, (32, 4), generator=generator)
    ids[torch.arange(32), torch.randint(4, (32,), generator=generator)] = labels
    batch = Batch(words[ids].unsqueeze(1), torch.ones(32, 1, 4, dtype=torch.bool), labels)
    network = Network.create(Shape(rows=4, dim=8, hidden=(16,), classes=2), generator)
    backend = SpikingBackend(100, 100, window=80, neuron=LowThreshold(), rule=MembraneCount())
    parameters = dict(network.named())
    optimizer = torch.optim.Adam(list(parameters.values()), lr=1e-2)
    with torch.no_grad():
        for step in range(40):
            estimate = ThreePhase(beta=0.5)(backend, network, batch)
            for name, tensor in parameters.items():
                tensor.grad = estimate.gradients[name]
            optimizer.step()
            right = (estimate.equilibria[0].outputs[-1].argmax(1) == labels).double().mean().item()
            if step % 10 == 9:
                print(f"step {step + 1}: {right:.0%} right, {estimate.equilibria[0].ledger.total('spikes')} spikes")
    return right


if __name__ == "__main__":
    main()
