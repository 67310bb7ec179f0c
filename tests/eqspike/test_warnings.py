"""Training warns where something is wrong, and of nothing where settings are those of a preset."""

from pathlib import Path
from typing import Any

import pytest

from eqspike.build import configure, run
from tests.conftest import Listener


def warnings_of(out: Path, dataset: str, backend: str, **changes: Any) -> list[str]:
    listener = Listener()
    run(configure(dataset, backend, out=out, **changes), listener)
    return listener.said


@pytest.mark.parametrize(
    ("backend", "changes"),
    [
        ("dense", {}),
        ("spiking", {}),
        ("spiking", {"neuron": "sigma-delta"}),
        ("spiking", {"neuron": "lif"}),
        ("spiking", {"neuron": "bernoulli"}),
    ],
)
@pytest.mark.parametrize("dataset", ["mini", "digits"])
def test_presets_train_without_a_warning(tmp_path: Path, dataset: str, backend: str, changes: dict[str, Any]) -> None:
    found = warnings_of(tmp_path, dataset, backend, epochs=5, **changes)
    assert [said for said in found if "nearly repeat" not in said] == []  # of mini's few words many texts are alike


@pytest.mark.parametrize(
    ("backend", "changes"),
    [
        ("dense", {"free_steps": 1}),
        ("spiking", {"free_steps": 20, "window": 20}),
        ("spiking", {"free_steps": 20, "nudge_steps": 20, "window": 20}),
        ("spiking", {"free_steps": 10, "nudge_steps": 10, "window": 10, "tick_steps": 10}),
        ("spiking", {"neuron": "sigma-delta", "free_steps": 1}),
    ],
)
def test_a_free_phase_that_is_far_too_short_is_warned_of(tmp_path: Path, backend: str, changes: dict[str, Any]) -> None:
    found = warnings_of(tmp_path, "mini", backend, epochs=2, limit=400, **changes)
    assert any(text.startswith("free phase: only") and "Raise --free-steps" in text for text in found), found


def test_nudges_that_are_too_short_are_warned_of(tmp_path: Path) -> None:
    found = warnings_of(tmp_path, "mini", "dense", epochs=2, limit=400, nudge_steps=1)
    assert any(text.startswith("nudge+ phase: only") and "Raise --nudge-steps" in text for text in found), found
