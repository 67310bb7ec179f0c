"""A finished run answers to texts, one at a time or several at once; all that it needs is in its folder, or a zip.

predictor = Predictor.open("runs/imdb")    # or a zip; without a name, the model that comes with eqspike
predictor.predict("a dull film").label
[found.label for found in predictor.predict_all([("a dull film",), ("a gem",)])]
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eqspike.build import config_of, make_backend, make_single
from eqspike_seq.config.examples import Texts
from eqspike_seq.config.settings import RunConfig
from eqspike_seq.data.batches import Batches, CountedBatches, fit
from eqspike_seq.data.encoding import Encoded, Words
from eqspike_seq.data.patterns import NGrams, counted, spread
from eqspike_seq.data.sight import CountedPatterns, TokenSequence
from eqspike_seq.data.tokens import tokenise
from eqspike_seq.errors import RunError
from eqspike_seq.learning.closeup import attention_of, evidence, shares_of
from eqspike_seq.learning.evaluation import stable_after
from eqspike_seq.ledger import Ledger
from eqspike_seq.model.batch import Batch, Lookup
from eqspike_seq.model.network import Network
from eqspike_seq.relaxation.buckets import free_by_length, released, trimmed
from eqspike_seq.relaxation.dense import DenseBackend
from eqspike_seq.relaxation.equilibrium import Backend, Equilibrium
from eqspike_seq.runs.archive import models, opened
from eqspike_seq.runs.folder import completed
from eqspike_seq.runs.vocabulary import Vocabulary
from eqspike_seq.runs.weights import VECTORS, WEIGHTS, network_of
from eqspike_seq.text_ledgers import LedgerByText, dense_ledgers

if TYPE_CHECKING:
    from neuromorphic.event_driven import EventDriven

SHIPPED = "imdb-small"  # the model that answers where no run is named
TOGETHER = 1024  # texts that are answered together, at most; the more, the more of them are of similar length
RELAXED = 256  # of them, that are relaxed together
TIE = 0.05  # between the two highest rates, at most: nearly a tie


@dataclass(frozen=True)
class Prediction:
    """The answer to one text.

    ``label`` is the class with the highest rate, ``rates`` the output rate of each class. A text of which the network
    knows no word gets none: ``label`` None, no rates, no step, nothing counted.

    ``words`` are those of the text, of a pair those of both, the ``first`` ones of its first. ``read`` are the places
    among them of those that reached the network: known, and at most N of a text; ``unknown`` counts those without a
    vector. The decision was the last one from step ``stable_steps`` of ``steps`` on. ``counted`` holds the counts of
    all texts that were relaxed together with this one, which is number ``row`` of them.

    If explained: ``attention`` has for each word read the attention that it gets from all of them at the end; 1 is an
    even share. ``patterns`` are words and n-grams, those that decided most before others, each with its share of all
    evidence: above 0 what speaks for the answer, below 0 what speaks against it; their sizes sum to 1
    (``closeup.evidence``). A network whose tokens ask has none.
    """

    label: str | None
    rates: dict[str, float]
    words: tuple[str, ...]
    first: int
    read: tuple[int, ...]
    unknown: int
    stable_steps: int = 0
    steps: int = 0
    counted: LedgerByText = field(default_factory=LedgerByText, repr=False, compare=False)
    row: int = field(default=0, repr=False, compare=False)
    attention: tuple[float, ...] = ()
    patterns: tuple[tuple[str, float], ...] = ()

    @cached_property
    def ledger(self) -> Ledger:
        """What hardware would do for this inference."""
        return self.counted.text(self.row)

    @property
    def confidence(self) -> float:
        """The rate of the answer as a share of all output rates, 1/C where none fires; 0 without an answer.

        It ranks texts. It is no calibrated probability.
        """
        total = sum(self.rates.values())
        return max(self.rates.values()) / total if total else 1 / len(self.rates) if self.rates else 0.0

    @property
    def nearly_a_tie(self) -> bool:
        """Whether the two highest rates are within ``TIE`` of each other."""
        highest = sorted(self.rates.values(), reverse=True)[:2]
        return bool(highest) and highest[0] - highest[1] <= TIE

    @property
    def mostly_unknown(self) -> bool:
        """Whether more than half of the words are unknown."""
        return 2 * self.unknown > len(self.words)


@dataclass(frozen=True)
class Predictor:
    """A trained network with its vocabulary: ``names`` of words or n-grams by id from 1, their vectors ``table``
    (V + 1, D), ``index`` word → id; ``grams`` of counted patterns.

    Everything runs on the processor in float32. ``single`` relaxes one text at a time where the settings allow it;
    else ``backend`` relaxes a batch of one.
    """

    config: RunConfig
    classes: tuple[str, ...]
    names: list[str]
    index: dict[str, int]
    table: Tensor
    network: Network
    backend: Backend
    single: "EventDriven | None"
    grams: NGrams | None = None

    @classmethod
    def open(cls, run: Path | str = SHIPPED, many: bool = True) -> "Predictor":
        """The network of a finished run on texts: its folder, a zip of it, or the name of a model.

        With ``many`` texts to come what relaxes one at a time is compiled where that pays. Raises RunError or
        ConfigError, saying what is wrong with it.
        """
        given, run = run, opened(Path(run))
        if not run.is_dir():
            raise RunError(
                f"{given}: no such run; expected the folder of a finished one, a zip of it, or a model: "
                f"{', '.join(models())}. If it is a text, name the run first: eqspike predict {SHIPPED} TEXT"
            )
        config = config_of(run, device="cpu", precision="float32")
        if not isinstance(config.data, Texts):
            raise RunError(f"{given}: a run on {config.data.dataset}, which is images; expected one on texts")
        trained = any((run / name).is_file() for name in ("result.json", "checkpoint/state.json"))  # by a run
        if trained and completed(run) is None:
            raise RunError(f"{given}: the run has not ended; continue it with `eqspike run --resume {given}`")
        for name in ("vocabulary.json", VECTORS, WEIGHTS):
            if not (run / name).is_file():
                raise RunError(
                    f"{given} has no {name}: it was made by an earlier eqspike, or what is large was left out. "
                    f"Train it again: eqspike run --config {run / 'config.toml'} --out FOLDER"
                )
        found, grams = Vocabulary.read(run), None
        if isinstance(config.data.sight, CountedPatterns):
            try:
                grams = NGrams.of(found.words)
            except ValueError as error:
                raise RunError(f"{given}: its vocabulary cannot be read ({error!r}). Train the run again.") from error
        shape = config.shape(found.table.shape[1] // (1 + config.twice), len(found.classes))
        network, backend = network_of(shape, run / WEIGHTS), make_backend(config)
        index = {word: place for place, word in enumerate(found.words, start=1)} if grams is None else grams.words
        single = make_single(backend, network, found.table) if many else None
        return cls(config, found.classes, found.words, index, found.table, network, backend, single, grams)

    @property
    def data(self) -> Texts:
        """How the network sees texts."""
        assert isinstance(self.config.data, Texts)
        return self.config.data

    @property
    def together(self) -> int:
        """How many texts are best asked about at once: one where each is relaxed by itself, which takes longer."""
        return TOGETHER if self.grams and (self.single or isinstance(self.backend, DenseBackend)) else 1

    def predict(self, *texts: str, explain: bool = False) -> Prediction:
        """The answer to a text of any length, or to a pair of them, as the run was trained on.

        Raises RunError for another number of texts.
        """
        (found,) = self.predict_all([texts], explain)
        return found

    @torch.no_grad()
    def predict_all(self, asked: Sequence[tuple[str, ...]], explain: bool = False) -> list[Prediction]:
        """The answers to several texts or pairs, of which ``together`` are relaxed as one. Raises RunError."""
        for texts in asked:
            if len(texts) != self.data.inputs:
                raise RunError(f"predict: got {len(texts)} text(s), expected {self.data.inputs}, as in training")
        seen = [self._seen(texts) for texts in asked]
        relaxed = self._relaxed([each for each in seen if each.read], explain)
        return [self._answer(each, next(relaxed) if each.read else None) for each in seen]

    def _seen(self, texts: tuple[str, ...]) -> "_Seen":
        """A text, or both of a pair, as the network sees them."""
        sight, words, read = self.data.sight, list[str](), list[int]()
        numbers, lengths, before = [], np.zeros(len(texts), dtype=np.int64), 0
        for side, text in enumerate(texts):
            found, before = tokenise(text, self.data.tokeniser), len(words)
            words += found
            numbers.append(np.fromiter(map(self.index.get, found, repeat(0)), np.int32, len(found)))  # type: ignore[arg-type]
            known = np.flatnonzero(numbers[-1]).astype(np.int32)
            if isinstance(sight, TokenSequence):
                known = fit(known, sight.tokens, sight.keep)
            lengths[side] = len(known)
            read += (before + known).tolist()
        first = len(words) if len(texts) == 1 else before
        return _Seen(tuple(words), first, np.concatenate(numbers), tuple(read), lengths)

    def _relaxed(self, seen: list["_Seen"], explain: bool) -> Iterator["_Outcome"]:
        """What each of these texts, of which something was read, ends in."""
        if explain or self.together == 1 or not seen:
            yield from (self._relaxed_alone(each, explain) for each in seen)
            return
        part = self._counted(seen)
        assert part.counts is not None
        if self.single is not None:
            each = pairwise(part.starts.tolist())
            yield from self._relaxed_single([(part.ids[start:end], part.counts[start:end]) for start, end in each])
            return
        assert isinstance(self.backend, DenseBackend)
        longest_first, outcomes = part.lengths().argsort(kind="stable")[::-1], dict[int, _Outcome]()
        for rows in np.split(longest_first, range(RELAXED, len(seen), RELAXED)):
            texts = self._lookup(part, rows)
            free = free_by_length(self.backend, self.network, texts)
            decided = _decided(free.outputs.float().numpy(), free.reading_steps, free.steps.numpy())
            ledgers = dense_ledgers(self.network.shape, texts.mask, free.steps, self.backend.rounds)
            for place, row in enumerate(rows.tolist()):
                outcomes[row] = replace(decided[place], counted=ledgers, row=place)
        yield from (outcomes[row] for row in range(len(seen)))

    def _relaxed_alone(self, seen: "_Seen", explain: bool) -> "_Outcome":
        """The same of one text by itself; if to be explained, with attention and patterns."""
        found, received, patterns = None, tuple[float, ...](), tuple[tuple[str, float], ...]()
        if self.single is not None:
            part = self._counted([seen]) if self.grams else None
            (found,) = self._relaxed_single([(part.ids, part.counts) if part else (seen.ids(), None, seen.lengths)])
        if found is None or explain:
            network, batch = self._batch(seen)
            free = self.backend.free(network, batch)
            if explain and self.network.shape.attention:
                received = self._received(seen, network, batch, free)
            if explain and self.grams is not None:
                patterns = self._evidence(batch, evidence(network, batch, free)[0])
            if found is None:
                (found,) = _decided(free.outputs.float().numpy(), free.reading_steps, free.steps.numpy())
                found = replace(found, counted=LedgerByText(**vars(released(free, self.network.shape).ledger)))
        return replace(found, received=received, patterns=patterns)

    def _relaxed_single(self, texts: Sequence[tuple[Any, ...]]) -> list["_Outcome"]:
        """The same of ``texts``, each ids and maybe counts, by what relaxes one after the other."""
        assert self.single is not None
        relaxed = [self.single.free(*text) for text in texts]
        decided = [_decided(found.outputs[:, None], 1, np.array([found.steps]))[0] for found in relaxed]
        ledgers = self.single.ledgers(relaxed, self.network)
        return [replace(found, counted=ledgers, row=row) for row, found in enumerate(decided)]

    def _answer(self, seen: "_Seen", found: "_Outcome | None") -> Prediction:
        about = (seen.words, seen.first, seen.read, len(seen.numbers) - int(np.count_nonzero(seen.numbers)))
        if found is None:
            return Prediction(None, {}, *about)
        label, rates = self.classes[found.decision], dict(zip(self.classes, found.rates, strict=True))
        counted = (found.counted, found.row)
        return Prediction(label, rates, *about, found.stable, found.steps, *counted, found.received, found.patterns)

    def _counted(self, seen: Sequence["_Seen"]) -> Encoded:
        """Texts as their patterns."""
        assert self.grams is not None
        numbers = np.concatenate([np.zeros(0, dtype=np.int32), *(each.numbers for each in seen)])
        read = Words(numbers, np.array([len(each.numbers) for each in seen]), 0, 0)
        ids, counts, lengths = counted(self.grams, read)
        return Encoded.of(ids, lengths, np.zeros(len(seen), dtype=np.int64), counts=counts)

    def _lookup(self, part: Encoded, rows: NDArray[np.int64]) -> Lookup:
        """The texts ``rows`` of counted patterns."""
        return CountedBatches(self.table, twice=self.config.twice).lookup(part, rows)

    def _batch(self, seen: "_Seen") -> tuple[Network, Batch]:
        """The example as a batch, and the network without what reads later places."""
        if self.grams is not None:
            return trimmed(self.network, self._lookup(self._counted([seen]), np.zeros(1, dtype=np.int64)))
        assert isinstance(self.data.sight, TokenSequence)
        gather = Batches(self.table, self.data.sight.tokens, self.data.sight.keep, twice=self.config.twice)
        return trimmed(self.network, gather.one(seen.ids(), seen.lengths))

    def _evidence(self, batch: Batch, found: Tensor) -> tuple[tuple[str, float], ...]:
        """The patterns of one text with their shares of the evidence ``found`` (N,), the largest first."""
        assert batch.ids is not None
        shares = found / max(float(found.abs().sum()), 1e-30)
        order = shares.abs().argsort(descending=True).tolist()
        ids = batch.ids[0, 0].tolist()
        return tuple((self.names[ids[place] - 1], float(shares[place])) for place in order if ids[place])

    def _received(self, seen: "_Seen", network: Network, batch: Batch, free: Equilibrium) -> tuple[float, ...]:
        """What each word read gets of the attention, in even shares."""
        if self.grams is None:
            return tuple(_of_tokens(network, batch, attention_of(network, batch, free)).tolist())
        assert batch.ids is not None
        shares = shares_of(network, batch, free)[0, 0].double().numpy()
        mine = spread(self.grams, seen.numbers, batch.ids[0, 0].numpy(), shares).mean(0)[list(seen.read)]
        return tuple((len(seen.read) * mine).tolist())


@dataclass(frozen=True)
class _Seen:
    """``words`` of an example, their ``numbers``, 0 for one unknown; ``first``, ``read`` as in ``Prediction``;
    ``lengths`` of each of its texts as far as it is read."""

    words: tuple[str, ...]
    first: int
    numbers: NDArray[np.int32]
    read: tuple[int, ...]
    lengths: NDArray[np.int64]

    def ids(self) -> NDArray[np.int32]:
        """Of the words read."""
        return self.numbers[list(self.read)]


@dataclass(frozen=True)
class _Outcome:
    """Where the free phase of a text ended: output ``rates`` (C,), the class decided for, all else as in
    ``Prediction``, ``received`` the attention."""

    rates: list[float]
    decision: int
    stable: int
    steps: int
    counted: LedgerByText = field(default_factory=LedgerByText)
    row: int = 0
    received: tuple[float, ...] = ()
    patterns: tuple[tuple[str, float], ...] = ()


def _decided(outputs: NDArray[Any], every: int, steps: NDArray[np.int64]) -> list[_Outcome]:
    """Of each text by its ``outputs`` (R, B, C), read ``every`` so many of ``steps`` (B,)."""
    decisions = outputs.argmax(2)
    stable = stable_after(decisions, every, steps)
    parts = (outputs[-1].tolist(), decisions[-1].tolist(), stable.tolist(), steps.tolist())
    return [_Outcome(*each) for each in zip(*parts, strict=True)]


def _of_tokens(network: Network, batch: Batch, attention: Tensor) -> Tensor:
    """What each word of one example gets of ``attention`` (1, tokens, tokens), in even shares, (words,)."""
    mask = batch.mask[0]
    lengths, asking = mask.sum(-1).to(attention.dtype), attention.new_zeros(len(mask))
    for query, key in network.shape.projections:
        asking[key] += lengths[query]
    even = (asking / lengths).repeat_interleave(mask.shape[1])
    return (attention[0, mask.flatten()].sum(0) / even)[mask.flatten()]
