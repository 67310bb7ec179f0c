"""Corpora that nobody has tuned for, through every command; `python -m tests.stress.zoo` takes hundreds."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from tests.stress.corpora import FACTORS, Corpus, possible
from tests.stress.zoo import LARGE, SETTINGS, visit, zoo

PLAIN = {name: values[0] for name, values in SETTINGS.items()} | {"rule": "count", "inputs": 1}
CRLF = {"form": "quoted, CRLF, BOM", "columns": "commas"}
CHANGES = {"backend": "spiking", "neuron": "sigma-delta", "network": "token-layer"}
QUICK: tuple[dict[str, Any], ...] = (
    {"script": "mixed", "oddity": "contradicting", **CRLF, "network": "pooling"},
    {"script": "han", "form": "folder", "labels": "negative", "backend": "spiking", "blanks": "some"},
    {"script": "arabic", "form": "jsonl", "inputs": 2, "oddity": "markup", **CHANGES},
)


def test_every_choice_of_settings_is_taken_with_corpora_of_every_kind() -> None:
    rows = [row for _, row in zoo(300)][: -len(LARGE)]
    names = ("inputs", *SETTINGS)
    every = {
        choice
        for choice in itertools.product(FACTORS["inputs"], *SETTINGS.values())
        if possible(dict(zip(names, choice, strict=True)))
    }
    assert len(every) == 81 and {tuple(row[name] for name in names) for row in rows} == every
    for one, other in itertools.combinations(FACTORS, 2):
        wanted = len(FACTORS[one]) * len(FACTORS[other])
        seen = len({(row[one], row[other]) for row in rows})
        assert seen >= 0.8 * wanted or "rule" in (one, other), (one, other)


@pytest.mark.parametrize("given", QUICK, ids=lambda given: f"{given.get('backend', 'dense')}, {given['form']}")
def test_no_command_is_lost_on_a_corpus(given: dict[str, Any], tmp_path: Path) -> None:
    row = {**PLAIN, **given}
    names = {name: value for name, value in row.items() if name in {*FACTORS, "texts"} - {"rule"}}
    found = visit(Corpus(1, **{"texts": 100, **names}), row, tmp_path)
    assert found["outcome"] in ("learnt", "learnt nothing and said so")
