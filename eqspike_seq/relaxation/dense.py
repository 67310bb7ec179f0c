"""The dense backend: rates relaxed to the fixed point.

One sweep updates every layer once (Bal & Sengupta 2023, Eq. 13–16, the nudge inside σ):

    s¹ ← HopAttn(x w₁ + F⁻¹(w₂ᵀ s²), X)            s^i ← σ(w_i s^{i−1} + w_{i+1}ᵀ s^{i+1} + b_i)
    s^n ← σ(w_n s^{n−1} + b_n + β(y − s^n))

The layers form a chain, so even and odd layers are updated in turn (*alternating*): the same fixed point in half the
sweeps of the *synchronous* update, which moves all layers from the same state. Nearly all work is in HopAttn and w₂, so
that an alternating sweep looks at s¹ once and then goes round the layers above it ``ROUNDS`` times.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, TypeVar

import torch
from torch import Tensor

from eqspike_seq.ledger import dense_ledger, sweep_products
from eqspike_seq.model.attention import Retrieval, hopattn_and_weights
from eqspike_seq.model.network import Batch, Network, State, phi, sigma
from eqspike_seq.model.projection import (
    Anchor,
    Inputs,
    above,
    feedback,
    full_query,
    in_sizes,
    input_of,
    make_anchor,
    prepare,
    project,
    project_change,
)
from eqspike_seq.phases import Phase
from eqspike_seq.relaxation.equilibrium import Equilibrium

Order = Literal["alternating", "synchronous"]
ROUNDS = 3  # of the layers above s¹ in an alternating sweep
FINER = 0.03  # the tolerance of changes, of that of rates, for each β: gradients are no better than their convergence


def updated(
    network: Network, inputs: Inputs, current: Tensor, source: tuple[Tensor, ...], index: int, beta: float = 0.0
) -> Tensor:
    """Layer ``index`` of the stack from its neighbours in ``source``, s² from ``current`` = w₂ F(s¹)."""
    u = current if index == 0 else source[index - 1] @ network.weights[index].T
    u = u + above(network, source, index)
    if beta and index + 1 == len(source):
        u = u + beta * (inputs.target - source[index])
    return sigma(u)


def in_turn(layers: int) -> list[int]:
    """Positions of s², s³, … in the order of their updates: those that w₂ does not reach first."""
    return [*range(1, layers, 2), *range(0, layers, 2)]


def settled(
    network: Network, inputs: Inputs, current: Tensor, layers: tuple[Tensor, ...], beta: float = 0.0
) -> tuple[Tensor, ...]:
    """The layers above s¹ after ``ROUNDS`` rounds, s¹ held."""
    new = list(layers)
    for index in ROUNDS * in_turn(len(new)):
        new[index] = updated(network, inputs, current, tuple(new), index, beta)
    return tuple(new)


def sweep(
    network: Network,
    inputs: Inputs,
    state: State,
    beta: float = 0.0,
    order: Order = "alternating",
    w2: Tensor | None = None,
) -> State:
    """s¹ and every layer above. ``w2`` is the first stacked weight in the type of the large products, if another."""
    w2 = network.weights[0] if w2 is None else w2
    projection = project(network, inputs, state.layers[0], w2)
    if order == "alternating":
        return State(
            projection,
            settled(network, inputs, input_of(network, inputs, projection, w2), state.layers, beta),
        )
    current = input_of(network, inputs, state.projection, w2)
    layers = [updated(network, inputs, current, state.layers, index, beta) for index in range(len(state.layers))]
    return State(projection, tuple(layers))


def largest_change(new: tuple[Tensor, ...], old: tuple[Tensor, ...]) -> Tensor:
    """The largest change of any unit above s¹, for each text; (B,)."""
    return torch.stack([(a - b).abs().flatten(1).amax(1) for a, b in zip(new, old, strict=True)]).amax(0)


@dataclass(frozen=True)
class DenseBackend:
    """Rates, relaxed until the residual passes ``tolerance`` or for ``free_steps`` / ``nudge_steps`` sweeps at most.

    Nudges relax the *changes* δ = s^β − s*, to ``FINER``·``tolerance``·|β|, so that with ``dtype`` bf16 the contrast of
    the two nudges does not drown in rounding. What the free phase has left unconverged is in both nudges alike and
    hardly moves the gradient. Each text stops by itself: no result depends on its batch.
    """

    free_steps: int = 50
    nudge_steps: int = 25
    tolerance: float = 1e-2
    dtype: torch.dtype = torch.float32
    order: Order = "alternating"
    together: ClassVar[int] = 32

    def free(self, network: Network, batch: Batch, record: bool = False) -> Equilibrium:
        """The free phase, Eq. 13–16 with β = 0, from ``network.rest``."""
        inputs, w2 = prepare(network, batch, self.dtype), network.w2(self.dtype)
        count, rest = len(batch), network.rest(1)
        resting = tuple(layer.expand(count, -1) for layer in rest.layers)
        state = State(rest.projection.expand(count, -1, -1, -1), resting)
        final = State(torch.zeros_like(inputs.drive), tuple(layer.clone() for layer in state.layers))
        residual = final.output.new_full((count,), float("inf"))
        steps = torch.zeros(count, dtype=torch.int64, device=residual.device)
        outputs, trace = [], _Trace(record)
        texts, current = _Texts.all(count, residual.device), inputs
        for step in range(1, self.free_steps + 1):
            new = sweep(network, current, state, order=self.order, w2=w2)
            change, rows = largest_change(new.layers, state.layers), texts.rows
            residual[rows] = texts.of(change)
            steps[rows] += 1
            going = texts.going & (change > self.tolerance) & (step < self.free_steps)
            texts.write(final, new, ~going | record)
            outputs.append(final.output.clone())
            if record:
                trace.add(residual=residual.clone(), phi=phi(network, inputs.drive.to(network.w1.dtype), _float(final)))
            texts, state, current = texts.left(going, new, current)
            if not len(texts.rows):
                break
        return Equilibrium(
            rates=final,
            residual=residual,
            steps=steps,
            converged=residual <= self.tolerance,
            outputs=torch.stack(outputs),
            events=_products(steps, sweep_products(network.shape, batch.mask, self.rounds), len(outputs)),
            ledger=dense_ledger(network.shape, batch.mask, steps, Phase.FREE, self.rounds),
            memory=inputs,
            trace=trace.stacked(),
        )

    def nudge(
        self, network: Network, batch: Batch, start: Equilibrium, betas: tuple[float, ...], record: bool = False
    ) -> list[Equilibrium]:
        """All nudges in one batch, as changes from ``start`` after one more sweep, in the precision of the weights."""
        assert isinstance(start.memory, Inputs)
        inputs = start.memory
        base, anchor = self._begun(network, batch, inputs, start.rates)
        w2 = network.w2(self.dtype)
        count, groups = len(batch), len(betas)
        beta = torch.tensor(betas, dtype=network.w1.dtype, device=batch.labels.device).view(1, groups, 1)
        delta = State(
            base.projection.new_zeros(count, groups, *base.projection.shape[1:]),
            tuple(layer.new_zeros(count, groups, layer.shape[1]) for layer in base.layers),
        )
        final = State(delta.projection.clone(), tuple(layer.clone() for layer in delta.layers))
        least = FINER * self.tolerance * beta.abs().view(1, groups)
        residual = final.output.new_full((count, groups), float("inf"))
        steps = torch.zeros(count, dtype=torch.int64, device=residual.device)
        still, moved = torch.zeros_like(steps), torch.zeros_like(steps, dtype=torch.bool)
        outputs, trace = [], _Trace(record)
        texts, current = _Texts.all(count, residual.device), anchor
        for step in range(1, self.nudge_steps + 1):
            rows = texts.rows
            moved[rows] |= texts.of(delta.layers[0].flatten(1).any(1))
            new = self._change_sweep(network, current, delta, beta, w2, bool(moved[rows].any()))
            changes = torch.stack([(a - b).abs().amax(2) for a, b in zip(new.layers, delta.layers, strict=True)])
            change = changes.amax(0)
            residual[rows] = texts.of(change)
            steps[rows] += 1
            still[rows] += ~moved[rows]
            going = texts.going & (change > least).any(1) & (step < self.nudge_steps)
            texts.write(final, new, ~going | record)
            outputs.append(base.output.unsqueeze(1) + final.output)
            if record:
                drive = inputs.drive.to(network.w1.dtype)
                states = [_float(base) + _float(_group(final, g)) for g in range(groups)]
                trace.add(residual=residual.clone(), phi=torch.stack([phi(network, drive, s) for s in states], 1))
            texts, delta, current = texts.left(going, new, current)
            if not len(texts.rows):
                break
        series, recorded = torch.stack(outputs), trace.stacked()
        swept = sweep_products(network.shape, batch.mask, self.rounds)
        spared = swept - sweep_products(network.shape, batch.mask, self.rounds, above=True)
        events = _products(steps, swept, len(outputs)) - _products(still, spared, len(outputs))
        found = []
        for g in range(groups):
            phase, once = Phase.of(betas[g]), int(g == 0)  # the sweep at the start is all nudges'
            taken = dense_ledger(network.shape, batch.mask, steps + once, phase, self.rounds, still)
            found.append(
                Equilibrium(
                    rates=base + _group(final, g),
                    deviation=_group(final, g),
                    residual=residual[:, g],
                    steps=steps,
                    converged=residual[:, g] <= least[0, g],
                    outputs=series[:, :, g],
                    events=events + once * swept,
                    ledger=taken,
                    trace={name: values[:, :, g] for name, values in recorded.items()},
                )
            )
        return found

    def _change_sweep(
        self, network: Network, anchor: Anchor, delta: State, beta: Tensor, w2: Tensor, moved: bool
    ) -> State:
        """One sweep of the changes δ, (B, G, …): δs = σ(u* + δu) − σ(u*), δs¹ by ``hopattn_change``.

        Until any unit of s² has ``moved``, s¹ rests too, and none of the large products is formed.
        """
        projection, large = delta.projection, moved and not network.shape.clamped
        if large:
            change = feedback(delta.layers[0].flatten(0, 1), w2)
            projection = project_change(anchor, change.view(projection.shape))

        def input_of(projection: Tensor) -> Tensor:
            return (projection.flatten(2) @ w2.T).to(network.w1.dtype) if large else anchor.u[0].new_zeros(())

        def update(current: Tensor, source: tuple[Tensor, ...], index: int) -> Tensor:
            u = current if index == 0 else source[index - 1] @ network.weights[index].T
            if index + 1 < len(source):
                u = u + source[index + 1] @ network.weights[index + 1]
            else:
                u = u + beta * (anchor.error - source[index])
            return sigma(anchor.u[index] + u) - sigma(anchor.u[index])

        if self.order == "synchronous":
            current = input_of(delta.projection)
            return State(projection, tuple(update(current, delta.layers, index) for index in range(len(delta.layers))))
        layers, current = list(delta.layers), input_of(projection)
        for index in ROUNDS * in_turn(len(layers)):
            layers[index] = update(current, tuple(layers), index)
        return State(projection, tuple(layers))

    def _begun(self, network: Network, batch: Batch, inputs: Inputs, rates: State) -> tuple[State, "Anchor"]:
        """The state after one more sweep in the precision of the weights, and what changes are taken from."""
        full, shares, projection = network.weights[0], None, rates.projection
        exact = inputs if self.dtype == full.dtype else prepare(network, batch, full.dtype)
        query = full_query(network, exact, rates.layers[0])
        exact = replace(exact, drive=query)  # x w₁ by itself has been used
        if network.shape.attention:
            projection, shares = hopattn_and_weights(query, exact.patterns, exact.bias, self.dtype)
        elif not network.shape.clamped:
            projection = sigma(query)
        if exact.rows is not None:
            projection.mul_(exact.rows)
        below = input_of(network, exact, projection, full)
        base = State(projection.to(self.dtype), settled(network, exact, below, rates.layers))
        if shares is None:
            return base, make_anchor(network, inputs, base, query, below)
        start = Retrieval.of(query, inputs.patterns, inputs.bias, shares, base.projection)
        return base, make_anchor(network, inputs, base, start, below)

    @property
    def rounds(self) -> int:
        """How often a sweep goes round the layers above s¹."""
        return ROUNDS if self.order == "alternating" else 1


Held = TypeVar("Held", Inputs, Anchor)


class _Trace:
    """Values of a recorded phase, one a step."""

    def __init__(self, on: bool) -> None:
        self.on = on
        self.values: dict[str, list[Tensor]] = {}

    def add(self, **values: Tensor) -> None:
        for name, value in values.items():
            self.values.setdefault(name, []).append(value)

    def stacked(self) -> dict[str, Tensor]:
        return {name: torch.stack(values) for name, values in self.values.items()}


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


def _products(steps: Tensor, swept: Tensor, readings: int) -> Tensor:
    """Multiply-accumulates of each text until each reading, (readings, B), ``swept`` (B,) in a sweep."""
    taken = torch.arange(1, readings + 1, device=steps.device).unsqueeze(1).minimum(steps)
    return taken * swept
