"""Corpora as nobody would tune for: what is in them, what is odd about them, how they are written down."""

import csv
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from eqspike_seq.data.own import FEWEST_TEXTS

LETTERS = {
    "latin": "abcdefghijklmnopqrstuvwxyz",
    "accents": "aeiouäöüßéèçñøåłbdfgklmnprst",
    "cyrillic": "абвгдежзийклмнопрстуфхцчшщъыьэюя",
    "greek": "αβγδεζηθικλμνξοπρστυφχψω",
    "arabic": "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "devanagari": "कखगघचछजझटठडढतथदधनपफबभमयरलवशसह",
    "hangul": "가나다라마바사아자차카타파하거너더러머버서어저처커터퍼허",
    "han": "".join(map(chr, range(0x4E00, 0x4E00 + 400))),
    "emoji": "".join(map(chr, range(0x1F600, 0x1F640))),
    "mixed": "aéжα中م한😀9",
}
UNSPACED = ("han", "emoji")
LENGTHS = {  # words of a text, from and to, and whether in logarithmic measure
    "nothing": (0, 3, False),
    "one": (1, 1, False),
    "short": (1, 20, False),
    "page": (40, 150, False),
    "any": (1, 1500, True),
}
FACTORS: dict[str, tuple[Any, ...]] = {
    "classes": (2, 3, 6, 20),
    "balance": ("even", "skewed", "rare"),
    "length": tuple(LENGTHS),
    "words": (10, 300, 20_000, 1_000_000),
    "law": ("zipf", "uniform"),
    "script": tuple(LETTERS),
    "oddity": (
        *("none", "repeated", "contradicting", "one word a class", "shuffled labels", "nearly the same", "the same"),
        *("markup", "long words"),
    ),
    "labels": ("names", "numbers", "floats", "negative", "sentences", "booleans"),
    "columns": ("plain", "spaces", "commas", "unnamed"),
    "form": ("csv", "semicolons", "tabs", "tsv", "quoted, CRLF, BOM", "jsonl", "parquet", "folder"),
    "blanks": ("none", "some", "at the end"),
    "inputs": (1, 2),
    "rule": ("count", "membrane", "trace", "eqspike"),
}
COLUMNS = {
    "plain": ("text", "other text", "label"),
    "spaces": ("the text", "  another ", "its class"),
    "commas": ("Text, so", 'a "second"', "étiquette; ou"),
    "unnamed": ("review", "reply", "label"),
}
MARKUP = "</td><script>f()</script> $\\frac{$ [/b] &lt; \x1b[31m \\n %s {0} \u2028"
OWN = 8  # words that a class has for itself


@dataclass(frozen=True)
class Corpus:
    """A corpus by its factors: ``texts`` rows, of which blanks are left out."""

    number: int
    texts: int
    classes: int = 2
    balance: str = "even"
    length: str = "short"
    words: int = 300
    law: str = "zipf"
    script: str = "latin"
    oddity: str = "none"
    labels: str = "names"
    columns: str = "plain"
    form: str = "csv"
    blanks: str = "none"
    inputs: int = 1
    longest: int = 0

    @property
    def refused(self) -> bool:
        """Whether eqspike wants more: a class has too few different texts, or training lacks a label of test."""
        whole = [row for row in self.table() if all(cell.strip() for cell in row)]
        training = self.parts()["train.csv"] if self.form == "folder" else whole
        texts = {row[-1]: {other for other in training if other[-1] == row[-1]} for row in whole}
        return len(texts) < 2 or min(map(len, texts.values())) < FEWEST_TEXTS

    def parts(self) -> dict[str, list[tuple[str, ...]]]:
        """The files of a folder."""
        rows = self.table()
        tenth = len(rows) // 10
        return {"train.csv": rows[3 * tenth :], "valid.tsv": rows[:tenth], "test.jsonl": rows[tenth : 3 * tenth]}

    def word(self, number: int) -> str:
        """The word of that number; each has one of its own."""
        letters = LETTERS[self.script]
        found = letters[number % len(letters)]
        while number := number // len(letters):
            found += letters[number % len(letters)]
        return found

    def drawn(self, rng: np.random.Generator, label: int, length: int) -> list[str]:
        """The words of a text: a third are its class's own."""
        if self.law == "zipf":
            numbers = np.exp(rng.random(length) * np.log(self.words)).astype(int) - 1
        else:
            numbers = rng.integers(0, self.words, length)
        own = label * OWN + rng.integers(0, OWN, length)
        return [self.word(int(n)) for n in np.where(rng.random(length) < 0.35, own, numbers)]

    def text(self, rng: np.random.Generator, label: int, number: int, length: int) -> str:
        """Of a class, the ``number``-th."""
        glue = "" if self.script in UNSPACED else " "
        match self.oddity:
            case "the same":
                return "always the same"
            case "nearly the same":
                return glue.join(self.word(n) for n in range(30)) + f" {number} {self.word(label)}"
            case "one word a class":
                return glue.join([self.word(label)] * (1 + number % 9))
            case "markup":
                return MARKUP + " " + glue.join(self.drawn(rng, label, length))
            case "long words":
                return f"{self.word(label) * 70} {'x' * (number % 200)} {self.word(number)}"
        return glue.join(self.drawn(rng, label, length)) or "…"

    def rows(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """(texts, label) of each."""
        rng = np.random.default_rng([7, self.number])
        shares = {
            "even": np.ones(self.classes),
            "skewed": 2.0 ** -np.arange(self.classes),
            "rare": np.r_[500.0, np.ones(self.classes - 1)],
        }[self.balance]
        least = np.arange(self.classes).repeat(12)
        rest = max(0, self.texts - len(least))
        labels = np.concatenate([least, rng.choice(self.classes, rest, p=shares / shares.sum())])
        shortest, longest, logarithmic = LENGTHS[self.length]
        before: list[tuple[str, ...]] = []
        for number, label in enumerate(rng.permutation(labels).tolist()):
            span = np.log([shortest + 0.5, longest + 0.5]) if logarithmic else (shortest, longest + 1)
            length = int(np.exp(rng.uniform(*span))) if logarithmic else int(rng.integers(*span))
            length = self.longest if self.longest and number % 100 == 0 else length
            texts = tuple(self.text(rng, label, number, length) for _ in range(self.inputs))
            if self.oddity in ("repeated", "contradicting") and before and number % 3 == 0:
                texts = before[int(rng.integers(len(before)))]
            before = [*before[-50:], texts]
            if self.oddity == "shuffled labels":
                label = int(rng.choice(labels))
            yield texts, self.label(label)

    def label(self, number: int) -> str:
        """As the file has it."""
        return {
            "names": f"c{number}",
            "numbers": str(number),
            "floats": f"{number}.0",
            "negative": str(number - self.classes // 2),
            "sentences": f"  it is, so to say, “{number}” <b> ",
            "booleans": ("False", "True")[number] if self.classes == 2 else f"{number} %",
        }[self.labels]

    def table(self) -> list[tuple[str, ...]]:
        """All cells, blank ones among them."""
        found = [(*texts, label) for texts, label in self.rows()]
        if self.blanks != "none":
            empty = ("",) * (self.inputs + 1)
            found += [empty] * 3
            if self.blanks == "some":
                found[5:5] = [(*found[0][:-1], " "), (*empty[:-1], found[0][-1]), empty]
        return found

    def write(self, folder: Path) -> list[str]:
        """The corpus in a file, or in files of a folder; the arguments that name them and their columns."""
        rows, (text, other, label) = self.table(), COLUMNS[self.columns]
        names = (text, *((other,) if self.inputs == 2 else ()), label)
        path = folder / f"corpus {self.number}"
        if self.form == "folder":
            path.mkdir()
            for name, part in self.parts().items():
                written(path / name, names, part, name.split(".")[1])
        else:
            path = path.with_suffix({"jsonl": ".jsonl", "parquet": ".parquet", "tsv": ".tsv"}.get(self.form, ".csv"))
            written(path, names, rows, self.form)
        flags = [] if label == "label" else ["--label-column", label]
        if self.inputs == 2 or (self.columns not in ("plain", "unnamed")):
            flags += ["--text-column", *(name.strip() for name in names[:-1])]
        return [str(path), *flags]

    def few(self) -> list[tuple[str, ...]]:
        """Texts to ask about."""
        some = [texts for texts, _ in zip((texts for texts, _ in self.rows()), range(3), strict=False)]
        return [*some, ("",) * self.inputs, ("Ωmega never seen 🤖",) * self.inputs, ("a " * 3000,) * self.inputs]


def written(path: Path, names: tuple[str, ...], rows: list[tuple[str, ...]], form: str) -> None:
    """A table as a file."""
    if form == "parquet":
        columns = zip(*rows, strict=True)
        pq.write_table(pa.table({name.strip(): list(c) for name, c in zip(names, columns, strict=True)}), path)
        return
    if form == "jsonl":
        heads = [name.strip() for name in names]
        path.write_text("".join(json.dumps(dict(zip(heads, row, strict=True))) + "\n" for row in rows), newline="\n")
        return
    delimiter = {"semicolons": ";", "tabs": "\t", "tsv": "\t"}.get(form, ",")
    bom = form.endswith("BOM")
    with path.open("w", encoding="utf-8-sig" if bom else "utf-8", newline="") as file:
        quoting = csv.QUOTE_ALL if bom else csv.QUOTE_MINIMAL
        writer = csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator="\r\n" if bom else "\n")
        writer.writerows([names, *rows])


def possible(settings: dict[str, Any]) -> bool:
    """Whether a run has these settings, and its choices are not those of another: what does not act is first."""
    backend, neuron, circuit, network = (settings[name] for name in ("backend", "neuron", "circuit", "network"))
    if settings["inputs"] == 2 and network == "pooling":
        return False
    if backend == "dense":
        return (neuron, circuit) == ("if", "clocked")
    if backend == "brian2":
        return (neuron, circuit, settings["precision"]) == ("if", "clocked", "float32") and network != "token-layer"
    return neuron == "sigma-delta" or network != "token-layer" or circuit == "clocked"


def rules(settings: dict[str, Any]) -> int:
    """How many of the rules, from the first, act with these settings."""
    if settings["network"] == "token-layer" or settings["neuron"] == "sigma-delta":
        return 2 if settings["backend"] == "spiking" else 1
    return 4 if settings["backend"] == "spiking" else 1


def covering(settings: dict[str, tuple[Any, ...]], size: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Rows of values, one for each factor: every possible choice of ``settings`` in turn, then again; the corpora
    greedily so that each row has as many pairs of values as can be that no row before it had."""
    rng = np.random.default_rng(seed)
    names = ("inputs", *settings)
    choices = [dict(zip(names, row, strict=True)) for row in itertools.product(FACTORS["inputs"], *settings.values())]
    choices = [choice for choice in choices if possible(choice)]
    seen: set[tuple[tuple[str, Any], tuple[str, Any]]] = set()
    order: list[int] = []
    for _ in range(size):
        order = order or rng.permutation(len(choices)).tolist()
        chosen, best, most = choices[order.pop()], {}, -1
        for _ in range(30):
            row = {name: values[rng.integers(len(values))] for name, values in FACTORS.items()} | chosen
            row["rule"] = FACTORS["rule"][rng.integers(rules(chosen))]
            new = len(set(itertools.combinations(sorted(row.items()), 2)) - seen)
            best, most = (row, new) if new > most else (best, most)
        seen |= set(itertools.combinations(sorted(best.items()), 2))
        yield best
