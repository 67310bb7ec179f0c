"""The layers above s¹ as one population of spiking neurons: synapses, membranes, traces and counts of a phase."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from eqspike_seq.model.network import Network, State
from neuromorphic.neurons import Membrane, Noise
from neuromorphic.plasticity import Side


class Chain:
    """The layers above s¹ as one population: (…, ΣHᵢ), s², s⁴, … first, then s³, s⁵, …

    Of a chain, the first of these two halves hears the second only, and the second the first: two products are all
    synapses among them. ``first`` and ``second`` are what each hears the other by, (first half, second half): the same
    weights, unless feedback has copies.
    """

    def __init__(self, network: Network) -> None:
        sizes = network.shape.sizes[1:]
        self.order = [*range(0, len(sizes), 2), *range(1, len(sizes), 2)]
        starts = dict(zip(self.order, accumulate([0, *(sizes[index] for index in self.order)]), strict=False))
        self.places = [slice(starts[index], starts[index] + size) for index, size in enumerate(sizes)]
        self.half, self.size = sum(sizes[::2]), sum(sizes)
        self.bias = self.joined(network.biases)
        self.first = self.second = self.bias.new_zeros(self.half, self.size - self.half)
        if network.copies:
            self.second = self.first.clone()
        for index, (up, down) in enumerate(zip(network.weights[1:], network.downward[1:], strict=True)):
            pre, post = self.places[index], self.places[index + 1]
            if index % 2 == 0:
                even, odd, heard = pre, post, (down.T, up.T)
            else:
                even, odd, heard = post, pre, (up, down)
            place = even, slice(odd.start - self.half, odd.stop - self.half)
            self.first[place], self.second[place] = heard

    def joined(self, layers: Sequence[Tensor]) -> Tensor:
        """[(…, H₂), (…, H₃), …] → (…, ΣHᵢ)."""
        return torch.cat([layers[index] for index in self.order], -1)

    def layers(self, values: Tensor) -> list[Tensor]:
        """(…, ΣHᵢ) → [(…, H₂), (…, H₃), …]."""
        return [values[..., place] for place in self.places]

    def inputs(self, z: Tensor, constant: Tensor) -> Tensor:
        """u of each neuron: what the spikes ``z`` (B, G, ΣHᵢ) bring, and ``constant`` (B·G, ΣHᵢ), that of this tick."""
        flat, half = z.flatten(0, 1), self.half
        first = torch.addmm(constant[:, :half], flat[:, half:], self.first.T)
        second = torch.addmm(constant[:, half:], flat[:, :half], self.second)
        return torch.cat([first, second], 1).view(z.shape)

    def constant(self, current: Tensor) -> Tensor:
        """Biases, and at s² the ``current`` (B, G, H₂) = w₂ s¹; (B·G, ΣHᵢ)."""
        held = self.bias.repeat(current.shape[0] * current.shape[1], 1)
        held[:, self.places[0]] += current.flatten(0, 1)
        return held


@dataclass
class Population:
    """All that the neurons above s¹ keep: membranes and last spikes (B, G, ΣHᵢ), low-passed spikes of s² and sⁿ."""

    chain: Chain
    noise: Noise
    membrane: Membrane
    z: Tensor
    feedback_trace: Tensor
    output_trace: Tensor

    def split(self, groups: int, noise: Noise) -> "Population":
        """A copy for each nudge, with random numbers of their own."""

        def copies(tensor: Tensor) -> Tensor:
            return tensor.expand(-1, groups, -1).clone()

        traces = copies(self.feedback_trace), copies(self.output_trace)
        return Population(self.chain, noise, self.membrane.copies(groups), copies(self.z), *traces)


class NoTraces:
    """Of synapses that learn from windows alone. ``words`` of state a neuron has; ``keep``: single events are kept."""

    words = 1  # the membrane
    keep = False

    def tick(self, s1: Tensor, steps: int) -> None:
        """s¹ is held for ``steps`` steps."""

    def step(self, fired: Tensor) -> None:
        """Neurons above s¹ have fired."""

    def sides(self, counts: list[Tensor], owns: list[Tensor], group: int) -> list[Side]:
        """What s¹, s², … show in one nudge, from rates and their own estimates of them."""
        return [Side(count, own, count, count) for count, own in zip(counts, owns, strict=True)]


class SlowTraces(NoTraces):
    """Slow traces r ← r + a(z − r) of one phase, from the rates at its start, (B, G, …); their courses if kept."""

    words = 2  # the membrane, the trace

    def __init__(self, chain: Chain, gain: float, keep: bool, start: State, groups: int) -> None:
        self.chain, self.gain, self.keep, self.start = chain, gain, keep, start
        s1 = start.projection
        self.projection = s1.new_zeros(len(s1), groups, *s1.shape[1:])  # less that at the start
        self.above = chain.joined(start.layers).unsqueeze(1).expand(-1, groups, -1)
        self.spikes: list[Tensor] = []  # [step], if kept
        self.courses: list[Tensor] = []
        self.held: list[Tensor] = []  # [tick], if kept

    def tick(self, s1: Tensor, steps: int) -> None:
        """The change of s¹ is held for ``steps`` steps."""
        self.projection += (1 - (1 - self.gain) ** steps) * (s1 - self.projection)
        if self.keep:
            self.held.append(s1)

    def step(self, fired: Tensor) -> None:
        """r ← r + a(z − r)."""
        self.above = self.above.lerp(fired, self.gain)
        if self.keep:
            self.spikes.append(fired)
            self.courses.append(self.above)

    def sides(self, counts: list[Tensor], owns: list[Tensor], group: int) -> list[Side]:
        """The same, with traces at both ends and, if kept, single events."""
        starts = [self.start.projection.flatten(1), *self.start.layers]
        above = self.chain.layers(self.above[:, group])
        ends = [starts[0] + self.projection[:, group].flatten(1), *above]
        sides = [Side(*shown) for shown in zip(counts, owns, starts, ends, strict=True)]
        if not self.keep:
            return sides
        held = torch.stack([s1[:, group].flatten(1) for s1 in self.held])
        z, course = (
            self.chain.layers(torch.stack([values[:, group] for values in series]))
            for series in (self.spikes, self.courses)
        )
        events = zip(sides[1:], z, course, strict=True)
        return [
            replace(sides[0], held=held),
            *(replace(side, spikes=spikes, course=series) for side, spikes, series in events),
        ]


@dataclass
class Counts:
    """Spikes of a phase by layer: in all, within the window, in its later half, each (B, G, Hᵢ); s¹ over the window."""

    chain: Chain
    total: list[Tensor]
    window: list[Tensor]
    late: list[Tensor]
    own: list[Tensor]  # spikes of the window less quantisation errors
    projection: Tensor  # its mean over the window
    output: list[Tensor]  # cumulative output spikes at each tick
    fired: list[list[Tensor]]  # cumulative spikes of each layer at each tick, (B, G)
    spikes: list[Tensor]  # recorded: each step's, (B, G, ΣHᵢ)
    sent: list[Tensor]  # recorded: s¹ (or its change) at each tick

    def of(self, group: int) -> "Counts":
        """That of one nudge, without what was recorded."""
        total, window, late, own, output = (
            [values[:, group] for values in series]
            for series in (self.total, self.window, self.late, self.own, self.output)
        )
        fired = [[values[:, group] for values in layers] for layers in self.fired]
        return Counts(self.chain, total, window, late, own, self.projection[:, group], output, fired, [], [])
