"""One text at a time: the free phase of change-coded neurons, with work where spikes arrive and nowhere else.

The same neurons, order of updates and spikes as ``SigmaDeltaBackend.free``; what differs is where sums are formed:

    a spike of s¹, row i, component d      w₂ F(s¹) += θ₁ n · column (i, d) of w₂     H₂ additions
    a spike of s², neuron j                w₂ᵀ s²   += θ₂ n · row j of w₂             n D additions, real tokens only
    a spike of s³, … of neuron j           both neighbours' inputs += θ n · its row and its column

The query x w₁ of a word does not depend on its text: it is looked up. A text is its distinct words and how often each
occurs: softmax(q Kᵀ/√d) K sums over U stored words with weights c e^{score}, c their counts, and as long as s² has sent
nothing, rows of the same word are one row. Later only rows whose query has moved are computed. Padding does not exist.
Pooling queries, a row each, ask by q/τ in any text, and hear w₂ᵀ s²/τ. A token layer has a row for each token of each
text that asks, P texts one after the other. A spike of its s¹ = x∘r adds a column of w_a to s^c of the same token, one
of s^c a row of w_a/τ, times x, to the query and a column of w₂/√n to s², and one of s² a row of w₂/(τ√n) to all tokens.

Shapes: N positions of the network, n ≤ N tokens or Q pooling queries, U distinct words, D dimensions, Hᵢ units.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eqspike_seq.errors import EqspikeError
from eqspike_seq.ledger import HopAttnActivity, Ledger
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network
from eqspike_seq.phases import Phase
from eqspike_seq.relaxation.stack import in_turn
from eqspike_seq.text_ledgers import LedgerByText
from neuromorphic.activity import Activity, ProjectionActivity
from neuromorphic.attention.gated import Gated
from neuromorphic.change_code import SigmaDeltaBackend, for_each
from neuromorphic.event_kernels import (
    Code,
    Codes,
    Computed,
    Floats,
    Layers,
    Tokens,
    TokenWires,
    Wires,
    hear,
    hear_sums,
    send_layers,
    send_rows,
    send_tokens,
    taken_over,
)


@dataclass(frozen=True)
class Relaxed:
    """The free phase of an example whose texts have ``lengths`` words, or patterns, in R steps.

    ``outputs`` (R, C) are the output's own activations, ``spikes`` (R, layers) the unit spikes of s¹, s², …, those of a
    token layer after those of s¹; ``silent`` says whether nobody sent anything in the last step. ``rows`` (P,) token
    rows of HopAttn were computed, at ``retrievals`` moments. ``sent``, if recorded: the signed units of every neuron,
    s¹ (R, n, D), s^c (R, n, H_c), s² … sⁿ (R, Hᵢ).
    """

    lengths: tuple[int, ...]
    outputs: Floats
    spikes: NDArray[np.int64]
    rows: NDArray[np.int64]
    retrievals: int
    sent: tuple[Floats, ...] = ()

    @property
    def steps(self) -> int:
        """R."""
        return len(self.outputs)

    @property
    def silent(self) -> bool:
        """Whether the last step brought no spike."""
        return not self.spikes[-1].any()

    @property
    def predicted(self) -> int:
        """The class with the highest rate."""
        return int(self.outputs[-1].argmax())

    def ledger(self, network: Network) -> Ledger:
        """What it cost, as the ledger of ``SigmaDeltaBackend`` for this one text."""
        return ledgers([self], network).text(0)


def ledgers(found: Sequence[Relaxed], network: Network) -> LedgerByText:
    """What each of several texts cost.

    Rows of HopAttn are ``rows`` though rows of the same word were computed once: hardware has no such table.
    """
    shape, lengths = network.shape, torch.tensor([each.lengths for each in found])
    places = int(lengths.max()) if shape.pooling else shape.rows
    mask = torch.arange(places) < lengths.unsqueeze(2)
    batch = Batch(torch.empty(*mask.shape, 0), mask, torch.zeros(len(found), dtype=torch.int64))
    sent = np.zeros((max(each.steps for each in found), len(found), found[0].spikes.shape[1]), dtype=np.int64)
    for text, each in enumerate(found):
        sent[: each.steps, text] = each.spikes
    units = list(torch.from_numpy(sent).unbind(2))
    retrievals = torch.tensor([each.retrievals for each in found])
    took = (
        HopAttnActivity(torch.from_numpy(np.stack([each.rows for each in found])), retrievals)
        if shape.attention
        else None
    )
    activity = Activity.of_changes(network, batch, ProjectionActivity(retrievals, took), units)
    return activity.ledgers(network, batch, Phase.FREE)


class EventDriven:
    """A network made ready to relax one text after the other, in the type of its weights.

    ``table`` (V + 1, D) holds the word vectors by id. Changing the network afterwards changes nothing here.
    """

    def __init__(self, network: Network, settings: SigmaDeltaBackend, table: Tensor) -> None:
        """Raises EqspikeError for what is not done here; ``settings.dtype`` is not asked for."""
        circuit = supported(network, settings)
        shape, layers, stacked = network.shape, len(network.weights), network.weights[1:]
        self.shape, self.settings = shape, settings
        self.type = np.dtype(str(network.dtype).removeprefix("torch."))
        threshold = circuit.attention_threshold if shape.attention else 0.0
        self.least = self.type.type(threshold**2 * shape.dim if threshold else -1)  # |δq|² from which a row is computed
        self.patterns = self._array(table)
        asking, words = network.asking[0], table.to(network.dtype)
        self.drive = self._array(asking if shape.pooling else words @ asking)  # x w₁ of every word, or q/τ
        self.w2 = self._array(network.weights[0] / shape.temperature)  # row j: what a spike of s² adds to the queries
        self.columns = self._array(network.weights[0].T)  # row (i, d): what a spike of s¹ adds to s²
        up, down = (tuple(self._array(w) for w in ws) for ws in ([w.T for w in stacked], stacked))
        self.wires = Wires(up, down, np.array(in_turn(layers)))
        thetas, one, theta1 = settings.thresholds(layers), self.type.type, settings.projection_threshold
        margins = [*[1 - settings.deadband] * (layers - 1), 0.5]
        origins = [*for_each(settings.origin, layers - 1), 0.5]
        inverses = [1 / theta for theta in thetas]
        self.codes = Codes(*(np.array(values, dtype=self.type) for values in (thetas, inverses, margins, origins)))
        self.code, self.token_code = (
            Code(one(theta), one(1 / theta), one(1 - settings.deadband)) for theta in (theta1, settings.token_threshold)
        )
        if shape.compared:
            w_x, b_x, w_a = network.tokens
            self.current = self._array(words @ w_x.T + b_x)  # of s^c by every word
            self.tokens = TokenWires(self._array(w_a.T), self._array(w_a / shape.temperature), self.columns, self.w2)
        pairs = zip(network.biases, self.codes.origins, strict=True)
        rest = [torch.full_like(bias, float(origin)) for bias, origin in pairs]
        back = rest[0] @ network.weights[0] / shape.temperature
        self.feedback = self._array(back).reshape(shape.read[1] * shape.read[0], shape.read[2])
        self.inputs = []  # of s², s³, … before anybody has sent anything
        for index, bias in enumerate(network.biases):
            u = bias.clone()
            if index:
                u = u + network.weights[index] @ rest[index - 1]
            if index + 1 < layers:
                u = u + rest[index + 1] @ network.weights[index + 1]
            self.inputs.append(self._array(u))

    def _array(self, tensor: Tensor) -> Floats:
        return np.array(tensor.detach().cpu().numpy(), dtype=self.type, order="C")

    def free(
        self,
        ids: NDArray[np.integer],
        counts: NDArray[np.integer] | None = None,
        lengths: NDArray[np.integer] | None = None,
        record: bool = False,
    ) -> Relaxed:
        """Relax the text of these word ids, (n,), 1 … V, from rest; of patterns each once, with ``counts`` (n,).

        The texts of a pair stand one after the other, ``lengths`` (2,) of them.
        Raises EqspikeError where there are more than N words, or an id that is no word's.
        """
        tokens, texts = self.shape.rows, (len(ids),) if lengths is None else tuple(int(length) for length in lengths)
        if max(texts) > tokens and not self.shape.pooling:
            raise EqspikeError(f"got a text of {max(texts)} words, expected at most {tokens}. Shorten it first.")
        if len(ids) and not 0 < ids.min() <= ids.max() < len(self.patterns):
            raise EqspikeError(
                f"got word ids from {ids.min()} to {ids.max()}, expected 1 to {len(self.patterns) - 1}: "
                "leave padding and unknown words out"
            )
        settings = self.settings
        projection = _TokenLayer(self, ids, texts) if self.shape.compared else _Projection(self, ids, counts)
        u = tuple(values.copy() for values in self.inputs)
        units, sent = (tuple(np.zeros_like(values) for values in u) for _ in range(2))
        layers, output = Layers(u, units, sent), np.empty_like(u[-1])
        outputs, spikes, kept = [], [], []
        fired, rows, retrievals = True, np.zeros(len(self.shape.projections), dtype=np.int64), 0
        below = len(projection.sent)  # layers of units below s²
        for _ in range(settings.free_steps):
            count = np.zeros(len(u) + below, dtype=np.int64)
            before = [units.copy() for units in projection.sent] if record else []
            if fired:
                computed = projection.advance(sent[0], u[0], count)
                rows += computed
                retrievals += bool(computed.any()) or not self.shape.attention
            send_layers(layers, self.wires, self.codes, output, count[below - 1 :])
            fired = bool(count[below]) or below > 1 and bool(count[:below].any())
            outputs.append(output.copy())
            spikes.append(count)
            if record:
                now = zip(projection.sent, before, strict=True)
                kept.append([*(units - then for units, then in now), *(layer.copy() for layer in sent)])
            if not count.any():
                break
        recorded = tuple(np.stack(layer) for layer in zip(*kept, strict=True))
        return Relaxed(texts, np.stack(outputs), np.stack(spikes), rows, retrievals, recorded)

    def ledgers(self, found: Sequence[Relaxed], network: Network) -> LedgerByText:
        """What each of several texts cost."""
        return ledgers(found, network)


class _Projection:
    """s¹ of one text: ``units`` (n, D) that its neurons have sent.

    ``query`` (n, D) is that of each row when it was last computed, ``change`` what the spikes of s² have added since.
    ``drive`` has the different rows, ``word`` (n,) says which one each row is.
    """

    def __init__(self, of: EventDriven, ids: NDArray[np.integer], counts: NDArray[np.integer] | None) -> None:
        self.of, self.known, words = of, False, ids
        if of.shape.pooling:
            assert counts is not None
            self.word, self.drive = np.arange(of.shape.rows), of.drive
        else:
            words, self.word, counts = np.unique(ids, return_inverse=True, return_counts=True)
            self.drive = of.drive[words]
        self.all, dim = np.arange(len(self.word)), of.shape.dim
        self.units = np.zeros((len(self.word), dim), dtype=of.type)
        self.query = self.change = self.units[:0]  # not before s² has been heard
        self.keys = of.patterns[words]
        self.values = weighted(self.keys, counts)

    @property
    def sent(self) -> list[Floats]:
        """What its neurons have sent."""
        return [self.units]

    def advance(self, s2: Floats, u: Floats, count: NDArray[np.int64]) -> NDArray[np.int64]:
        """One step after s² has sent ``s2`` (H₂,): adds to ``u`` of s² and to ``count``; returns the rows computed."""
        computed = self.read(s2)
        count[0] = send_rows(computed, self.units, self.of.code, self.of.columns, u)
        return np.array([len(computed.rows) if self.of.shape.attention else 0])

    def read(self, sent: Floats) -> Computed:
        """Rows computed anew, after s² has sent ``sent`` (H₂,)."""
        of = self.of
        if not self.known:
            self.known = True
            if of.codes.origins[0] == 0:  # nothing comes back from s² yet: rows of one word are alike
                return Computed(self._own(self.drive), self.word, self.all)
            return Computed(self._own(self._rest()), self.all, self.all)
        if not len(self.query):
            self.query, self.change = self._rest(), np.zeros_like(self.units)
        rows = hear(sent, of.codes.thresholds[0], of.w2, self.query, self.change, of.least)
        return Computed(self._own(self.query[rows]), np.arange(len(rows)), rows)

    def _rest(self) -> Floats:
        """Queries of all rows before s² has sent anything."""
        return self.drive[self.word] + self.of.feedback[: len(self.word)]

    def _own(self, queries: Floats) -> Floats:
        """HopAttn(q, K), or σ(q), of the queries (R, D)."""
        if not self.of.shape.attention:
            return np.clip(queries / 2, 0, 1)
        return hopattn(queries, self.keys, self.values)


class _TokenLayer:
    """A token layer of one example: s¹ and s^c of each token that asks, and ``query`` (R, D), when last computed."""

    def __init__(self, of: EventDriven, ids: NDArray[np.integer], lengths: tuple[int, ...]) -> None:
        self.of, shape, texts = of, of.shape, np.split(ids, np.cumsum(lengths)[:-1])
        asking = [texts[query] for query in shape.queries]
        self.known, words = False, np.concatenate(asking)
        self.places = np.repeat(np.arange(len(asking)), [len(text) for text in asking])
        self.stored = []
        for key in shape.keys:
            found, counts = np.unique(texts[key], return_counts=True)
            self.stored.append((of.patterns[found], weighted(of.patterns[found], counts)))
        self.query = of.drive[words]
        scales = np.array([1 / math.sqrt(max(1, len(text))) for text in asking], dtype=of.type)
        found, change = np.zeros_like(self.query), np.zeros_like(self.query)
        current, back = of.current[words], of.feedback.copy()
        own = (current, found, np.zeros_like(current), change)
        self.tokens = Tokens(*own, back, scales, self.places, asked=of.patterns[words])

    @property
    def sent(self) -> list[Floats]:
        """What its neurons have sent, of s¹ and of s^c."""
        return [self.tokens.found, self.tokens.units]

    def advance(self, s2: Floats, u: Floats, count: NDArray[np.int64]) -> NDArray[np.int64]:
        """One step after s² has sent ``s2`` (H₂,): adds to ``u`` of s² and to ``count``; returns the rows computed."""
        of, rows = self.of, np.arange(len(self.query))
        if self.known:
            hear_sums(s2, of.codes.thresholds[0], of.w2, self.tokens.back)
            rows = taken_over(self.query, self.tokens.change, of.least)
        self.known, own = True, np.empty((len(rows), of.shape.dim), dtype=of.type)
        for place, stored in enumerate(self.stored):
            mine = self.places[rows] == place
            own[mine] = hopattn(self.query[rows[mine]], *stored)
        own *= self.tokens.asked[rows]
        codes = (of.code, of.token_code)
        send_tokens(Computed(own, np.arange(len(rows)), rows), self.tokens, codes, of.tokens, u, count)
        return np.bincount(self.places[rows], minlength=len(self.stored))


def weighted(keys: Floats, counts: NDArray[np.integer]) -> Floats:
    """(c K, c) of patterns (U, D) that occur c times: one product sums both."""
    values = np.empty((len(keys), keys.shape[1] + 1), dtype=keys.dtype)
    np.multiply(keys, counts[:, None], out=values[:, :-1], casting="unsafe")
    values[:, -1] = counts
    return values


def hopattn(queries: Floats, keys: Floats, values: Floats) -> Floats:
    """HopAttn of the queries (R, D) among patterns and what is mixed of them, see ``weighted``."""
    if not queries.size or not len(keys):
        return np.zeros_like(queries)
    scores = (queries * queries.dtype.type(1 / math.sqrt(keys.shape[1]))) @ keys.T
    scores -= scores.max(1, keepdims=True)
    mixed = np.exp(scores, out=scores) @ values
    return mixed[:, :-1] / mixed[:, -1:]


def supported(network: Network, settings: SigmaDeltaBackend) -> Gated:
    """The circuit. Raises EqspikeError, naming it, where something is asked for that is not done here."""
    shape, circuit = network.shape, settings.circuit
    gated = circuit if isinstance(circuit, Gated) else Gated()
    for name, got, wanted in (
        ("projections", shape.projections, shape.projections if shape.compared else ((0, 0),)),
        ("masked", shape.masked, True),
        ("circuit", type(circuit).__name__, "Gated"),
        ("query_threshold", gated.query_threshold, 0.0),
        ("top_patterns", gated.top_patterns, 0),
        ("events", settings.events, "unit"),
        ("feedback through synapses of its own", shape.feedback, None),
        ("lost spikes", settings.neuron.lost, 0.0),
        ("hidden layers", len(shape.hidden) > 0, True),
    ):
        if got != wanted:
            raise EqspikeError(
                f"one text at a time: got {name} {got}, expected {wanted}. Relax it in batches of one instead."
            )
    return gated
