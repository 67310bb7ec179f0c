"""The layers above s¹ as one population of spiking neurons: synapses, membranes, traces and counts of a phase."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor

from eqspike_seq.model.network import Network
from neuromorphic.neurons import Membrane


class Chain:
    """The layers above s¹ as one population: (…, ΣHᵢ), s², s⁴, … first, then s³, s⁵, …

    Of a chain, the first of these two halves hears the second only, and the second the first: two products are all
    synapses among them.
    """

    def __init__(self, network: Network) -> None:
        sizes = network.shape.sizes[1:]
        self.order = [*range(0, len(sizes), 2), *range(1, len(sizes), 2)]
        starts = dict(zip(self.order, accumulate([0, *(sizes[index] for index in self.order)]), strict=False))
        self.places = [slice(starts[index], starts[index] + size) for index, size in enumerate(sizes)]
        self.half, self.size = sum(sizes[::2]), sum(sizes)
        self.bias = self.joined(network.biases)
        self.synapses = self.bias.new_zeros(self.half, self.size - self.half)  # w of (first half, second half)
        for index, weight in enumerate(network.weights[1:]):
            pre, post = self.places[index], self.places[index + 1]
            even, odd, matrix = (pre, post, weight.T) if index % 2 == 0 else (post, pre, weight)
            self.synapses[even, odd.start - self.half : odd.stop - self.half] = matrix

    def joined(self, layers: Sequence[Tensor]) -> Tensor:
        """[(…, H₂), (…, H₃), …] → (…, ΣHᵢ)."""
        return torch.cat([layers[index] for index in self.order], -1)

    def layers(self, values: Tensor) -> list[Tensor]:
        """(…, ΣHᵢ) → [(…, H₂), (…, H₃), …]."""
        return [values[..., place] for place in self.places]

    def inputs(self, z: Tensor, constant: Tensor) -> Tensor:
        """u of each neuron: what the spikes ``z`` (B, G, ΣHᵢ) bring, and ``constant`` (B·G, ΣHᵢ), that of this tick."""
        flat, half = z.flatten(0, 1), self.half
        first = torch.addmm(constant[:, :half], flat[:, half:], self.synapses.T)
        second = torch.addmm(constant[:, half:], flat[:, :half], self.synapses)
        return torch.cat([first, second], 1).view(z.shape)

    def constant(self, current: Tensor) -> Tensor:
        """Biases, and at s² the ``current`` (B, G, H₂) = w₂ s¹; (B·G, ΣHᵢ)."""
        held = self.bias.repeat(current.shape[0] * current.shape[1], 1)
        held[:, self.places[0]] += current.flatten(0, 1)
        return held


@dataclass
class Population:
    """All that the neurons above s¹ keep: membranes and last spikes (B, G, ΣHᵢ), low-passed spikes of s² and sⁿ."""

    membrane: Membrane
    z: Tensor
    feedback_trace: Tensor
    output_trace: Tensor

    def split(self, groups: int) -> "Population":
        """A copy for each nudge."""

        def copies(tensor: Tensor) -> Tensor:
            return tensor.expand(-1, groups, -1).clone()

        return Population(
            self.membrane.copies(groups), copies(self.z), copies(self.feedback_trace), copies(self.output_trace)
        )


@dataclass
class SlowTraces:
    """Slow traces of one phase, (B, G, …): of s¹ less its value at the start, of all neurons above; courses if kept."""

    chain: Chain
    gain: float
    keep: bool
    projection: Tensor
    above: Tensor
    spikes: list[Tensor] = field(default_factory=list)  # [step], if kept
    courses: list[Tensor] = field(default_factory=list)
    held: list[Tensor] = field(default_factory=list)  # [tick], if kept

    def tick(self, s1: Tensor, steps: int) -> None:
        """s¹ is held for ``steps`` steps."""
        self.projection += (1 - (1 - self.gain) ** steps) * (s1 - self.projection)
        if self.keep:
            self.held.append(s1)

    def step(self, fired: Tensor) -> None:
        """r ← r + a(z − r)."""
        self.above = self.above.lerp(fired, self.gain)
        if self.keep:
            self.spikes.append(fired)
            self.courses.append(self.above)


@dataclass
class Counts:
    """Spikes of a phase by layer: in all, within the window, in its later half, each (B, G, Hᵢ); s¹ over the window."""

    chain: Chain
    total: list[Tensor]
    window: list[Tensor]
    late: list[Tensor]
    own: list[Tensor]  # spikes of the window less quantisation errors
    projection: Tensor  # summed over the window's steps
    output: list[Tensor]  # cumulative output spikes at each tick
    fired: list[list[Tensor]]  # cumulative spikes of each layer at each tick, (B, G)
    spikes: list[Tensor]  # recorded: each step's, (B, G, ΣHᵢ)
    sent: list[Tensor]  # recorded: s¹ (or its change) at each tick
