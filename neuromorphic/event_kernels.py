"""Compiled loops of the event-driven path: what spikes do to the neurons that they reach."""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


class Computed(NamedTuple):
    """Rows of s¹ computed anew: row ``rows[m]`` has the activations ``own[source[m]]``."""

    own: Floats
    source: NDArray[np.int64]
    rows: NDArray[np.int64]


class Code(NamedTuple):
    """How s¹ sends: θ₁, 1/θ₁ and 1 − deadband."""

    threshold: float
    inverse: float
    margin: float


class TokenWires(NamedTuple):
    """Synapses of a token layer, a row a sender: w_aᵀ from s¹, w_a/τ to the queries, w₂ᵀ to s², w₂/τ from it."""

    found: Floats
    asked: Floats
    up: Floats
    down: Floats


class Tokens(NamedTuple):
    """A token layer of one text, of R tokens: inputs ``u`` of s^c but for what s² sends, signed units that s¹ and s^c
    have sent, what s^c has added to the queries since they were last computed (R, ·); ``back`` (P, H_c) is what s²
    sends to the tokens of each projection, before the 1/√n of ``scales`` (P,), ``of`` (R,) the projection of each;
    ``asked`` (R, D) is x of each, by which queries and s¹ are multiplied."""

    u: Floats
    found: Floats
    units: Floats
    change: Floats
    back: Floats
    scales: Floats
    of: NDArray[np.int64]
    asked: Floats


class Codes(NamedTuple):
    """How s², s³, … send: θ, 1/θ, 1 − deadband and what they count from, one of each a layer."""

    thresholds: Floats
    inverses: Floats
    margins: Floats
    origins: Floats


class Wires(NamedTuple):
    """Synapses between the layers above s¹, a row a sender, and the order of updates."""

    up: tuple[Floats, ...]
    down: tuple[Floats, ...]
    order: NDArray[np.int64]


class Layers(NamedTuple):
    """s², s³, …: inputs, signed units sent so far and in this step, each (Hᵢ,)."""

    u: tuple[Floats, ...]
    units: tuple[Floats, ...]
    sent: tuple[Floats, ...]


@numba.njit(cache=True, fastmath={"contract"})
def add(weights: Floats, senders: NDArray[np.int64], values: Floats, into: Floats) -> None:
    """into ← into + Σ_m values[m] · weights[senders[m]], of each row its first len(into).

    Eight senders at a time: the rows come from memory far away, and more of them are then on their way at once.
    """
    size, count = len(into), len(senders)
    together = count - count % 8
    for m in range(0, together, 8):
        a, b, c, d = weights[senders[m]], weights[senders[m + 1]], weights[senders[m + 2]], weights[senders[m + 3]]
        e, f, g, h = weights[senders[m + 4]], weights[senders[m + 5]], weights[senders[m + 6]], weights[senders[m + 7]]
        p, q, r, s = values[m], values[m + 1], values[m + 2], values[m + 3]
        t, v, w, x = values[m + 4], values[m + 5], values[m + 6], values[m + 7]
        for k in range(size):
            first = (p * a[k] + q * b[k]) + (r * c[k] + s * d[k])
            second = (t * e[k] + v * f[k]) + (w * g[k] + x * h[k])
            into[k] += first + second
    for m in range(together, count):
        row, value = weights[senders[m]], values[m]
        for k in range(size):
            into[k] += value * row[k]


@numba.njit(cache=True, fastmath={"contract", "reassoc"})
def hear(sent: Floats, threshold: float, w2: Floats, query: Floats, change: Floats, least: float) -> NDArray[np.int64]:
    """Add the spikes of s² to the queries of all rows: change ← change + θ₂ Σ_j n_j w₂[j]; (n, D).

    Returns the rows ``taken_over``.
    """
    hear_sums(sent, threshold, w2, change)
    return taken_over(query, change, least)


@numba.njit(cache=True, fastmath={"contract", "reassoc"})
def hear_sums(sent: Floats, threshold: float, w2: Floats, into: Floats) -> None:
    """into ← into + θ₂ Σ_j n_j w₂[j], of the spikes ``sent`` by s²."""
    senders, values, count = np.empty(len(sent), dtype=np.int64), np.empty_like(sent), 0
    for j in range(len(sent)):
        if sent[j] != 0:
            senders[count], values[count] = j, threshold * sent[j]
            count += 1
    add(w2, senders[:count], values[:count], into.reshape(-1))


@numba.njit(cache=True, fastmath={"contract", "reassoc"})
def taken_over(query: Floats, change: Floats, least: float) -> NDArray[np.int64]:
    """The rows with |change|² > ``least`` (below 0: all), whose query takes it over."""
    moved = np.empty(len(query), dtype=np.int64)
    found = 0
    for i in range(len(query)):
        row, whole, square = change[i], query[i], least * 0
        for k in range(len(row)):
            square += row[k] * row[k]
        if square > least:
            moved[found] = i
            found += 1
            for k in range(len(row)):
                whole[k] += row[k]
                row[k] = 0
    return moved[:found]


@numba.njit(cache=True)
def send_rows(computed: Computed, units: Floats, code: Code, columns: Floats, u: Floats) -> int:
    """Let the neurons of these rows of s¹ send what changed, and s² hear it; returns the unit spikes.

    e = a/θ − sent, n = sign(e) ⌊|e| + margin⌋, u ← u + θ₁ n · column.
    """
    own, source, rows = computed.own, computed.source, computed.rows
    dim = own.shape[1]
    total = 0
    senders, values, current = np.empty(dim, dtype=np.int64), np.empty(dim, dtype=own.dtype), np.empty_like(u)
    for m in range(len(rows)):
        found, sent = send(own[source[m]], units[rows[m]], code, senders, values)
        total += sent
        if found:  # summed by row first, which rounds less than one long sum
            reach(columns[rows[m] * dim :], senders[:found], values[:found], code.threshold, current, u)
    return total


@numba.njit(cache=True)
def send_tokens(
    computed: Computed, tokens: Tokens, codes: tuple[Code, Code], wires: TokenWires, u: Floats, count: NDArray[np.int64]
) -> None:
    """Let s¹ of the rows ``computed`` send what changed to s^c of its token, and s^c of all tokens to its query and,
    through the sums, to s², whose inputs are ``u``. Adds the unit spikes of both to ``count``.
    """
    (first, second), units = codes, tokens.units.shape[1]
    dim = computed.own.shape[1]
    senders, values = np.empty(max(dim, units), dtype=np.int64), np.empty(max(dim, units), dtype=u.dtype)
    heard, asked, current = np.empty(units, dtype=u.dtype), np.empty(dim, dtype=u.dtype), np.empty_like(u)
    for m in range(len(computed.rows)):
        row = computed.rows[m]
        found, sent = send(computed.own[computed.source[m]], tokens.found[row], first, senders, values)
        count[0] += sent
        if found:
            reach(wires.found, senders[:found], values[:found], first.threshold, heard, tokens.u[row])
    own = np.empty(units, dtype=u.dtype)
    for row in range(len(tokens.u)):
        mine, place = tokens.u[row], tokens.of[row]
        scale = tokens.scales[place]
        for k in range(units):
            own[k] = min(max((mine[k] + scale * tokens.back[place, k]) / 2, mine.dtype.type(0)), mine.dtype.type(1))
        found, sent = send(own, tokens.units[row], second, senders, values)
        count[1] += sent
        if found:
            asked[:] = 0
            add(wires.asked, senders[:found], values[:found], asked)
            for d in range(dim):
                tokens.change[row, d] += second.threshold * tokens.asked[row, d] * asked[d]
            reach(wires.up[place * units :], senders[:found], values[:found], scale * second.threshold, current, u)


@numba.njit(cache=True)
def send(own: Floats, before: Floats, code: Code, senders: NDArray[np.int64], values: Floats) -> tuple[int, int]:
    """Let neurons with the activations ``own`` send what changed since they sent the units ``before``.

    Those that do and their signed units go into ``senders`` and ``values``; returns how many they are, and the units.
    """
    found, total = 0, 0
    for k in range(len(own)):
        error = own[k] * code.inverse - before[k]
        n = np.floor(abs(error) + code.margin)
        if n > 0:
            senders[found] = k
            values[found] = n if error > 0 else -n
            before[k] += values[found]
            total += int(n)
            found += 1
    return found, total


@numba.njit(cache=True)
def reach(weights: Floats, senders: NDArray[np.int64], values: Floats, step: float, current: Floats, u: Floats) -> None:
    """u ← u + step Σ_m values[m] · weights[senders[m]]; ``current`` is space for the sum."""
    current[:] = 0
    add(weights, senders, values, current)
    for j in range(len(u)):
        u[j] += step * current[j]


@numba.njit(cache=True)
def send_layers(state: Layers, wires: Wires, codes: Codes, output: Floats, count: NDArray[np.int64]) -> None:
    """Update s², s³, … in turn: a = σ(u), e = (a − origin)/θ − units, n = sign(e) ⌊|e| + margin⌋.

    Each spike goes to both neighbours' ``u`` at once; s² sends down only where its spikes are ``hear``d. Fills ``sent``
    (signed units), ``output`` (the last layer's a) and ``count[1:]`` (unit spikes).
    """
    u, units, sent, up, down, order = state.u, state.units, state.sent, wires.up, wires.down, wires.order
    thresholds, inverses, origins, margins = codes.thresholds, codes.inverses, codes.origins, codes.margins
    last = len(u) - 1
    for index in order:
        mine = u[index]
        for j in range(len(mine)):
            own = min(max(mine[j] / 2, mine.dtype.type(0)), mine.dtype.type(1))
            if index == last:
                output[j] = own
            error = (own - origins[index]) * inverses[index] - units[index][j]
            n = np.floor(abs(error) + margins[index])
            if n <= 0:
                sent[index][j] = 0
                continue
            count[index + 1] += int(n)
            n = n if error > 0 else -n
            sent[index][j] = n
            units[index][j] += n
            weight = thresholds[index] * n
            if index < last:
                above, row = u[index + 1], up[index][j]
                for k in range(len(above)):
                    above[k] += weight * row[k]
            if index > 0:
                below, row = u[index - 1], down[index - 1][j]
                for k in range(len(below)):
                    below[k] += weight * row[k]
