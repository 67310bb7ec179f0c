"""A finished run answers to texts, one at a time; all that it needs is in its folder, or in a zip of it.

predictor = Predictor.open("runs/imdb")    # or a zip; without a name, the model that comes with eqspike
predictor.predict("a dull film").label
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eqspike.build import OneText, config_of, make_backend, make_single
from eqspike_seq.config.examples import Texts
from eqspike_seq.config.settings import RunConfig
from eqspike_seq.data.batches import Batches, CountedBatches, fit
from eqspike_seq.data.encoding import Encoded, Words
from eqspike_seq.data.patterns import NGrams, counted, spread
from eqspike_seq.data.sight import CountedPatterns, TokenSequence
from eqspike_seq.data.tokens import tokenise
from eqspike_seq.errors import RunError
from eqspike_seq.learning.closeup import attention_of, shares_of
from eqspike_seq.learning.evaluation import stable_after
from eqspike_seq.learning.evidence import evidence
from eqspike_seq.ledger import Ledger
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network
from eqspike_seq.relaxation.buckets import released, trimmed
from eqspike_seq.relaxation.equilibrium import Backend, Equilibrium
from eqspike_seq.runs.archive import VECTORS, WEIGHTS, models, opened
from eqspike_seq.runs.folder import completed
from eqspike_seq.runs.vocabulary import Vocabulary
from eqspike_seq.runs.weights import network_of

SHIPPED = "imdb-small"  # the model that answers where no run is named
TIE = 0.05  # between the two highest rates, at most: nearly a tie


@dataclass(frozen=True)
class Prediction:
    """The answer to one text.

    ``label`` is the class with the highest rate, ``rates`` the output rate of each class. A text of which the network
    knows no word gets none: ``label`` None, no rates, no step, nothing counted.

    ``words`` are those of the text, of a pair those of both, the ``first`` ones of its first. ``read`` are the places
    among them of those that reached the network: known, and at most N of a text; ``unknown`` counts those without a
    vector. The decision was the last one from step ``stable_steps`` of ``steps`` on. ``ledger`` counts what hardware
    would do for this inference.

    If explained: ``attention`` has for each word read the attention that it gets from all of them at the end; 1 is an
    even share. ``patterns`` are words and n-grams, those that decided most before others, each with its share of all
    evidence: above 0 what speaks for the answer, below 0 what speaks against it; their sizes sum to 1
    (``learning.evidence``). A network whose tokens ask has none.
    """

    label: str | None
    rates: dict[str, float]
    words: tuple[str, ...]
    first: int
    read: tuple[int, ...]
    unknown: int
    stable_steps: int = 0
    steps: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    attention: tuple[float, ...] = ()
    patterns: tuple[tuple[str, float], ...] = ()

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
    single: OneText | None
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
                f"{', '.join(models())}"
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

    @torch.no_grad()
    def predict(self, *texts: str, explain: bool = False) -> Prediction:
        """The answer to a text of any length, or to a pair of them, as the run was trained on.

        Raises RunError for another number of texts.
        """
        if len(texts) != self.data.inputs:
            raise RunError(f"predict: got {len(texts)} text(s), expected {self.data.inputs}, as in training")
        found = [tokenise(text, self.data.tokeniser) for text in texts]
        words, first = tuple(word for text in found for word in text), len(found[0])
        unknown, sight = sum(word not in self.index for word in words), self.data.sight
        most = sight.tokens if isinstance(sight, TokenSequence) else len(words)
        keep = sight.keep if isinstance(sight, TokenSequence) else "head"
        read: list[int] = []
        lengths = np.zeros(len(texts), dtype=np.int64)
        for side, text in enumerate(found):
            known = [side * first + place for place, word in enumerate(text) if word in self.index]
            places = fit(np.array(known, dtype=np.int32), most, keep)
            lengths[side] = len(places)
            read += places.tolist()
        if not read:
            return Prediction(None, {}, words, first, (), unknown)
        received: tuple[float, ...] = ()
        patterns: tuple[tuple[str, float], ...] = ()
        if self.single is not None:
            if self.grams is not None:
                relaxed = self.single.free(*self._counted(words))
            else:
                relaxed = self.single.free(self._ids(words, read), lengths=lengths)
            outputs, steps, every, ledger = relaxed.outputs, relaxed.steps, 1, relaxed.ledger(self.network)
        if self.single is None or explain:
            network, batch = self._batch(words, read, lengths)
            free = self.backend.free(network, batch)
            if explain and self.network.shape.attention:
                received = self._received(words, read, network, batch, free)
            if explain and self.grams is not None:
                patterns = self._decided(batch, evidence(network, batch, free)[0])
            if self.single is None:
                outputs, steps, every = free.outputs[:, 0].float().numpy(), int(free.steps), free.reading_steps
                ledger = released(free, self.network.shape).ledger
        decisions: NDArray[Any] = outputs.argmax(1)[:, None]
        return Prediction(
            label=self.classes[int(decisions[-1, 0])],
            rates={name: float(rate) for name, rate in zip(self.classes, outputs[-1], strict=True)},
            words=words,
            first=first,
            read=tuple(read),
            unknown=unknown,
            stable_steps=int(stable_after(decisions, every, np.array([steps]))[0]),
            steps=steps,
            ledger=ledger,
            attention=received,
            patterns=patterns,
        )

    def _ids(self, words: Sequence[str], read: Sequence[int]) -> NDArray[np.int32]:
        """Of the words ``read``."""
        return np.array([self.index[words[place]] for place in read], dtype=np.int32)

    def _counted(self, words: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """(ids, counts) of the patterns of a text."""
        assert self.grams is not None
        return counted(self.grams, Words(self._numbers(words).astype(np.int32), np.array([len(words)]), 0, 0))[:2]

    def _batch(self, words: Sequence[str], read: Sequence[int], lengths: NDArray[np.int64]) -> tuple[Network, Batch]:
        """The example as a batch, and the network without what reads later places."""
        if self.grams is not None:
            ids, counts = self._counted(words)
            stored = CountedBatches(self.table, twice=self.config.twice)
            part = Encoded.of(ids, np.array([len(ids)]), np.zeros(1, dtype=np.int64), counts=counts)
            return trimmed(self.network, stored.lookup(part, np.zeros(1, dtype=np.int64)))
        assert isinstance(self.data.sight, TokenSequence)
        gather = Batches(self.table, self.data.sight.tokens, self.data.sight.keep)
        return trimmed(self.network, gather.one(self._ids(words, read), lengths))

    def _numbers(self, words: Sequence[str]) -> NDArray[np.int64]:
        """Ids of all words, 0 for those unknown."""
        return np.array([self.index.get(word, 0) for word in words], dtype=np.int64)

    def _decided(self, batch: Batch, found: Tensor) -> tuple[tuple[str, float], ...]:
        """The patterns of one text with their shares of the evidence ``found`` (N,), the largest first."""
        assert batch.ids is not None
        shares = found / max(float(found.abs().sum()), 1e-30)
        order = shares.abs().argsort(descending=True).tolist()
        ids = batch.ids[0, 0].tolist()
        return tuple((self.names[ids[place] - 1], float(shares[place])) for place in order if ids[place])

    def _received(
        self, words: Sequence[str], read: Sequence[int], network: Network, batch: Batch, free: Equilibrium
    ) -> tuple[float, ...]:
        """What each word read gets of the attention, in even shares."""
        if self.grams is None:
            return tuple(_of_tokens(network, batch, attention_of(network, batch, free)).tolist())
        assert batch.ids is not None
        shares = shares_of(network, batch, free)[0, 0].double().numpy()
        mine = spread(self.grams, self._numbers(words), batch.ids[0, 0].numpy(), shares).mean(0)[list(read)]
        return tuple((len(read) * mine).tolist())


def _of_tokens(network: Network, batch: Batch, attention: Tensor) -> Tensor:
    """What each word of one example gets of ``attention`` (1, tokens, tokens), in even shares, (words,)."""
    mask = batch.mask[0]
    lengths, asking = mask.sum(-1).to(attention.dtype), attention.new_zeros(len(mask))
    for query, key in network.shape.projections:
        asking[key] += lengths[query]
    even = (asking / lengths).repeat_interleave(mask.shape[1])
    return (attention[0, mask.flatten()].sum(0) / even)[mask.flatten()]
