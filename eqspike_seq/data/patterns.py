"""Texts as counted patterns: words and n-grams, runs of up to n words, that enough training texts hold.

A text is its distinct patterns and how often each occurs in it; the order of words is in its n-grams and nowhere else.
Patterns have ids from 1: words first, then n-grams of 2 words, of 3, those of most texts first. An n-gram occurs at
least as rarely as its parts, so that one of n words is known by (id of its first n − 1 words, id of its last word).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eqspike_seq.data.cache import Arrays, cache_dir, kept
from eqspike_seq.data.corpus import Split, single
from eqspike_seq.data.embeddings import no_word
from eqspike_seq.data.encoding import Encoded, Ints, Progress, Statistics, Words, as_words
from eqspike_seq.data.tokens import TokeniserName
from eqspike_seq.files import sha256_of

Numbers = NDArray[np.integer]
TOGETHER = 4096  # texts whose patterns are sorted at once
CANDIDATES = 2**23  # n-grams that are counted at once, about: where there are more, they are counted a part at a time


@dataclass(frozen=True)
class NGrams:
    """``words`` (W) and, for n-grams of 2, 3, … words, (codes in rising order, the id of each)."""

    words: dict[str, int]
    levels: tuple[tuple[Ints, Ints], ...]

    def __len__(self) -> int:
        return len(self.words) + sum(len(codes) for codes, _ in self.levels)

    def code(self, first: Numbers, last: Numbers) -> Ints:
        """Of n-grams whose first n − 1 words have the id ``first``, and whose last one ``last``."""
        found: Ints = first.astype(np.int64) * (len(self.words) + 1) + last
        return found

    @classmethod
    def of(cls, names: list[str]) -> "NGrams":
        """From the ``names`` of its patterns. Raises ValueError where they are not those of n-grams."""
        words = {name: number for number, name in enumerate(names, start=1) if " " not in name}
        if list(words.values()) != list(range(1, len(words) + 1)):
            raise ValueError("words after n-grams, or one twice")
        found, number = cls(words, ()), {name: place for place, name in enumerate(names, start=1)}
        spaces, cuts = ([name.count(" ") for name in names], [name.rfind(" ") for name in names])
        for length in range(1, max(spaces, default=0) + 1):
            mine = [place for place, count in enumerate(spaces) if count == length]
            try:
                first = np.array([number[names[place][: cuts[place]]] for place in mine], dtype=np.int64)
                last = np.array([words[names[place][cuts[place] + 1 :]] for place in mine], dtype=np.int64)
            except KeyError as error:
                raise ValueError(f"an n-gram without its part {error}") from error
            codes, ids = found.code(first, last), np.array(mine, dtype=np.int64) + 1
            order = np.argsort(codes)
            found = cls(words, (*found.levels, (codes[order], ids[order])))
        return found

    def names(self) -> list[str]:
        """Each pattern as its words with spaces between, by id from 1."""
        words = list(self.words)
        names = [*words, *[""] * (len(self) - len(words))]
        for codes, ids in self.levels:
            first, last = np.divmod(codes, len(words) + 1)
            for number, start, end in zip(ids.tolist(), first.tolist(), last.tolist(), strict=True):
                names[number - 1] = f"{names[start - 1]} {words[end - 1]}"
        return names

    def parts(self) -> Iterator[tuple[Ints, Ints, Ints]]:
        """(ids, id of the first n − 1 words, id of the last word) of the n-grams of 2 words, of 3, …"""
        for codes, ids in self.levels:
            yield ids, *np.divmod(codes, len(self.words) + 1)

    def found(self, ids: Numbers, owner: Ints) -> Iterator[tuple[Numbers, Ints]]:
        """(ids, place of the first word) of the patterns of 1 word, of 2, … that occur in words ``ids`` (T,) of the
        texts ``owner`` (T,); a place for each occurrence."""
        start, first = np.flatnonzero(ids), ids
        yield ids[start], start
        for length, (codes, numbers) in enumerate(self.levels, start=2):
            inside = np.zeros(len(ids), dtype=bool)
            inside[: 1 - length] = owner[: 1 - length] == owner[length - 1 :]
            start = np.flatnonzero(inside & (first > 0))
            start = start[ids[start + length - 1] > 0]
            wanted = self.code(first[start], ids[start + length - 1])
            place = np.minimum(np.searchsorted(codes, wanted), max(0, len(codes) - 1))
            known = codes[place] == wanted if len(codes) else np.zeros(len(start), dtype=bool)
            start, place = start[known], place[known]
            first = np.zeros_like(ids)
            first[start] = numbers[place]
            yield first[start], start


def vocabulary(read: Words, words: dict[str, int], longest: int, least: int) -> tuple[NGrams, NDArray[np.int32]]:
    """(the patterns of up to ``longest`` words that ``least`` of the texts hold, the new number of each word).

    N-grams are counted in so many passes that no pass holds many more than ``CANDIDATES`` of them.
    """
    texts = np.zeros(len(words) + 1, dtype=np.int64)
    for ids, owner in _blocks(read):
        texts += np.bincount(distinct(ids, owner), minlength=len(texts))
    values = np.flatnonzero(texts >= least)
    values = values[values > 0]
    kept = values[np.argsort(-texts[values], kind="stable")]
    renumbered = np.zeros(len(words) + 1, dtype=np.int32)
    renumbered[kept] = np.arange(1, len(kept) + 1)
    names = ["", *words]
    grams = NGrams({names[old]: new for new, old in enumerate(kept.tolist(), start=1)}, ())
    passes = 1 + len(read.ids) // CANDIDATES
    for length in range(2, longest + 1):
        counted = [_candidates(grams, read, renumbered, length, (part, passes), least) for part in range(passes)]
        codes, held = (np.concatenate(each) for each in zip(*counted, strict=True))
        order = np.argsort(codes)
        codes, held = codes[order], held[order]
        numbers = np.empty(len(codes), dtype=np.int64)
        numbers[np.argsort(-held, kind="stable")] = np.arange(len(grams) + 1, len(grams) + 1 + len(codes))
        grams = NGrams(grams.words, (*grams.levels, (codes, numbers)))
    return grams, renumbered


def _blocks(read: Words) -> Iterator[tuple[NDArray[np.int32], Ints]]:
    """(ids, the text of each) of some texts after the other."""
    ends = np.cumsum(read.lengths)
    for start in range(0, len(ends), TOGETHER):
        lengths = read.lengths[start : start + TOGETHER]
        first = int(ends[start] - lengths[0])
        yield read.ids[first : first + int(lengths.sum())], np.repeat(np.arange(len(lengths)), lengths)


def _candidates(
    grams: NGrams, read: Words, renumbered: NDArray[np.int32], length: int, which: tuple[int, int], least: int
) -> tuple[Ints, Ints]:
    """(codes, texts that hold it) of the n-grams of ``length`` words that ``least`` texts hold, of those whose code
    leaves the remainder ``which``."""
    part, passes = which
    found: list[Numbers] = [np.zeros(0, dtype=np.int64)]
    for old, owner in _blocks(read):
        ids = renumbered[old]
        first = np.zeros_like(ids)
        for numbers, start in grams.found(ids, owner):
            first[:], first[start] = 0, numbers  # of the longest that are known so far
        inside = np.flatnonzero(owner[: 1 - length] == owner[length - 1 :]) if len(ids) >= length else owner[:0]
        start = inside[(first[inside] > 0) & (ids[inside + length - 1] > 0)]
        codes = grams.code(first[start], ids[start + length - 1])
        mine = codes % passes == part
        found.append(distinct(codes[mine], owner[start][mine]))
    values, texts = np.unique(np.concatenate(found), return_counts=True)
    return values[texts >= least], texts[texts >= least]


Counted = tuple[NGrams, dict[str, Encoded], dict[str, Statistics]]


def counted_patterns(
    parts: dict[str, Split],
    inputs: int,
    tokeniser: TokeniserName,
    longest: int,
    least: int,
    progress: Progress | None = None,
) -> Counted:
    """(the patterns of up to ``longest`` words that ``least`` training texts hold; each split as these, counted; what
    became of its words). With ``progress`` cached by content. Raises DataError where there is no pattern."""
    if progress is None:
        return _counted(parts, inputs, tokeniser, longest, least)
    texts = (text.encode("utf-8", "replace") for part in parts.values() for text in part.texts)
    about = [tokeniser.encode(), f"{inputs} {longest} {least} {[len(part) for part in parts.values()]}".encode()]
    path = cache_dir() / "patterns" / f"{sha256_of(chain(about, texts))[:32]}.npz"
    return kept(
        path,
        lambda: _as_arrays(_counted(parts, inputs, tokeniser, longest, least)),
        lambda arrays: _from_arrays(arrays, parts, inputs, longest),
        progress,
    )


def _as_arrays(found: Counted) -> Arrays:
    grams, encoded, statistics = found
    arrays: Arrays = {"words": np.frombuffer("\n".join(grams.words).encode(), dtype=np.uint8)}
    for length, (codes, numbers) in enumerate(grams.levels, start=2):
        arrays |= {f"codes_{length}": codes, f"numbers_{length}": numbers}
    for name, part in encoded.items():
        assert part.counts is not None
        arrays |= {f"{name}_ids": part.ids, f"{name}_counts": part.counts, f"{name}_lengths": np.diff(part.starts)}
        arrays[f"{name}_statistics"] = np.array(statistics[name])
    return arrays


def _from_arrays(arrays: Arrays, parts: dict[str, Split], inputs: int, longest: int) -> Counted:
    """Raises ValueError unless they can be those of such parts."""
    words = arrays["words"].tobytes().decode().split("\n")
    levels = tuple((arrays[f"codes_{length}"], arrays[f"numbers_{length}"]) for length in range(2, longest + 1))
    grams = NGrams({word: number for number, word in enumerate(words, start=1)}, levels)
    encoded, statistics = {}, {}
    for codes, numbers in levels:
        if codes.shape != numbers.shape or (np.diff(codes) <= 0).any():
            raise ValueError("the n-grams are in no order")
    for name, part in parts.items():
        ids, counts, lengths = (arrays[f"{name}_{kind}"] for kind in ("ids", "counts", "lengths"))
        whole = (ids.dtype, counts.dtype, lengths.shape) == (np.int32, np.int32, (len(part) * inputs,))
        if not whole or ids.shape != counts.shape or (lengths < 0).any() or lengths.sum() != len(ids):
            raise ValueError("the patterns are not those of the texts")
        if len(ids) and not (1 <= ids.min() <= ids.max() <= len(grams) and counts.min() > 0):
            raise ValueError("patterns that there are not")
        encoded[name] = Encoded.of(ids, lengths, part.labels, inputs, counts)
        statistics[name] = Statistics(*(int(number) for number in arrays[f"{name}_statistics"]))
    return grams, encoded, statistics


def _counted(parts: dict[str, Split], inputs: int, tokeniser: TokeniserName, longest: int, least: int) -> Counted:
    known: dict[str, int] = {}
    train = as_words(single(parts["train"].texts, inputs), tokeniser, known, grow=True)
    grams, renumbered = vocabulary(train, known, longest, least)
    if not len(grams):
        raise no_word("--min-texts", least, any_word=bool(known))
    encoded, statistics = {}, {}
    for name, part in parts.items():
        if name == "train":
            read = replace(train, ids=renumbered[train.ids])
        else:
            read = as_words(single(part.texts, inputs), tokeniser, grams.words)
        ids, counts, lengths = counted(grams, read)
        encoded[name], statistics[name] = Encoded.of(ids, lengths, part.labels, inputs, counts), read.statistics()
    return grams, encoded, statistics


def class_counts(train: Encoded, classes: int, patterns: int) -> tuple[Tensor, Tensor]:
    """(texts of each class that hold a pattern, (V + 1, C); texts of each class, (C,)); a pair is two texts."""
    labels = np.repeat(train.labels, train.inputs)
    found = np.bincount(
        train.ids.astype(np.int64) * classes + np.repeat(labels, np.diff(train.starts)),
        minlength=(patterns + 1) * classes,
    )
    totals = np.bincount(labels, minlength=classes)
    return torch.from_numpy(found.reshape(-1, classes)).float(), torch.from_numpy(totals).float()


def distinct(values: Numbers, owner: Ints) -> Numbers:
    """Each different one of ``values`` in each text once; ``owner`` rises."""
    order = np.argsort(values, kind="stable")
    values, owner = values[order], owner[order]
    new = np.ones(len(values), dtype=bool)
    new[1:] = (values[1:] != values[:-1]) | (owner[1:] != owner[:-1])
    return values[new]


def counted(grams: NGrams, read: Words) -> tuple[NDArray[np.int32], NDArray[np.int32], Ints]:
    """(ids of the patterns of each text, in rising order, end to end; how often each occurs; how many a text has)."""
    nothing = np.zeros(0, dtype=np.int32)
    parts = [(nothing, nothing, np.zeros(0, dtype=np.int64))]
    for place, (ids, owner) in enumerate(_blocks(read)):
        parts.append(_counted_some(grams, ids, owner, min(TOGETHER, len(read.lengths) - place * TOGETHER)))
    ids, counts, found = (np.concatenate(each) for each in zip(*parts, strict=True))
    return ids, counts, found


def _counted_some(
    grams: NGrams, ids: NDArray[np.int32], owner: Ints, of: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], Ints]:
    """The same of the words ``ids`` of so many texts."""
    keys = np.concatenate([owner[start] * (len(grams) + 1) + numbers for numbers, start in grams.found(ids, owner)])
    keys.sort()
    place = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else keys
    texts, numbers = np.divmod(keys[place], len(grams) + 1)
    times = np.diff(np.append(place, len(keys)))
    return numbers.astype(np.int32), times.astype(np.int32), np.bincount(texts, minlength=of)


def spread(grams: NGrams, words: Numbers, ids: Ints, shares: NDArray[Any]) -> NDArray[Any]:
    """What each of the ``words`` (T,) of one text gets of the ``shares`` (Q, N) of its patterns ``ids`` (N,), (Q, T):
    the share of a pattern is divided among its occurrences, and there among its words."""
    column = np.zeros(len(grams) + 1, dtype=np.int64)
    column[ids] = np.arange(len(ids))
    found, owner = np.zeros((len(shares), len(words))), np.zeros(len(words), dtype=np.int64)
    for length, (numbers, start) in enumerate(grams.found(words, owner), start=1):
        times = np.bincount(numbers, minlength=len(column))[numbers]
        each = shares[:, column[numbers]] * np.isin(numbers, ids) / (times * length)
        for place in range(length):
            found[:, start + place] += each
    return found
