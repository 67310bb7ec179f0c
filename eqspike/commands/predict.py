"""``eqspike predict``: what a run answers to texts, a line each, why, and the spikes and the energy that it took."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NamedTuple

import numpy as np
import tyro
from rich.console import Console
from rich.text import Text

from analysis.energy import DIGITAL
from analysis.folders import Json
from analysis.units import text_of
from eqspike.prediction import SHIPPED, Prediction, Predictor
from eqspike_seq.data.tables import LARGEST_LINE, too_long
from eqspike_seq.errors import ConfigError, DataError, RunError
from neuromorphic.pricing import CostTable, Joules, price, read_table, total

NOTHING = "no word"
UNKNOWN = "unknown words only"
AT_ONCE = 2**20  # bytes that are read at once, at most
PALE, FULL = (255, 240, 220), (230, 120, 20)  # backgrounds: of an even share of attention, of the most in the text
SHOWN = 3  # rates of an answer: the highest
MOST = 5  # words or n-grams named below the text
LEAST = 0.005  # share of the evidence that is named


@dataclass
class PredictFlags:
    """Classify texts with a trained network: arguments, the lines of a file, or the lines of standard input."""

    run: tyro.conf.Positional[str] = SHIPPED
    """Folder of a finished run on texts, a zip of it, or a model of `eqspike models`. If a text of several words stands
    here, the model that comes with eqspike classifies it."""
    text: tyro.conf.Positional[tuple[str, ...]] = ()
    """Texts, each in quotes; for a run on pairs, two for each pair. Default: the lines of standard input."""
    file: Path | None = None
    """UTF-8 file with one text a line; for pairs, two texts separated by a tab."""
    explain: bool = False
    """Show the words. Those with more than an even share of attention are coloured; those that are not read are dim."""
    json_output: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object a line."""
    hardware: str = DIGITAL
    """Cost table for the energy: a name, or your own TOML file."""


def main(arguments: list[str]) -> None:
    """Answer to the texts that are there before more are read. Raises EqspikeError."""
    flags = tyro.cli(PredictFlags, args=arguments, prog="eqspike predict")
    if flags.text and flags.file is not None:
        raise ConfigError("--file: got a text as well. Give only one of them.")
    if not flags.run.strip() or (" " in flags.run.strip() and not Path(flags.run).exists()):
        flags.run, flags.text = SHIPPED, (flags.run, *flags.text)
    table = read_table(flags.hardware)
    predictor = Predictor.open(flags.run, many=not flags.text)
    if flags.explain and not predictor.network.shape.attention:
        raise RunError("--explain: this run was trained with --no-attention, so there is no attention to show")
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    most = 1 if flags.explain else predictor.together
    for asked in texts(flags, predictor.data.inputs, most):
        answers = predictor.predict_all(asked, explain=flags.explain or bool(flags.text))
        for found, cost in zip(answers, costs(answers, table), strict=True):
            if flags.json_output:
                print(json.dumps(as_json(found, cost, flags.explain), ensure_ascii=False))
                continue
            print(as_line(found, cost, apart="\n  " if flags.text else "  "))
            if flags.explain:
                console.print(explained(found))
        sys.stdout.flush()


def texts(flags: PredictFlags, inputs: int, most: int) -> Iterator[list[tuple[str, ...]]]:
    """The texts, or with ``inputs`` 2 the pairs, asked about: those that are there at a time, of a file or standard
    input at ``most`` so many. Raises DataError."""
    if len(flags.text) % inputs:
        raise DataError(
            f"got {len(flags.text)} text(s), expected {inputs} for each answer, as in training: each in quotes"
        )
    if flags.text:
        yield [flags.text[first : first + inputs] for first in range(0, len(flags.text), inputs)]
    elif flags.file is None:
        if sys.stdin.isatty():
            print("A text a line, Ctrl-D to end:", file=sys.stderr)
        with suppress(ImportError, AttributeError, OSError):  # on Linux a pipe holds 64 KiB unless it is asked for more
            import fcntl

            fcntl.fcntl(sys.stdin.buffer, fcntl.F_SETPIPE_SZ, AT_ONCE)
        yield from lines(sys.stdin.buffer, "standard input", inputs, most)
    else:
        try:
            file = flags.file.open("rb")
        except OSError as error:
            raise DataError(f"--file: cannot read {flags.file}: {error.strerror}") from error
        with file:
            yield from lines(file, str(flags.file), inputs, most)


def lines(file: BinaryIO, name: str, inputs: int, most: int) -> Iterator[list[tuple[str, ...]]]:
    """The lines that are there at a time, ``most`` of them, all in UTF-8.

    Raises DataError where one is not UTF-8, too long, or no pair where one is expected; those before it come first.
    """
    number = 0
    for group in waiting(file, name, most):
        asked = []
        try:
            for line in group:
                number += 1
                asked.append(_asked(line, f"{name}, line {number}", inputs))
        except DataError:
            yield asked
            raise
        yield asked


def waiting(file: BinaryIO, name: str, most: int) -> Iterator[list[bytes]]:
    """Whole lines that are there, up to ``most``; waits only where there is none. Raises DataError where one is too
    long."""
    parts: list[bytes] = []  # of a line whose end has not come
    held, number = 0, 0
    while chunk := file.read1(AT_ONCE):  # type: ignore[attr-defined]
        *whole, rest = chunk.split(b"\n")
        if whole:
            number += len(whole)
            whole[0] = b"".join([*parts, whole[0]])
            yield from (whole[first : first + most] for first in range(0, len(whole), most))
            parts, held = [], 0
        parts.append(rest)
        held += len(rest)
        if held > LARGEST_LINE:
            raise too_long(name, number + 1)
    if held:
        yield [b"".join(parts)]


def _asked(line: bytes, where: str, inputs: int) -> tuple[str, ...]:
    """The text or the texts of a line. Raises DataError."""
    try:
        text = line.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 ({error.reason}). Save it as UTF-8.") from error
    asked = tuple(text.split("\t")) if inputs > 1 else (text,)
    if len(asked) != inputs:
        raise DataError(f"{where}: got {len(asked)} text(s), expected {inputs}, a tab between them")
    return asked


def note(found: Prediction) -> str | None:
    """Why there is no answer; None where there is one."""
    return None if found.read else UNKNOWN if found.words else NOTHING


class InferenceCost(NamedTuple):
    """What one inference sends, and its energy on the hardware of a cost table."""

    spikes: int
    graded_events: int
    joules: Joules
    table: CostTable


def costs(answers: Sequence[Prediction], table: CostTable) -> list[InferenceCost]:
    """What each inference took; texts that were relaxed together are priced together."""
    columns: dict[int, list[Any]] = {}
    for counted in {id(found.counted): found.counted for found in answers}.values():
        joules = total(price(counted, table))
        parts = (counted.total("spikes"), counted.total("graded_events"), *vars(joules).values())
        columns[id(counted)] = [part.tolist() for part in np.broadcast_arrays(*np.atleast_1d(*parts))]
    rows = ([column[found.row] for column in columns[id(found.counted)]] for found in answers)
    return [InferenceCost(spikes, graded, Joules(*joules), table) for spikes, graded, *joules in rows]


def as_json(found: Prediction, cost: InferenceCost, explain: bool) -> Json:
    """One answer as an object."""
    answer: Json = {
        "label": found.label,
        "note": note(found),
        "confidence": found.confidence,
        "rates": found.rates,
        "stable_steps": found.stable_steps,
        "steps": found.steps,
        "spikes": cost.spikes,
        "graded_events": cost.graded_events,
        "joules": vars(cost.joules) if found.read else None,
        "hardware": cost.table.name,
        "words": len(found.words),
        "words_read": len(found.read),
        "words_unknown": found.unknown,
        "nearly_a_tie": found.nearly_a_tie,
        "mostly_unknown": found.mostly_unknown,
    }
    if explain:
        received = dict(zip(found.read, found.attention, strict=True))
        answer["attention"] = [[word, received.get(place)] for place, word in enumerate(found.words)]
    if found.patterns:
        answer["patterns"] = [list(each) for each in found.patterns]
    return answer


def as_line(found: Prediction, cost: InferenceCost, apart: str = "  ") -> str:
    """One answer for people: label and rates, why, what it took, ``apart`` from each other."""
    if not found.read:
        return f"–  ({note(found)})"
    highest = sorted(found.rates, key=lambda name: -found.rates[name])[:SHOWN]
    rates = "  ".join(f"{name} {rate:.3f}" for name, rate in found.rates.items() if name in highest)
    rates += "  …" if len(found.rates) > SHOWN else ""
    events = f"{cost.spikes:,} spikes"
    if cost.graded_events:
        events += f" and {cost.graded_events:,} graded events"
    doubts = "nearly a tie, " if found.nearly_a_tie else ""
    if found.mostly_unknown:
        doubts += f"{found.unknown} of {len(found.words)} words unknown, "
    decided = f"{doubts}decided after {found.stable_steps} of {found.steps} steps"
    answer = f"{found.label}  confidence {found.confidence:.2f}  ({rates})"
    took = f"{decided}, {events}, {text_of(cost.joules.value)} on {cost.table.title}"
    return apart.join([answer, *([because(found)] if found.patterns else []), took])


def because(found: Prediction) -> str:
    """The words and n-grams that decided, those for the answer and those against it."""
    said = []
    for sign in (1, -1):
        side = [f"{name} {abs(share):.0%}" for name, share in found.patterns if share * sign >= LEAST]
        said.append(", ".join(side[:MOST]))
    return f"because of {said[0] or 'no single pattern'}" + (f"; against it {said[1]}" if said[1] else "")


def explained(found: Prediction) -> Text:
    """The words, on a background those that get more than an even share of attention, and which get most."""
    if not found.read:
        return Text(" ".join(found.words), style="dim")
    pair = 0 < found.first < len(found.words)
    received = dict(zip(found.read, found.attention, strict=True))
    strongest, shown = max(found.attention), Text("  ")
    for place, word in enumerate(found.words):
        share = received.get(place)
        style = "dim" if share is None else shade((share - 1) / (strongest - 1)) if share > 1 else ""
        if pair and place == found.first:
            shown.append("| ")
        shown.append(word, style).append(" ")
    first = sorted(received, key=lambda place: -received[place])[:MOST]
    most = ", ".join(f"{found.words[place]} {received[place]:.2g}" for place in first)
    return shown.append(f"\n  attention, 1 an even share: {most}")


def shade(share: float) -> str:
    """The background at ``share`` of the way from ``PALE`` to ``FULL``."""
    red, green, blue = (round(pale + share * (full - pale)) for pale, full in zip(PALE, FULL, strict=True))
    return f"black on rgb({red},{green},{blue})"
