"""The words or n-grams of a run, their vectors, and the names of its classes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from eqspike_seq.config.settings import FORMAT
from eqspike_seq.errors import RunError
from eqspike_seq.files import LARGEST_TEXT, read_json
from eqspike_seq.runs.weights import WEIGHTS, read_table


@dataclass(frozen=True)
class Vocabulary:
    """``words`` or n-grams by id from 1, their vectors ``table`` (V + 1, D), row 0 padding, and the ``classes``."""

    classes: tuple[str, ...]
    words: list[str]
    table: Tensor

    @classmethod
    def read(cls, run: Path) -> "Vocabulary":
        """That of a run folder, with the vectors that the run has learnt. Raises RunError."""
        try:
            found = read_json(run / "vocabulary.json")
            classes, words = tuple(found["classes"]), list(found["words"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{run}: its vocabulary cannot be read ({error!r}). Train the run again.") from error
        table = read_table(run, run / WEIGHTS)
        if not all(isinstance(name, str) for name in (*classes, *words)) or not len(set(classes)) == len(classes) > 1:
            raise RunError(f"{run}: expected a vocabulary of texts, with two classes or more. Train the run again.")
        if table.ndim != 2 or len(table) != len(words) + 1:
            raise RunError(
                f"{run}: {len(words)} words and vectors of shape {tuple(table.shape)}; expected one more row"
            )
        return cls(classes, words, table)


def as_file(words: Sequence[str], classes: Sequence[str], **others: Any) -> bytes:
    """``vocabulary.json``: ``words`` by id from 0, padding, and ``others``. Raises RunError where they are too many."""
    held = {"format": FORMAT, "classes": classes, **others, "words": words[1:]}
    written = json.dumps(held, separators=(",", ":")).encode()
    if len(written) > LARGEST_TEXT:
        raise RunError(
            f"the {len(words) - 1:,} words and n-grams would make a vocabulary.json of {len(written):,} bytes, "
            f"expected at most {LARGEST_TEXT:,}. Raise --min-texts, or lower --ngrams."
        )
    return written


def take_known(run: Path, words: Sequence[str], table: Tensor) -> None:
    """Let rows of ``table`` (V + 1, D) be the vectors that a run has of the same ``words``, by id from 0.

    Where the table has them as keys and as values, and the run once, both are these.

    Raises RunError where they are of another length.
    """
    found = Vocabulary.read(run)
    known = found.table.repeat(1, 2) if 2 * found.table.shape[1] == table.shape[1] else found.table
    if known.shape[1] != table.shape[1]:
        raise RunError(
            f"--start: {run.name} has vectors of {found.table.shape[1]} components, expected {table.shape[1]}. "
            "Leave --dim out, or name another run."
        )
    theirs = {word: number for number, word in enumerate(found.words, start=1)}
    mine = [number for number, word in enumerate(words) if word in theirs]
    table[mine] = known[[theirs[words[number]] for number in mine]].to(table)
