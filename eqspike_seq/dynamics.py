"""What a backend is, and the dense one: rates relaxed to the fixed point.

One sweep updates every layer once (Bal & Sengupta 2023, Eq. 13–16, the nudge inside σ):

    s¹ ← HopAttn(x w₁ + F⁻¹(w₂ᵀ s²), X)            s^i ← σ(w_i s^{i−1} + w_{i+1}ᵀ s^{i+1} + b_i)
    s^n ← σ(w_n s^{n−1} + b_n + β(y − s^n))

The layers form a chain, so even and odd layers are updated in turn (*alternating*): the same fixed point in half the
sweeps of the *synchronous* update, which moves all layers from the same state.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from eqspike_seq.attention import by_text, hopattn, hopattn_change, key_bias, weights
from eqspike_seq.ledger import Ledger, dense_ledger, sweep_products
from eqspike_seq.network import Batch, Network, State, phi, sigma

Order = Literal["alternating", "synchronous"]


@dataclass(frozen=True)
class Equilibrium:
    """Where a phase ended, and how.

    ``rates`` is the state that Eq. 18 reads; ``deviation`` its change since the free phase where the backend relaxes
    changes (None where it does not). ``residual`` (B,) is the largest change of any unit above s¹ in the last step,
    ``steps`` (B,) those taken, ``converged`` (B,) whether the residual passed the tolerance. ``outputs`` (R, B, C) are
    the output rates at R readings, ``reading_steps`` apart, and ``events`` (R, B) what it took until then: synaptic
    events where there are spikes, else multiply-accumulates. ``memory`` is what the backend needs to start a nudge
    from here. ``trace`` holds what a recorded phase adds, each (steps or R, B, …): residual, phi, spikes. ``local``
    gives, where synapses do not learn from ``rates``, what each of them holds at the end of the phase in place of
    r_post r_pre, summed over the batch, by parameter name.
    """

    rates: State
    residual: Tensor
    steps: Tensor
    converged: Tensor
    outputs: Tensor
    events: Tensor
    ledger: Ledger
    reading_steps: int = 1
    deviation: State | None = None
    memory: object = None
    trace: dict[str, Tensor] = field(default_factory=dict)
    local: Callable[[], dict[str, Tensor]] | None = None


class Backend(Protocol):
    """Relaxes a network: the free phase, then nudges that start where it ended."""

    def free(self, network: Network, batch: Batch, record: bool = False) -> Equilibrium:
        """β = 0, from rest."""
        ...

    def nudge(
        self, network: Network, batch: Batch, start: Equilibrium, betas: tuple[float, ...], record: bool = False
    ) -> list[Equilibrium]:
        """One equilibrium for each β, all from ``start``; the output is pulled towards the one-hot labels."""
        ...


@dataclass(frozen=True)
class Inputs:
    """A batch made ready for a network: what stays constant over all phases.

    ``patterns`` (B, P, N, D) are the keys, ``bias`` (B, P, 1, N) or None their mask, ``rows`` (B, P, N, 1) or None the
    mask of the queries, ``drive`` x w₁ (B, P, N, D), ``target`` one-hot labels (B, C). Where s¹ is clamped, ``drive``
    is 2x, so that σ(drive) = x, and ``current`` (B, H₂) is w₂ x; else it is None.
    """

    patterns: Tensor
    bias: Tensor | None
    rows: Tensor | None
    drive: Tensor
    target: Tensor
    current: Tensor | None = None

    def take(self, keep: Tensor | slice) -> "Inputs":
        """The texts named only."""
        return Inputs(
            self.patterns[keep],
            None if self.bias is None else self.bias[keep],
            None if self.rows is None else self.rows[keep],
            self.drive[keep],
            self.target[keep],
            None if self.current is None else self.current[keep],
        )


def prepare(network: Network, batch: Batch, dtype: torch.dtype) -> Inputs:
    """Gather queries and keys, project the queries; N·D-sized tensors in ``dtype``, the target as the weights are."""
    shape = network.shape
    queries = [query for query, _ in shape.projections]
    keys = [key for _, key in shape.projections]
    x = batch.x.to(dtype)
    target = F.one_hot(batch.labels, shape.classes).to(network.w1.dtype)
    if shape.clamped:
        current = (x.flatten(1) @ network.weights[0].to(dtype).T).to(network.w1.dtype)
        return Inputs(x, None, None, 2 * x, target, current)
    mask = batch.mask if shape.masked else None
    return Inputs(
        patterns=x[:, keys],
        bias=None if mask is None else key_bias(mask[:, keys], dtype),
        rows=None if mask is None else mask[:, queries].unsqueeze(-1),
        drive=x[:, queries] @ network.w1.to(dtype),
        target=target,
    )


def above(network: Network, layers: tuple[Tensor, ...], index: int) -> Tensor:
    """w_{i+1}ᵀ s^{i+1} + b_i: what layer ``index`` of the stack gets apart from the layer below it."""
    if index + 1 == len(layers):
        return network.biases[index]
    return layers[index + 1] @ network.weights[index + 1] + network.biases[index]


def project(network: Network, inputs: Inputs, first: Tensor, w2: Tensor) -> Tensor:
    """s¹ from s²: HopAttn (or σ) of x w₁ + F⁻¹(w₂ᵀ s²), padding rows 0; (B, P, N, D)."""
    if network.shape.clamped:
        return inputs.patterns
    query = inputs.drive + (first.to(w2.dtype) @ w2).view(inputs.drive.shape)
    new = hopattn(query, inputs.patterns, inputs.bias) if network.shape.attention else sigma(query)
    return new if inputs.rows is None else new * inputs.rows


def sweep(
    network: Network,
    inputs: Inputs,
    state: State,
    beta: float = 0.0,
    order: Order = "alternating",
    w2: Tensor | None = None,
) -> State:
    """Every layer once. ``w2`` is the first stacked weight in the type of the large products, if it is another."""
    w2 = network.weights[0] if w2 is None else w2
    layers = list(state.layers)
    old = tuple(layers)
    projection = state.projection

    def update(index: int, below: Tensor, source: tuple[Tensor, ...]) -> Tensor:
        weight = w2 if index == 0 else network.weights[index]
        if index == 0 and inputs.current is not None:
            u = inputs.current + above(network, source, index)
        else:
            u = (below.to(weight.dtype) @ weight.T).to(network.w1.dtype) + above(network, source, index)
        if beta and index + 1 == len(layers):
            u = u + beta * (inputs.target - source[index])
        return sigma(u)

    if order == "synchronous":
        new = [update(i, projection.flatten(1) if i == 0 else old[i - 1], old) for i in range(len(old))]
        return State(project(network, inputs, old[0], w2), tuple(new))
    projection = project(network, inputs, old[0], w2)
    for index in [*range(1, len(layers), 2), *range(0, len(layers), 2)]:
        below = projection.flatten(1) if index == 0 else layers[index - 1]
        layers[index] = update(index, below, tuple(layers))
    return State(projection, tuple(layers))


def largest_change(new: tuple[Tensor, ...], old: tuple[Tensor, ...]) -> Tensor:
    """The largest change of any unit above s¹, for each text; (B,)."""
    return torch.stack([(a - b).abs().flatten(1).amax(1) for a, b in zip(new, old, strict=True)]).amax(0)


@dataclass(frozen=True)
class DenseBackend:
    """Rates, relaxed until the residual passes ``tolerance`` or for ``free_steps`` / ``nudge_steps`` sweeps at most.

    Nudges relax the *changes* δ = s^β − s* (their tolerance is ``tolerance``·|β|), so that with ``dtype`` bf16 the
    contrast of the two nudges does not drown in rounding. Each text stops by itself: no result depends on its batch.
    """

    free_steps: int = 50
    nudge_steps: int = 25
    tolerance: float = 1e-2
    dtype: torch.dtype = torch.float32
    order: Order = "alternating"

    def free(self, network: Network, batch: Batch, record: bool = False) -> Equilibrium:
        """The free phase, Eq. 13–16 with β = 0, from ``network.rest``."""
        inputs = prepare(network, batch, self.dtype)
        w2 = network.weights[0].to(self.dtype)
        count = len(batch)
        state = network.rest(count)
        final = State(state.projection.to(self.dtype), tuple(layer.clone() for layer in state.layers))
        residual = final.output.new_full((count,), float("inf"))
        steps = torch.zeros(count, dtype=torch.int64, device=residual.device)
        outputs, trace = [], _Trace(record)
        active = torch.arange(count, device=residual.device)
        current = inputs
        for _ in range(self.free_steps):
            if not len(active):
                break
            new = sweep(network, current, state, order=self.order, w2=w2)
            change = largest_change(new.layers, state.layers)
            _write(final, new, active)
            residual[active] = change
            steps[active] += 1
            outputs.append(final.output.clone())
            if record:
                trace.add(residual=residual.clone(), phi=phi(network, inputs.drive.to(network.w1.dtype), _float(final)))
            going = change > self.tolerance
            if not going.all():
                keep = going.nonzero().squeeze(1)
                active, state, current = active[keep], new.take(keep), current.take(keep)
            else:
                state = new
        return Equilibrium(
            rates=final,
            residual=residual,
            steps=steps,
            converged=residual <= self.tolerance,
            outputs=_stack(outputs, final.output),
            events=_products(network, batch, steps, len(outputs)),
            ledger=dense_ledger(network.shape, batch.mask, steps, "free"),
            memory=inputs,
            trace=trace.stacked(),
        )

    def nudge(
        self, network: Network, batch: Batch, start: Equilibrium, betas: tuple[float, ...], record: bool = False
    ) -> list[Equilibrium]:
        """All nudges in one batch, as changes from ``start``."""
        assert isinstance(start.memory, Inputs)
        inputs, base = start.memory, start.rates
        anchor = make_anchor(network, inputs, base, self.dtype)
        w2 = network.weights[0].to(self.dtype)
        count, groups = len(batch), len(betas)
        beta = torch.tensor(betas, dtype=network.w1.dtype, device=batch.labels.device).view(1, groups, 1)
        delta = State(
            base.projection.new_zeros(count, groups, *base.projection.shape[1:]),
            tuple(layer.new_zeros(count, groups, layer.shape[1]) for layer in base.layers),
        )
        final = State(delta.projection.clone(), tuple(layer.clone() for layer in delta.layers))
        scale = beta.abs().view(1, groups)
        residual = final.output.new_full((count, groups), float("inf"))
        steps = torch.zeros(count, dtype=torch.int64, device=residual.device)
        outputs, trace = [], _Trace(record)
        active, current = torch.arange(count, device=residual.device), anchor
        for _ in range(self.nudge_steps):
            if not len(active):
                break
            new = _change_sweep(network, current, delta, beta, w2, self.order)
            change = torch.stack([(a - b).abs().amax(2) for a, b in zip(new.layers, delta.layers, strict=True)])
            _write(final, new, active)
            residual[active] = change.amax(0)
            steps[active] += 1
            outputs.append(base.output.unsqueeze(1) + final.output)
            if record:
                drive = inputs.drive.to(network.w1.dtype)
                full = [_float(base) + _group(final, g) for g in range(groups)]
                trace.add(residual=residual.clone(), phi=torch.stack([phi(network, drive, s) for s in full], 1))
            going = (change.amax(0) > self.tolerance * scale).any(1)
            if not going.all():
                keep = going.nonzero().squeeze(1)
                active, delta, current = active[keep], new.take(keep), current.take(keep)
            else:
                delta = new
        empty = base.output.unsqueeze(1).expand(-1, groups, -1)
        series, recorded = _stack(outputs, empty), trace.stacked()
        return [
            Equilibrium(
                rates=_float(base) + _group(final, g),
                deviation=_group(final, g),
                residual=residual[:, g],
                steps=steps,
                converged=residual[:, g] <= self.tolerance * abs(betas[g]),
                outputs=series[:, :, g],
                events=_products(network, batch, steps, len(outputs)),
                ledger=dense_ledger(network.shape, batch.mask, steps, "nudge+" if betas[g] > 0 else "nudge-"),
                trace={name: values[:, :, g] for name, values in recorded.items()},
            )
            for g in range(groups)
        ]


@dataclass(frozen=True)
class Anchor:
    """What the change of every layer is taken from: inputs u* of each layer, and softmax weights or q* of s¹."""

    patterns: Tensor
    rows: Tensor | None
    probabilities: Tensor | None
    query: Tensor
    u: tuple[Tensor, ...]
    error: Tensor  # y − s*ⁿ

    def take(self, keep: Tensor | slice) -> "Anchor":
        return replace(
            self,
            patterns=self.patterns[keep],
            rows=None if self.rows is None else self.rows[keep],
            probabilities=None if self.probabilities is None else self.probabilities[keep],
            query=self.query[keep],
            u=tuple(u[keep] for u in self.u),
            error=self.error[keep],
        )


def make_anchor(
    network: Network, inputs: Inputs, base: State, dtype: torch.dtype, query: Tensor | None = None, top: int = 0
) -> Anchor:
    """u* once, in the precision of the weights, from s*; in the shapes of a nudge: (B, 1, Hᵢ).

    ``query`` is the one that s¹* belongs to, if not that of s²*; ``top`` as in ``weights``.
    """
    full = network.w1.dtype
    if query is None:
        query = inputs.drive.to(full)
        if not network.shape.clamped:
            query = query + (base.layers[0] @ network.weights[0]).view(inputs.drive.shape)
    query = query.to(full)
    probabilities = None
    if network.shape.attention:
        bias = None if inputs.bias is None else inputs.bias.to(full)
        probabilities = by_text(lambda q, k, b: weights(q, k.to(full), b, top).to(dtype), query, inputs.patterns, bias)
    below = [base.projection.to(full).flatten(1), *base.layers[:-1]]
    u = [
        low @ w.T + above(network, base.layers, i)
        for i, (low, w) in enumerate(zip(below, network.weights, strict=True))
    ]
    return Anchor(
        inputs.patterns,
        inputs.rows,
        probabilities,
        query,
        tuple(v.unsqueeze(1) for v in u),
        (inputs.target - base.output).unsqueeze(1),
    )


def project_change(network: Network, anchor: Anchor, change: Tensor) -> Tensor:
    """Change of s¹ that a change of its query brings, both (B, G, P, N, D), padding rows 0."""
    if network.shape.clamped:
        return torch.zeros_like(change)
    if network.shape.attention:
        assert anchor.probabilities is not None
        moved = hopattn_change(change, anchor.patterns, anchor.probabilities)
    else:
        query = anchor.query.unsqueeze(1)
        moved = (sigma(query + change) - sigma(query)).to(change.dtype)
    return moved if anchor.rows is None else moved * anchor.rows.unsqueeze(1)


def _change_sweep(network: Network, anchor: Anchor, delta: State, beta: Tensor, w2: Tensor, order: Order) -> State:
    """One sweep of the changes δ, (B, G, …): δs = σ(u* + δu) − σ(u*), δs¹ by ``hopattn_change``."""
    layers = list(delta.layers)
    old = tuple(layers)

    def projected() -> Tensor:
        if network.shape.clamped:
            return delta.projection
        return project_change(network, anchor, (old[0].to(w2.dtype) @ w2).view(delta.projection.shape))

    def update(index: int, below: Tensor, source: tuple[Tensor, ...]) -> Tensor:
        weight = w2 if index == 0 else network.weights[index]
        if index == 0 and network.shape.clamped:
            u = anchor.u[0].new_zeros(())
        else:
            u = (below.to(weight.dtype) @ weight.T).to(network.w1.dtype)
        if index + 1 < len(layers):
            u = u + source[index + 1] @ network.weights[index + 1]
        else:
            u = u + beta * (anchor.error - source[index])
        return sigma(anchor.u[index] + u) - sigma(anchor.u[index])

    if order == "synchronous":
        new = [update(i, delta.projection.flatten(2) if i == 0 else old[i - 1], old) for i in range(len(old))]
        return State(projected(), tuple(new))
    projection = projected()
    for index in [*range(1, len(layers), 2), *range(0, len(layers), 2)]:
        below = projection.flatten(2) if index == 0 else layers[index - 1]
        layers[index] = update(index, below, tuple(layers))
    return State(projection, tuple(layers))


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


def _write(target: State, source: State, rows: Tensor) -> None:
    if len(rows) == len(target.output):
        target.projection.copy_(source.projection)
        for old, new in zip(target.layers, source.layers, strict=True):
            old.copy_(new)
        return
    target.projection[rows] = source.projection
    for old, new in zip(target.layers, source.layers, strict=True):
        old[rows] = new


def _float(state: State) -> State:
    return State(state.projection.to(state.output.dtype), state.layers)


def _group(delta: State, group: int) -> State:
    return State(delta.projection[:, group].to(delta.output.dtype), tuple(layer[:, group] for layer in delta.layers))


def _products(network: Network, batch: Batch, steps: Tensor, readings: int) -> Tensor:
    """Multiply-accumulates of each text until each reading, (readings, B)."""
    taken = torch.arange(1, readings + 1, device=steps.device).unsqueeze(1).minimum(steps)
    return taken * sweep_products(network.shape, batch.mask)


def _stack(outputs: list[Tensor], like: Tensor) -> Tensor:
    return torch.stack(outputs) if outputs else like.new_zeros(0, *like.shape)
