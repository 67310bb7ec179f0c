"""Corpora that nobody has tuned for; `python -m tests.stress.corpora` tries all of them."""

from pathlib import Path

import pytest

from tests.stress.corpora import CORPORA, LARGEST_DIFFERENCE, MODES, Spec, examine

QUICK = ("one-word", "few-texts", "greek", "emoji")


def test_twenty_corpora_of_every_kind_are_tried() -> None:
    assert len({spec.name for spec in CORPORA}) == 20
    assert {spec.classes for spec in CORPORA} >= {2, 20} and {spec.script for spec in CORPORA} >= {"latin", "han"}
    assert min(spec.texts for spec in CORPORA) == 200 and max(spec.texts for spec in CORPORA) == 8000
    assert min(spec.shortest for spec in CORPORA) == 1 and max(spec.longest for spec in CORPORA) == 40


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("spec", [spec for spec in CORPORA if spec.name in QUICK], ids=lambda spec: spec.name)
def test_numbers_are_finite_and_answers_do_not_depend_on_the_batch(spec: Spec, mode: str, tmp_path: Path) -> None:
    found = examine(spec, mode, tmp_path, epochs=1)
    assert found["difference_alone"] <= LARGEST_DIFFERENCE[mode]
