"""The dense backend: rates relaxed to the fixed point.

One sweep updates every layer once (Bal & Sengupta 2023, Eq. 13–16, the nudge inside σ):

    s¹ ← HopAttn(x w₁ + F⁻¹(w₂ᵀ s²), X)            s^i ← σ(w_i s^{i−1} + w_{i+1}ᵀ s^{i+1} + b_i)
    s^n ← σ(w_n s^{n−1} + b_n + β(y − s^n))

The layers form a chain, so even and odd layers are updated in turn (*alternating*): the same fixed point in half the
sweeps of the *synchronous* update, which moves all layers from the same state. Nearly all work is in HopAttn and w₂, so
that an alternating sweep looks at s¹ once and then goes round the layers above it ``ROUNDS`` times.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from eqspike_seq.config.section import Positive
from eqspike_seq.ledger import dense_ledger, sweep_products
from eqspike_seq.model.attention import OfTexts
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import FeedbackRule, Network, Shape, State, above_s1
from eqspike_seq.model.projection import DenseAnchor, DenseProjection, in_sizes
from eqspike_seq.model.synapses import Rates
from eqspike_seq.model.token_layer import dense_layer
from eqspike_seq.phases import Phase
from eqspike_seq.relaxation.equilibrium import Backend, PhaseEnd
from eqspike_seq.relaxation.stack import ROUNDS, Pull, StackAnchor, in_turn, largest_change, settled, updated

Order = Literal["alternating", "synchronous"]
FINER = 0.03  # the tolerance of changes, of that of rates, for each β: gradients are no better than their convergence
Held = TypeVar("Held", DenseProjection, "_Anchors")
Advance = Callable[[Held, State, "_Texts"], State]  # one sweep of the texts at hand


def sweep(projection: DenseProjection, state: State, beta: float = 0.0, order: Order = "alternating") -> State:
    """s¹ and every layer above."""
    network, pull = projection.network, Pull(projection.inputs.target, beta)
    s1 = projection.free(state.layers[0], state.projection, order == "synchronous")
    if order == "alternating":
        return State(s1, settled(network, projection.up(s1), state.layers, pull))
    current = projection.up(state.projection)
    layers = range(len(state.layers))
    return State(s1, tuple(updated(network, current, state.layers, index, pull) for index in layers))


@dataclass(frozen=True)
class DenseBackend(Backend):
    """Rates, updated in sweeps until they change by no more than ``tolerance``.

    Nudges relax the *changes* δ = s^β − s*, to ``FINER``·``tolerance``·|β|, so that with ``dtype`` bf16 the contrast of
    the two nudges does not drown in rounding. What the free phase has left unconverged is in both nudges alike and
    hardly moves the gradient. Each text stops by itself: no result depends on its batch.
    """

    name: ClassVar[str] = "dense"
    free_steps: Positive = 50
    """T, the maximum number of sweeps of the free phase."""
    nudge_steps: Positive = 25
    """K, the maximum number of sweeps of each nudge."""
    tolerance: Annotated[float, Field(ge=0)] = 1e-2
    """A phase ends when no unit changes by more than this in a sweep."""
    dtype: torch.dtype = torch.float32
    order: Order = "alternating"
    """Order of the updates within a sweep."""
    feedback_rules: ClassVar[tuple[FeedbackRule, ...]] = ("plain", "vector-field", "exact")
    together: ClassVar[int] = 32

    def free(self, network: Network, batch: Batch, record: bool = False) -> PhaseEnd[DenseProjection]:
        """The free phase, Eq. 13–16 with β = 0, from rest."""
        projection, count = dense_layer(network, batch, self.dtype), len(batch)
        rest = projection.rest(1)
        layers = tuple(layer.expand(count, -1) for layer in rest.layers)
        start = State(rest.projection.to(self.dtype).expand(count, -1, -1, -1), layers)
        final = State(start.projection.clone(), tuple(layer.clone() for layer in layers))

        def advance(held: DenseProjection, state: State, texts: _Texts) -> State:
            return sweep(held, state, order=self.order)

        def energy(state: State) -> Tensor:
            return projection.phi(_float(state))

        settling = _Settling(
            network.shape,
            final,
            self.free_steps,
            torch.tensor(self.tolerance, dtype=torch.float64),
            energy if record else None,
        )
        settling.run(advance, start, projection)
        return PhaseEnd(
            rates=final,
            residual=settling.residual,
            steps=settling.steps,
            converged=settling.residual <= self.tolerance,
            outputs=torch.stack(settling.outputs),
            events=settling.products(sweep_products(network.shape, batch.mask, self.rounds)),
            ledger=dense_ledger(network.shape, batch.mask, settling.steps, Phase.FREE, self.rounds),
            trace=settling.trace(),
            synapses=Rates(final),
            kept=projection,
        )

    def nudge(
        self,
        network: Network,
        batch: Batch,
        start: PhaseEnd[DenseProjection],
        betas: tuple[float, ...],
        record: bool = False,
    ) -> list[PhaseEnd[None]]:
        """All nudges in one batch, as changes from ``start`` after one more sweep, in the precision of the weights."""
        anchor, inputs = start.kept.anchor(start.rates, batch), start.kept.inputs
        layers = settled(network, anchor.current, start.rates.layers, Pull(inputs.target))
        base = State(anchor.s1, layers)
        stack = StackAnchor.of(network, layers, anchor.current, inputs.target)
        count, groups, shape = len(batch), len(betas), network.shape
        beta = torch.tensor(betas, dtype=network.dtype, device=batch.labels.device).view(1, groups, 1)
        delta = State(
            base.projection.new_zeros(count, groups, *base.projection.shape[1:]),
            tuple(layer.new_zeros(count, groups, layer.shape[1]) for layer in base.layers),
        )
        final = State(delta.projection.clone(), tuple(layer.clone() for layer in delta.layers))
        moved = torch.zeros(count, dtype=torch.bool, device=beta.device)
        still = torch.zeros(count, dtype=torch.int64, device=beta.device)

        def advance(held: _Anchors, state: State, texts: _Texts) -> State:
            rows = texts.rows
            moved[rows] |= texts.of(state.layers[0].flatten(1).any(1))
            still[rows] += ~moved[rows]
            return self._change_sweep(moving, held, state, beta, bool(moved[rows].any()))

        def energy(state: State) -> Tensor:
            states = [_float(base) + _float(_group(state, g)) for g in range(groups)]
            return torch.stack([start.kept.phi(state) for state in states], 1)

        least = FINER * self.tolerance * beta.abs().view(1, groups)
        settling = _Settling(shape, final, self.nudge_steps, least, energy if record else None)
        moving = network
        if shape.feedback == "exact":
            moving, anchor = network.transposed(), anchor.transposed()
        settling.run(advance, delta, _Anchors(anchor, stack))
        steps, recorded, outputs = settling.steps, settling.trace(), torch.stack(settling.outputs)
        swept = sweep_products(shape, batch.mask, self.rounds)
        spared = swept - sweep_products(shape, batch.mask, self.rounds, above=True)
        events = settling.products(swept) - settling.products(spared, still)
        found = []
        for g in range(groups):
            once = int(g == 0)  # the sweep at the start is all nudges'
            taken = dense_ledger(shape, batch.mask, steps + once, Phase.of(betas[g]), self.rounds, still)
            change, residual = _group(final, g), settling.residual[:, g]
            rates = base + change
            if shape.learnt or shape.compared:
                rates, change = anchor.with_recall(rates, change)
            found.append(
                PhaseEnd(
                    rates=rates,
                    residual=residual,
                    steps=steps,
                    converged=residual <= least[0, g],
                    outputs=base.output + outputs[:, :, g],
                    events=events + once * swept,
                    ledger=taken,
                    trace={name: values[:, :, g] for name, values in recorded.items()},
                    synapses=Rates(rates, change),
                    kept=None,
                )
            )
        return found

    def _change_sweep(self, network: Network, anchors: "_Anchors", delta: State, beta: Tensor, moved: bool) -> State:
        """One sweep of the changes δ, (B, G, …): by ``StackAnchor.changed``, δs¹ by ``DenseAnchor.change``.

        Until any unit of s² has ``moved``, s¹ rests too, and none of the large products is formed.
        """
        projection, large = delta.projection, moved and not network.shape.clamped
        stack = anchors.stack
        if large:
            projection = anchors.projection.change(delta.layers[0], projection)

        def current_of(s1: Tensor) -> Tensor:
            return anchors.projection.up(s1).to(network.dtype) if large else stack.u[0].new_zeros(())

        def update(current: Tensor, source: tuple[Tensor, ...], index: int) -> Tensor:
            return stack.changed(network, current, source, index, beta)

        if self.order == "synchronous":
            current = current_of(delta.projection)
            return State(projection, tuple(update(current, delta.layers, index) for index in range(len(delta.layers))))
        layers, current = list(delta.layers), current_of(projection)
        for index in ROUNDS * in_turn(len(layers)):
            layers[index] = update(current, tuple(layers), index)
        return State(projection, tuple(layers))

    @property
    def rounds(self) -> int:
        """How often a sweep goes round the layers above s¹."""
        return ROUNDS if self.order == "alternating" else 1


@dataclass(frozen=True)
class _Anchors(OfTexts):
    """What changes are taken from, of s¹ and of the layers above."""

    projection: DenseAnchor
    stack: StackAnchor


class _Settling:
    """Sweeps of a phase, free or nudged, until each text has converged, into ``final`` (B, [G,] …).

    ``residual`` (B, [G]) is compared with ``least``, ``steps`` (B,) are those taken; ``outputs`` and, where ``energy``
    is asked for, residual and φ are kept after each.
    """

    def __init__(
        self, shape: Shape, final: State, most: int, least: Tensor, energy: Callable[[State], Tensor] | None
    ) -> None:
        self.shape, self.final, self.most, self.least, self.energy = shape, final, most, least, energy
        count = len(final.output)
        self.residual = final.output.new_full(final.output.shape[:-1], float("inf"))
        self.steps = torch.zeros(count, dtype=torch.int64, device=self.residual.device)
        self.outputs: list[Tensor] = []
        self.residuals: list[Tensor] = []
        self.energies: list[Tensor] = []

    def run(self, advance: Advance[Held], state: State, held: Held) -> None:
        """From ``state`` by sweeps of ``advance``, which is given what is ``held`` of the texts at hand."""
        texts = _Texts.all(len(self.steps), self.residual.device)
        for step in range(1, self.most + 1):
            new, rows = advance(held, state, texts), texts.rows
            units = above_s1(self.shape, new), above_s1(self.shape, state)
            change = largest_change(*units, self.residual.dim())
            self.residual[rows] = texts.of(change)
            self.steps[rows] += 1
            going = texts.going & (change > self.least).view(len(change), -1).any(1) & (step < self.most)
            texts.write(self.final, new, ~going | (self.energy is not None))
            self.outputs.append(self.final.output.clone())
            if self.energy is not None:
                self.residuals.append(self.residual.clone())
                self.energies.append(self.energy(self.final))
            texts, state, held = texts.left(going, new, held)
            if not len(texts.rows):
                break

    def products(self, swept: Tensor, most: Tensor | None = None) -> Tensor:
        """Multiply-accumulates of each text until each reading, (R, B), ``swept`` (B,) in each of ``most`` sweeps."""
        readings = torch.arange(1, len(self.outputs) + 1, device=swept.device).unsqueeze(1)
        return readings.minimum(self.steps if most is None else most) * swept

    def trace(self) -> dict[str, Tensor]:
        """What was recorded."""
        if self.energy is None:
            return {}
        return {"residual": torch.stack(self.residuals), "phi": torch.stack(self.energies)}


@dataclass(frozen=True)
class _Texts:
    """The rows of the tensors at hand: texts that have not stopped, and some that have, up to a multiple of ``SIZES``.

    ``at`` is the place of each in the batch, ``going`` whether it has not stopped. What is computed of the others is
    not looked at: no result depends on its batch.
    """

    at: Tensor
    going: Tensor

    @classmethod
    def all(cls, count: int, device: torch.device) -> "_Texts":
        return cls(torch.arange(count, device=device), torch.ones(count, dtype=torch.bool, device=device))

    @property
    def rows(self) -> Tensor:
        """Places in the batch of the texts that have not stopped."""
        return self.at[self.going]

    def of(self, values: Tensor) -> Tensor:
        """Those of the texts that have not stopped."""
        return values[self.going]

    def write(self, target: State, source: State, ended: Tensor) -> None:
        """The layers of all that had not stopped, and s¹ of those that have now, which nobody asks for before."""
        rows, ended = self.rows, self.going & ended
        for old, new in zip(target.layers, source.layers, strict=True):
            old[rows] = self.of(new)
        if ended.all():
            target.projection[self.at] = source.projection
        elif ended.any():
            target.projection[self.at[ended]] = source.projection[ended]

    def left(self, going: Tensor, state: State, held: Held) -> tuple["_Texts", State, Held]:
        """What is left of (self, state, what is held) once texts that have stopped are left out."""
        keep = in_sizes(going)
        if len(keep) == len(going):
            return _Texts(self.at, going), state, held
        return _Texts(self.at[keep], going[keep]), state.take(keep), held.take(keep)


def _float(state: State) -> State:
    return State(state.projection.to(state.output.dtype), state.layers)


def _group(delta: State, group: int) -> State:
    return State(delta.projection[:, group], tuple(layer[:, group] for layer in delta.layers))
