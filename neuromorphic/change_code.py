"""Change-coded neurons: a signed unit spike says that an activation has moved by one threshold.

Free phase. Each neuron has its activation a = σ(u) (HopAttn at s¹) and what it has transmitted so far, h. Where they
differ by more than half a threshold θ it sends ⌊(a − h)/θ + ½⌋ signed unit spikes, and its synapses add them up.

Nudges. Each neuron transmits h* + d: h* is what it had transmitted when the free phase ended, d the *dithered* change
of its own activation since then, d = θ' ⌊(a − a*)/θ' + ξ⌋, with a fine θ' and one ξ ~ U[0, 1) for each neuron and text,
the same in both nudges, so that E d = a − a*. The quantisation error of the free phase, e = h* − a*, thereby stays
fixed: this is the same symmetric network with shifted activations, h = σ(u(h)) + e, it has a φ of its own, and Eq. 18
on what is *transmitted* is its EP gradient. Coarse spikes make the state inexact, not the gradient.

Patterns that are learnt see the query, as the spikes of s² have left it, and the change of their own share.

Only unit spikes cross a connection. The output's own activation is read and nudged, which is local to it.
Layers are updated in turn as in the dense backend; a text in which no neuron sends any more is done.
Sources: sigma-delta coding, O'Connor & Welling (2016), with EP O'Connor, Gavves & Welling (AISTATS 2019); the fixed
offset and the dither are ours.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, SkipValidation
from torch import Tensor

from eqspike_seq.config.examples import ONLY_TEXTS
from eqspike_seq.config.section import Needs, PerLayer, Positive
from eqspike_seq.errors import ConfigError
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import FeedbackRule, Network, State
from eqspike_seq.model.synapses import ByRule, read_below
from eqspike_seq.model.token_layer import dense_layer
from eqspike_seq.phases import Phase
from eqspike_seq.relaxation.equilibrium import Backend, PhaseEnd
from eqspike_seq.relaxation.stack import in_turn
from neuromorphic.activity import Activity, fan_outs
from neuromorphic.attention.gated import Circuit, FreeProjection, Gated, Texts
from neuromorphic.attention.token_changes import TokenProjection
from neuromorphic.changes import FreeNeurons, Neurons, NeuronsWithoutOffset, NudgedNeurons, Sent
from neuromorphic.neurons import Loss, SigmaDelta, Threshold
from neuromorphic.plasticity import Count, Rule, Side, local_products

CHIPS = 1_000_003  # seeds from one chip to the next
NUMBERS = 2**18  # of s¹ that send at once
TOKEN_LAYER = Needs("--network token-layer", lambda settings: settings.get("network") == "token-layer")


@dataclass(frozen=True)
class _Kept:
    """What nudges need of the free phase; ``output``: the output's own activation when it ended."""

    projection: FreeProjection
    output: Tensor


@dataclass(frozen=True)
class SigmaDeltaBackend(Backend):
    """Spiking neurons that send changes, simulated in time steps.

    Hidden neurons are taken to have transmitted ``origin`` before the free phase, the output ½, s¹ nothing. θ is
    ``projection_threshold`` at s¹, ``threshold`` in hidden layers, ``output_threshold`` at the output; θ' is
    ``projection_nudge_threshold`` at s¹, ``nudge_threshold`` above. ``events`` "graded" counts the units that a neuron
    sends at once as one event with a payload, and so as products. ``dither`` and ``offset`` False take away what makes
    it learn. ``circuit`` computes HopAttn (``attention``). ``dtype`` is that of the N·D-sized products; whole numbers
    up to 256 are exact in bf16.
    """

    name: ClassVar[str] = "spiking"
    free_steps: Positive = 12
    """T, the maximum number of time steps of the free phase."""
    nudge_steps: Positive = 8
    """K, the number of time steps of each nudge."""
    threshold: Annotated[tuple[Threshold, ...], PerLayer()] = (0.5,)
    """Change of activation per spike in the free phase: one value for all hidden layers, or one for each."""
    projection_threshold: Threshold = 0.5
    """Change of activation per spike in the free phase at s1."""
    deadband: Annotated[float, Field(ge=0.5, le=1)] = 0.5
    """How far, in thresholds, the activation of s1 or a hidden neuron may differ from what was sent before it fires."""
    output_threshold: Threshold = 0.05
    """Change of activation per spike at the output."""
    origin: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], PerLayer()] = (0.5,)
    """Value that neurons count as having sent at the start: one for all hidden layers, or one for each."""
    nudge_threshold: Threshold = 0.01
    """Change of activation per spike in the nudges, above s1."""
    projection_nudge_threshold: Annotated[Threshold, ONLY_TEXTS] = 0.02
    """Change of activation per spike in the nudges at s1."""
    token_threshold: Annotated[Threshold, TOKEN_LAYER] = 0.5
    """Change of activation per spike of a token layer in the free phase."""
    token_nudge_threshold: Annotated[Threshold, TOKEN_LAYER] = 0.01
    """Change of activation per spike of a token layer in the nudges."""
    events: Literal["unit", "graded"] = "unit"
    """What a neuron sends in one step counts as that many unit spikes, or as one graded event with a payload."""
    dither: bool = True
    offset: bool = True
    tolerance: Annotated[float, Field(ge=0)] = 0.1
    """A phase counts as converged if no unit changed by more than this in its last step."""
    neuron: SkipValidation[SigmaDelta] = SigmaDelta()
    circuit: SkipValidation[Circuit | None] = Gated()
    rule: SkipValidation[Rule] = Count()
    dtype: torch.dtype = torch.float32
    feedback_rules: ClassVar[tuple[FeedbackRule, ...]] = ("plain",)
    together: ClassVar[int] = 32

    def check(self) -> None:
        """Raises ConfigError for a rule that follows a trace."""
        if self.rule.follows != "window":
            raise ConfigError(
                f"--rule {self.rule.name}: with --neuron sigma-delta the trace is the sum of the received spikes, so "
                "trace and eqspike compute the same as count. Use count or membrane."
            )

    def free(self, network: Network, batch: Batch, record: bool = False) -> PhaseEnd[_Kept]:
        """From s¹ = 0 and ``origin`` until all are silent."""
        layer = dense_layer(network, batch, self.dtype)
        rest = layer.rest(len(batch))
        thetas = self.thresholds(len(rest.layers))
        circuit, theta1 = self.circuit if network.shape.attention else None, self.projection_threshold
        projection = (FreeProjection if circuit is None else circuit.projection)(layer, batch)
        if network.shape.compared:
            steps = (theta1, self.projection_nudge_threshold)
            graded, theta1 = self.events == "graded", self.token_threshold
            projection = TokenProjection(projection, steps, self.deadband, graded)
        origins = [*for_each(self.origin, len(rest.layers) - 1), 0.5]
        start = tuple(torch.full_like(s, origin) for s, origin in zip(rest.layers, origins, strict=True))
        before = State(torch.zeros_like(rest.projection), start)
        neurons = FreeNeurons(projection, before, theta1, thetas, self.deadband).losing(self._loss(batch.seed))
        sent = self._advance(neurons, self.free_steps, record)
        found = self._equilibrium(network, batch, neurons, sent, Phase.FREE)
        return replace(found, kept=_Kept(projection, sent.outputs[-1]))

    def nudge(
        self, network: Network, batch: Batch, start: PhaseEnd[_Kept], betas: tuple[float, ...], record: bool = False
    ) -> list[PhaseEnd[None]]:
        """All nudges side by side, from what has been transmitted, the dither in common."""
        compared, kept = network.shape.compared, start.kept
        theta1 = self.token_nudge_threshold if compared else self.projection_nudge_threshold
        thetas = (theta1, self.nudge_threshold)
        kind = NudgedNeurons if self.offset else NeuronsWithoutOffset
        drawn = self._dither(batch)
        neurons = kind(kept.projection, start.rates, kept.output, betas, thetas, self.circuit or Gated(), drawn)
        neurons.losing(self._loss(batch.seed + 1))
        sent = self._advance(neurons, self.nudge_steps, record)
        phases = [(Phase.of(beta), group) for group, beta in enumerate(betas)]
        return [self._equilibrium(network, batch, neurons, sent.of(g), phase, g) for phase, g in phases]

    def _advance(self, neurons: Neurons, steps: int, record: bool) -> Sent:
        """At most ``steps`` steps of all neurons."""
        sent, network = Sent(), neurons.network
        current = torch.zeros_like(neurons.transmitted[0])  # w₂ F(h¹)
        for _ in range(steps):
            units1, payloads1 = current.new_zeros(2, *current.shape[:-1])
            if bool(neurons.stale.any()):
                texts = _texts(neurons.stale)
                counted, arrived = self._deliver(neurons, texts, neurons.read(texts))
                units1[texts], payloads1[texts] = counted
                current[texts] = neurons.theta1 * arrived.to(current.dtype)
            above = list(neurons.units)
            for index in in_turn(len(above)):
                below = current if index == 0 else neurons.transmitted[index - 1] @ network.weights[index].T
                above[index] = neurons.fire(index, below)
            within = neurons.projection.sent_within()
            neurons.stale = neurons.awaits(within, units1, above[0])
            sent.add(within, (units1, payloads1), above, neurons.output)
            if record:
                sent.projections.append(neurons.units1.clone())
            if neurons.until_silent and not sent.busy():
                break
        return sent

    def _deliver(self, neurons: Neurons, texts: Texts, own: Tensor) -> tuple[Tensor, Tensor]:
        """Let s¹ of the texts named send, a few at a time, as what they need then stays in the cache.

        ``own`` are its activations. Returns (units, units sent at once counted once) of each text, (2, b, [G]), and
        w₂ F(units), (b, [G,] H₂).
        """
        above, together = own.dim() - 3, max(1, NUMBERS // own[0].numel())
        arrived = torch.empty_like(own, dtype=neurons.layer.w2.dtype)
        counted = neurons.units1.new_zeros(2, *own.shape[:above])
        for start in range(0, len(own), together):
            piece = slice(start, start + together)
            at = piece if isinstance(texts, slice) else texts[piece]
            before = neurons.units1[at]
            sent = neurons.deliver1(before, own[piece], at)
            neurons.units1[at] = arrived[piece] = before + sent
            flat = sent.flatten(above)
            counted[0, piece] = flat.abs().sum(-1)
            if self.events == "graded":
                counted[1, piece] = (flat != 0).sum(-1).to(counted.dtype)
        return counted, neurons.up(arrived, texts)

    def _loss(self, seed: int) -> Loss | None:
        """What becomes of spikes on their way in a phase."""
        lost, chip = self.neuron.lost, self.neuron.chip
        return Loss(lost, seed + CHIPS * chip) if lost else None

    def _dither(self, batch: Batch) -> Callable[[Tensor], Tensor]:
        """What draws ξ (B, 1, …) of a layer (B, …): one for each text and neuron, shared by the nudges."""
        generator = torch.Generator().manual_seed(batch.seed)

        def drawn(layer: Tensor) -> Tensor:
            shape = (len(layer), 1, *layer.shape[1:])
            if not self.dither:
                return layer.new_full(shape, 0.5)
            return torch.rand(shape, generator=generator, dtype=layer.dtype).to(layer.device)

        return drawn

    def _equilibrium(
        self,
        network: Network,
        batch: Batch,
        neurons: Neurons,
        sent: Sent,
        phase: Phase,
        group: int = 0,
    ) -> PhaseEnd[Any]:
        """Rates, residual and ledger of one group from what was sent."""
        transmitted, known = neurons.ends(group)
        units = sent.by_layer(graded=False)
        payloads = sent.by_layer(graded=True) if self.events == "graded" else []
        activity = Activity.of_changes(network, batch, neurons.projection.activity(group), units, payloads)
        pairs = zip(payloads or units, fan_outs(network, batch), strict=True)
        reached = torch.stack([events.double() * out for events, out in pairs]).sum(0)
        moved = zip(sent.above[-1], neurons.thetas, strict=True)
        residual = torch.stack([m.abs().amax(1) * theta for m, theta in moved]).amax(0)
        states = (transmitted, known, neurons.before)
        shown = zip(*([read_below(network, batch, s.projection), *s.layers] for s in states), strict=True)
        sides = [Side(h, own, before, h) for h, own, before in shown]
        projection = replace(sides[0], count=sides[0].own)  # w₁ sees the neuron's own activation
        return PhaseEnd(
            rates=transmitted,
            residual=residual,
            steps=activity.steps,
            converged=residual <= self.tolerance,
            outputs=torch.stack(sent.outputs),
            events=reached.cumsum(0),
            ledger=activity.ledger(network, batch, phase),
            trace=_recorded(neurons, sent) if sent.projections else {},
            synapses=ByRule(lambda: local_products(self.rule, network, batch, projection, sides, neurons.seen(group))),
            kept=None,
        )

    def thresholds(self, layers: int) -> list[float]:
        """θ of s², … sⁿ in the free phase."""
        return [*for_each(self.threshold, layers - 1), self.output_threshold]


def for_each(values: tuple[float, ...], layers: int) -> tuple[float, ...]:
    """One value for each hidden layer: those given, or the only one again and again."""
    return values * layers if len(values) == 1 else values


def _recorded(neurons: Neurons, sent: Sent) -> dict[str, Tensor]:
    """Spikes of every neuron above s¹, spikes of s¹ in all, residual and φ of what is transmitted, by step."""
    trace = {
        f"spikes_s{i}": torch.stack(layer).to(torch.int16)
        for i, layer in enumerate(zip(*sent.above, strict=True), start=2)
    }
    trace["spikes_s1"] = torch.stack(sent.units1)
    layer, values, residuals = neurons.layer, list[Tensor](), list[Tensor]()
    h = list(neurons.before.layers)
    for step, units1 in zip(sent.above, sent.projections, strict=True):
        changes = [theta * move for theta, move in zip(neurons.thetas, step, strict=True)]
        h = [level + change for level, change in zip(h, changes, strict=True)]
        state = State(neurons.before.projection + neurons.theta1 * units1, tuple(h))
        values.append(layer.phi(state))
        residuals.append(torch.stack([change.abs().amax(1) for change in changes]).amax(0))
    return {**trace, "residual": torch.stack(residuals), "phi": torch.stack(values)}


def _texts(chosen: Tensor) -> Texts:
    """The texts chosen; all of them without a copy."""
    return slice(None) if bool(chosen.all()) else chosen.nonzero().squeeze(1)
