"""A finished run answers to texts, one at a time; all that it needs is in its folder.

predictor = Predictor.open(Path("runs/imdb"))
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
from eqspike_seq.files import read_json
from eqspike_seq.learning.closeup import attention_of, shares_of
from eqspike_seq.learning.evaluation import stable_after
from eqspike_seq.ledger import Ledger
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network
from eqspike_seq.relaxation.buckets import released, trimmed
from eqspike_seq.relaxation.equilibrium import Backend, Equilibrium
from eqspike_seq.runs.folder import completed
from eqspike_seq.runs.weights import network_of, read_table

TIE = 0.05  # between the two highest rates, at most: nearly a tie


@dataclass(frozen=True)
class Prediction:
    """The answer to one text.

    ``label`` is the class with the highest rate, ``rates`` the output rate of each class. A text of which the network
    knows no word gets none: ``label`` None, no rates, no step, nothing counted.

    ``words`` are those of the text, of a pair those of both, the ``first`` ones of its first. ``read`` are the places
    among them of those that reached the network: known, and at most N of a text; ``unknown`` counts those without a
    vector. The decision was the last one from
    step ``stable_steps`` of ``steps`` on. ``ledger`` counts what hardware would do for this inference. ``attention``,
    if asked for, has for each word read the attention that it gets from all of them at the end; 1 is an even share.
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
    """A trained network with its vocabulary: ``index`` word → id, ``table`` (V + 1, D); ``grams`` of counted patterns.

    Everything runs on the processor in float32. ``single`` relaxes one text at a time where the settings allow it;
    else ``backend`` relaxes a batch of one.
    """

    config: RunConfig
    classes: tuple[str, ...]
    index: dict[str, int]
    table: Tensor
    network: Network
    backend: Backend
    single: OneText | None
    grams: NGrams | None = None

    @classmethod
    def open(cls, run: Path) -> "Predictor":
        """The network of a finished run folder. Raises RunError or ConfigError, saying what is wrong with it."""
        if not run.is_dir():
            raise RunError(f"{run}: no such folder; expected that of a finished run")
        config = config_of(run, device="cpu", precision="float32")
        if not isinstance(config.data, Texts):
            raise RunError(f"{run}: a run on {config.data.dataset}, which is images; expected one on texts")
        if completed(run) is None:
            raise RunError(f"{run}: the run has not ended; continue it with `eqspike run --resume {run}`")
        for name in ("vocabulary.json", "vectors.safetensors", "checkpoint/model.safetensors"):
            if not (run / name).is_file():
                raise RunError(
                    f"{run} has no {name}: it was made by an earlier eqspike, or what is large was left out. "
                    f"Train it again: eqspike run --config {run / 'config.toml'} --out FOLDER"
                )
        classes, words, table, grams = _read_vocabulary(run, isinstance(config.data.sight, CountedPatterns))
        shape = config.shape(table.shape[1], len(classes))
        network, backend = network_of(shape, run / "checkpoint" / "model.safetensors"), make_backend(config)
        index = {word: place for place, word in enumerate(words, start=1)} if grams is None else grams.words
        return cls(config, classes, index, table, network, backend, make_single(backend, network, table), grams)

    @property
    def data(self) -> Texts:
        """How the network sees texts."""
        assert isinstance(self.config.data, Texts)
        return self.config.data

    @torch.no_grad()
    def predict(self, *texts: str, attention: bool = False) -> Prediction:
        """The answer to a text of any length, or to a pair of them, as the run was trained on.

        Raises RunError for another number of texts, and where ``attention`` is asked for and there is none.
        """
        if len(texts) != self.data.inputs:
            raise RunError(f"predict: got {len(texts)} text(s), expected {self.data.inputs}, as in training")
        if attention and not self.network.shape.attention:
            raise RunError("attention: this run was trained with --no-attention; there is none to show")
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
        if self.single is not None:
            relaxed = self.single.free(*self._counted(words) if self.grams else (self._ids(words, read),))
            outputs, steps, every, ledger = relaxed.outputs, relaxed.steps, 1, relaxed.ledger(self.network)
        if self.single is None or attention:
            network, batch = self._batch(words, read, lengths)
            free = self.backend.free(network, batch)
            if attention:
                received = self._received(words, read, network, batch, free)
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
        )

    def _ids(self, words: Sequence[str], read: Sequence[int]) -> NDArray[np.int32]:
        """Of the words ``read``."""
        return np.array([self.index[words[place]] for place in read], dtype=np.int32)

    def _counted(self, words: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """(ids, counts) of the patterns of a text."""
        assert self.grams is not None
        return counted(self.grams, Words(self._numbers(words), np.array([len(words)]), 0, 0))[:2]

    def _batch(self, words: Sequence[str], read: Sequence[int], lengths: NDArray[np.int64]) -> tuple[Network, Batch]:
        """The example as a batch, and the network without what reads later places."""
        if self.grams is not None:
            ids, counts = self._counted(words)
            part = Encoded.of(ids, np.array([len(ids)]), np.zeros(1, dtype=np.int64), counts=counts)
            return trimmed(self.network, CountedBatches(self.table).lookup(part, np.zeros(1, dtype=np.int64)))
        assert isinstance(self.data.sight, TokenSequence)
        gather = Batches(self.table, self.data.sight.tokens, self.data.sight.keep)
        return trimmed(self.network, gather.one(self._ids(words, read), lengths))

    def _numbers(self, words: Sequence[str]) -> NDArray[np.int64]:
        """Ids of all words, 0 for those unknown."""
        return np.array([self.index.get(word, 0) for word in words], dtype=np.int64)

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


def _read_vocabulary(run: Path, counted: bool) -> tuple[tuple[str, ...], list[str], Tensor, NGrams | None]:
    """(names of the classes, words by id from 1, vectors (V + 1, D), n-grams where ``counted``). Raises RunError."""
    try:
        found = read_json(run / "vocabulary.json")
        classes, words = tuple(found["classes"]), list(found["words"])
        table, grams = read_table(run, run / "checkpoint/model.safetensors"), NGrams.of(words) if counted else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{run}: its vocabulary cannot be read ({error!r}). Train the run again.") from error
    if not all(isinstance(name, str) for name in (*classes, *words)) or not len(set(classes)) == len(classes) > 1:
        raise RunError(f"{run}: expected a vocabulary of texts, with two classes or more. Train the run again.")
    if table.ndim != 2 or len(table) != len(words) + 1:
        raise RunError(f"{run}: {len(words)} words and vectors of shape {tuple(table.shape)}; expected one more row")
    return classes, words, table, grams
