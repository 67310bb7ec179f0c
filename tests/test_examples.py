"""The examples run as their heads say, and print what they promise."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SAYS = {
    "own_texts": ("cross-validated accuracy", "drips: water"),
    "own_neuron": ("step 40: 100% right", "spikes"),
    "own_hardware": ("My chip", "a training sample"),
}


def test_there_are_no_others() -> None:
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == set(SAYS)


@pytest.mark.parametrize("name", SAYS)
def test_example(name: str, tmp_path: Path) -> None:
    script = ROOT / "examples" / f"{name}.py"
    found = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    assert all(part in found.stdout for part in SAYS[name]), found.stdout
    assert found.stderr == "" and list(tmp_path.iterdir()) == []
