"""What the README says is so: its figures are those of the result files, its commands parse."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from eqspike_seq.cli import COMMANDS, parse_run

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
ROWS = re.findall(r"^\|.*\]\((results/[\w./-]+)\)(?: `([\w.]+)`)?.*\|$", README, re.MULTILINE)
LINES = [line for line in README.splitlines() if re.match(r"^\|.*\]\(results/", line)]


def value(file: str, key: str) -> float:
    found = json.loads((ROOT / file).read_text())
    for part in (key or "test_accuracy").split("."):
        found = found[part]
    return float(found)


def test_there_are_figures() -> None:
    assert len(LINES) >= 10 and len(ROWS) == len(LINES)


@pytest.mark.parametrize("number", range(len(LINES)))
def test_figure_is_that_of_its_result_file(number: int) -> None:
    file, key = ROWS[number]
    (percent,) = re.findall(r"(\d+\.\d+) %", LINES[number])
    assert percent == f"{100 * value(file, key):.2f}", LINES[number]
    if file.endswith("result.json"):
        result = json.loads((ROOT / file).read_text())
        config = tomllib.loads((ROOT / file).with_name("config.toml").read_text())
        assert result["complete"] and result["limit"] is None and result["seed"] == config["seed"] == 0


def test_its_commands_parse() -> None:
    lines = [line.split("#")[0].strip() for line in README.splitlines() if line.startswith("eqspike ")]
    assert len(lines) >= 6
    for line in lines:
        _, command, *arguments = shlex.split(line)
        assert command in COMMANDS
        if command == "run" and "--help" not in arguments:
            parse_run(arguments)
