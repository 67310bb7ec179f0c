"""How change-coded neurons answer in one phase, free or nudged (see ``change_code``), and what they have sent."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from eqspike_seq.model.attention import chosen
from eqspike_seq.model.network import State, sigma
from eqspike_seq.model.packing import summed
from eqspike_seq.model.projection import DenseProjection
from eqspike_seq.model.synapses import Recall, read_below
from eqspike_seq.relaxation.stack import StackAnchor
from neuromorphic.attention.gated import Circuit, Dither, FreeProjection, Nudges, Texts
from neuromorphic.neurons import Loss, send_dithered, send_on_change


@dataclass
class Sent:
    """What was sent, an entry a step; tensors begin with the texts and, in nudges, with the nudges: (B, [G,] …)."""

    within: list[Tensor] = field(default_factory=list)  # unit spikes of s¹, below a token layer
    units1: list[Tensor] = field(default_factory=list)  # unit spikes of s¹, or of the token layer
    payloads1: list[Tensor] = field(default_factory=list)  # the same, units sent at once counted once
    above: list[list[Tensor]] = field(default_factory=list)  # signed units of each neuron of s², s³, …
    outputs: list[Tensor] = field(default_factory=list)  # the output's own activation
    projections: list[Tensor] = field(default_factory=list)  # if recorded: signed units of s¹ so far

    def add(self, within: list[Tensor], first: tuple[Tensor, Tensor], above: list[Tensor], output: Tensor) -> None:
        """Count one step; ``first`` is (units1, payloads1) of it."""
        self.within += within
        self.units1.append(first[0])
        self.payloads1.append(first[1])
        self.above.append(above)
        self.outputs.append(output)

    def of(self, group: int) -> "Sent":
        """That of one nudge."""
        units1, payloads1, outputs, projections = (
            [x[:, group] for x in series] for series in (self.units1, self.payloads1, self.outputs, self.projections)
        )
        within, above = [x[..., group] for x in self.within], [[x[:, group] for x in step] for step in self.above]
        return Sent(within, units1, payloads1, above, outputs, projections)

    def busy(self) -> bool:
        """Whether anybody sent anything in the last step."""
        within = bool(self.within) and bool(self.within[-1].any())
        return within or bool(self.units1[-1].any()) or any(bool(layer.any()) for layer in self.above[-1])

    def by_layer(self, graded: bool) -> list[Tensor]:
        """Unit spikes of s¹, s², … in each step, (steps, B), or, ``graded``, how many neurons sent any; those of a
        token layer after those of s¹."""
        layers = [torch.stack(layer) for layer in zip(*self.above, strict=True)]
        within = [torch.stack(self.within)[:, int(graded)]] if self.within else []
        if graded:
            return [*within, torch.stack(self.payloads1), *((layer != 0).sum(2).float() for layer in layers)]
        return [*within, torch.stack(self.units1), *(layer.abs().sum(2) for layer in layers)]


class _Neurons:
    """Those of one phase: ``read`` s¹ anew, ``fire1`` and ``fire`` what it and the layers above have to send.

    ``units1`` (B, [G,] P, N, D), of a token layer (B, [G,] P, N, H_c), and ``units``, each (B, [G,] Hᵢ), are the signed
    units of s¹, or s^c, and s², s³, … that have arrived in it, in steps of ``theta1`` and ``thetas``; ``transmitted``
    is what the latter come to, ``output`` the activation of the output. Where there is a ``loss``, ``lost1`` and
    ``lost`` were sent besides. ``stale`` (B,): where s² has sent something since s¹ last looked. ``before`` had been
    transmitted when the phase began.
    """

    loss: Loss | None = None
    lost1: Tensor
    lost: list[Tensor]

    until_silent: ClassVar[bool]  # the phase ends where nobody sends
    projection: FreeProjection | Nudges
    units1: Tensor
    units: list[Tensor]
    transmitted: list[Tensor]
    output: Tensor
    stale: Tensor

    def __init__(self, layer: DenseProjection, before: State, theta1: float, thetas: list[float]) -> None:
        self.layer, self.network, self.before, self.theta1, self.thetas = layer, layer.network, before, theta1, thetas
        self.last = len(thetas) - 1

    def up(self, units: Tensor, texts: Texts) -> Tensor:
        """w₂ of ``units`` (b, [G,] P, N, D) of s¹, or of the sums over those of a token layer."""
        if not self.network.shape.compared:
            return units.flatten(units.dim() - 3) @ self.layer.w2.T
        assert self.layer.inputs.sums is not None
        found = summed(units.to(self.layer.full), chosen(self.layer.inputs.sums, texts))
        return found.flatten(-2) @ self.network.weights[0].T

    def losing(self, loss: Loss | None) -> Self:
        """The same neurons with ``loss``."""
        if loss is not None:
            self.loss, self.lost1 = loss, torch.zeros_like(self.units1)
            self.lost = [torch.zeros_like(layer) for layer in self.units]
        return self

    def deliver1(self, arrived: Tensor, own: Tensor, texts: Texts) -> Tensor:
        """What arrives of s¹ of the texts named, of whose units ``arrived`` have before and whose activation is
        ``own``."""
        if self.loss is None:
            return self.fire1(arrived, own, texts)
        sent = self.fire1(arrived + self.lost1[texts], own, texts)
        lost = self.loss.of(sent)
        self.lost1[texts] += lost
        return sent - lost

    def deliver(self, index: int, fire: Callable[[Tensor], Tensor]) -> Tensor:
        """What arrives of a layer above s¹, which sends what ``fire`` makes of the units that it has sent."""
        arrived = self.units[index]
        if self.loss is None:
            sent = fire(arrived)
        else:
            sent = fire(arrived + self.lost[index])
            lost = self.loss.of(sent)
            self.lost[index] = self.lost[index] + lost
            sent = sent - lost
        self.units[index] = arrived + sent
        return sent

    def fire1(self, sent: Tensor, own: Tensor, texts: Texts) -> Tensor:
        """The units that s¹ of the texts named sends after those ``sent`` before; its activation is ``own``."""
        raise NotImplementedError

    def awaits(self, within: list[Tensor], units1: Tensor, s2: Tensor) -> Tensor:
        """Which texts read s¹ again, (B,): where s² has sent something now, or s^c or s¹ of a token layer."""
        if self.network.shape.clamped:
            return torch.zeros_like(self.stale)
        sent = [s2, *(part for each in within for part in (units1, each[0]))]
        return torch.stack([(part != 0).view(len(part), -1).any(1) for part in sent]).any(0)


class FreeNeurons(_Neurons):
    """A neuron sends once it is ``deadband`` steps from what it has transmitted, the output once it is half a step."""

    until_silent = True

    projection: FreeProjection

    def __init__(
        self, projection: FreeProjection, before: State, theta1: float, thetas: list[float], deadband: float
    ) -> None:
        super().__init__(projection.layer, before, theta1, thetas)
        self.projection = projection
        self.units1, self.units = before.projection.clone(), [torch.zeros_like(layer) for layer in before.layers]
        self.transmitted, self.output = list(before.layers), before.output
        self.deadbands = [*[deadband] * self.last, 0.5]
        self.deadband = deadband
        self.stale = torch.ones(len(before.output), dtype=torch.bool, device=before.output.device)

    def read(self, texts: Texts) -> Tensor:
        """From what s² has transmitted."""
        s2, sent = chosen(self.transmitted[0], texts), self.theta1 * chosen(self.units1, texts)
        return self.projection.free(s2, texts, sent)

    def fire1(self, before: Tensor, own: Tensor, texts: Texts) -> Tensor:
        """The change of its activation."""
        return send_on_change(before, own, self.theta1, self.deadband)

    def fire(self, index: int, below: Tensor) -> Tensor:
        """The change of its activation since ``before``."""
        u = self.network.biases[index] + below
        if index < self.last:
            u = u + self.transmitted[index + 1] @ self.network.downward[index + 1]
        own, origin, theta = sigma(u), self.before.layers[index], self.thetas[index]
        if index == self.last:
            self.output = own
        arrived = self.deliver(index, lambda sent: send_on_change(sent, own - origin, theta, self.deadbands[index]))
        self.transmitted[index] = origin + theta * self.units[index]
        return arrived

    def seen(self, group: int) -> tuple[State, State]:
        """Patterns and a token layer learn in the nudges: nothing has changed."""
        end, _ = self.ends(group)
        return 0 * end, end

    def ends(self, group: int) -> tuple[State, State]:
        """Synapses see what is transmitted only."""
        found = State(self.theta1 * self.units1, tuple(self.transmitted))
        return found, found


class NudgedNeurons(_Neurons):
    """All nudges ``betas`` side by side, from the end of the free phase: dithered changes since then."""

    until_silent = False
    projection: Nudges

    def __init__(
        self,
        free: FreeProjection,
        start: State,
        output: Tensor,
        betas: tuple[float, ...],
        thetas: tuple[float, float],
        circuit: Circuit,
        dither: Dither,
    ) -> None:
        """``start`` had been transmitted and ``output`` was the output's own activation when the free phase ended.

        ``thetas`` are those of s¹ and of the layers above.
        """
        layer, groups, full = free.layer, len(betas), free.layer.full
        super().__init__(layer, start, thetas[0], [thetas[1]] * len(start.layers))
        self.units1, self.units = _like(start.projection, groups), [_like(below, groups) for below in start.layers]
        self.transmitted, self.own = list(self.units), list(self.units)
        self.own1 = torch.zeros_like(self.units1, dtype=layer.w2.dtype)
        self.xi1, self.xi = dither(start.projection), [dither(below) for below in start.layers]
        self.projection = free.anchor(circuit, start, groups, dither)
        current = read_below(self.network, free.batch, start.projection.to(full)) @ self.network.weights[0].T
        target = layer.inputs.target
        self.u0, self.output0 = StackAnchor.of(self.network, start.layers, current, target).u, output.unsqueeze(1)
        self.beta = torch.tensor(betas, dtype=full, device=target.device).view(1, groups, 1)
        self.pull = target.unsqueeze(1) - self.output0
        self.stale = torch.zeros(len(target), dtype=torch.bool, device=target.device)  # s¹ has nothing to say yet

    def read(self, texts: Texts) -> Tensor:
        """Its change since, by that of s²."""
        s2, sent = chosen(self.transmitted[0], texts), self.theta1 * chosen(self.units1, texts)
        own = self.own1[texts] = self.projection.change(s2, texts, sent).to(self.own1.dtype)
        return own

    def fire1(self, before: Tensor, own: Tensor, texts: Texts) -> Tensor:
        """The dithered change."""
        return send_dithered(before, own, self.theta1, chosen(self.xi1, texts))

    def fire(self, index: int, below: Tensor) -> Tensor:
        """The dithered change of its activation; that of the output is pulled."""
        if index < self.last:
            u = below + self.transmitted[index + 1] @ self.network.downward[index + 1]
        else:
            u = below + self.beta * (self.pull - self.own[index])
        self.own[index] = sigma(self.u0[index] + u) - sigma(self.u0[index])
        if index == self.last:
            self.output = self.output0 + self.own[index]
        theta = self.thetas[index]
        arrived = self.deliver(index, lambda sent: send_dithered(sent, self.said(index), theta, self.xi[index]))
        self.transmitted[index] = theta * self.units[index]
        return arrived

    def said(self, index: int) -> Tensor:
        """What a layer above s¹ has to transmit: its own change."""
        return self.own[index]

    def seen(self, group: int) -> tuple[State, State]:
        """(change, mean over it) of what the patterns and a token layer see in one nudge."""
        projection, layers = self.theta1 * self.units1[:, group], tuple(layer[:, group] for layer in self.transmitted)
        change, mean = self.recall(group)
        moved = State(projection, layers, change)
        return moved, replace(self.before + 0.5 * replace(moved, recall=()), recall=mean)

    def recall(self, group: int) -> tuple[Recall, Recall]:
        """(change, mean over it) of what the patterns see in one nudge."""
        if not (self.network.shape.learnt or self.network.shape.compared):
            return (), ()
        return self.projection.recall(self.transmitted[0][:, group], group, self.theta1 * self.units1[:, group])

    def ends(self, group: int) -> tuple[State, State]:
        """Those of one nudge."""
        change, own = self.theta1 * self.units1[:, group], self.own1[:, group].to(self.before.output.dtype)
        transmitted = self.before + State(change, tuple(layer[:, group] for layer in self.transmitted))
        return transmitted, self.before + State(own, tuple(layer[:, group] for layer in self.own))


class NeuronsWithoutOffset(NudgedNeurons):
    """The same where the errors e = h* − a* of the free phase are not kept: the nudges transmit them as well."""

    def __init__(self, free: FreeProjection, start: State, *others: Any) -> None:
        super().__init__(free, start, *others)
        self.error1 = (start.projection - free.own).unsqueeze(1)
        self.errors = [h.unsqueeze(1) - sigma(u) for h, u in zip(start.layers, self.u0, strict=True)]
        self.stale = ~self.stale

    def fire1(self, before: Tensor, own: Tensor, texts: Texts) -> Tensor:
        """The dithered change less the error."""
        return super().fire1(before, own - self.error1[texts], texts)

    def said(self, index: int) -> Tensor:
        """Its own change less the error."""
        return self.own[index] - self.errors[index]


Neurons = FreeNeurons | NudgedNeurons


def _like(layer: Tensor, groups: int) -> Tensor:
    return layer.new_zeros(len(layer), groups, *layer.shape[1:])
