"""``eqspike report``: one HTML file that works from disk, with no request to anywhere."""

import base64
import itertools
import re
from collections.abc import Callable, Iterable

import numpy as np

from analysis.comparison import HEADS, Row, cells, compare, seeds
from analysis.energy import NEVER, dense_ledgers, priced
from analysis.energy_report import text_of
from analysis.folders import Json, Run, read
from analysis.picture import Picture, as_csv
from analysis.pictures import draw_all
from analysis.style import svg_of
from eqspike_seq.errors import ConfigError
from eqspike_seq.runs.samples import received
from neuromorphic.pricing import CostTable, read_table

Command = Callable[[Run], str]


def page(
    runs: list[Run],
    left_out: list[str],
    hardware: str,
    command: Command,
    said: Iterable[str] = (),
    drawn: Iterable[Picture] = (),
) -> str:
    """The report as HTML, every text in it escaped; what else is ``said`` and ``drawn`` comes first.

    ``command`` gives the command line that makes a run, which the front door knows.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    table = read_table(hardware)
    rows = compare(runs, table)
    subject = next((run for run in reversed(runs) if run.has("samples.npz") and "attention" in run.samples), None)
    count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    environment = Environment(
        loader=PackageLoader("analysis"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html").render(
        title=f"eqspike: {', '.join(dict.fromkeys(run.result.dataset for run in runs))}, {count}",
        verdicts=[*said, *(verdict(row, table) for row in rows)],
        left_out=left_out,
        heads=HEADS,
        rows=[cells(row) for row in rows],
        seeds=seeds(runs),
        hardware=table.title,
        never=f"Not counted: {NEVER}",
        pictures=[embedded(picture) for picture in itertools.chain(drawn, draw_all(runs, table))],
        texts=[] if subject is None else texts(subject),
        texts_from=subject and subject.name,
        made=[provenance(run, command) for run in runs],
    )


def verdict(row: Row, table: CostTable) -> str:
    """What a reader wants to know first of one run."""
    result = row.run.result
    said = f"{row.run.name} ({row.run.label}): {result.test_accuracy:.2%} of {result.n_test:,} test texts are right"
    if row.against is not None:
        gap = 100 * (result.test_accuracy - row.against.result.test_accuracy)
        said += f", {abs(gap):.2f} points {'below' if gap < 0 else 'above'} dense EP"
        if row.test is not None:
            said += " (more than chance would do)" if row.test[2] < 0.05 else " (no more than chance would do)"
    said += "."
    if (simple := result.baseline) is not None:
        said += (
            f" Logistic regression on TF-IDF of words and word pairs has {simple.test_accuracy:.2%} on the same split, "
            f"after {simple.seconds:.1f} s."
        )
    if row.joules is None:
        return said + " Its energy is not known: it left no ledger that can be priced."
    if result.backend == "dense":
        return said + f" An inference takes {text_of(row.joules['inference']['value'])}."
    try:
        dense, accuracies = dense_ledgers(row.run, None if row.against is None else row.against.path)
    except ConfigError:  # the same texts, but not the same network, or no ledger: its own weights, run densely
        dense, accuracies = dense_ledgers(row.run, None)
    if dense is None:
        return said + f" An inference takes {text_of(row.joules['inference']['value'])}."
    return f"{said} {priced(row.run, table, dense, accuracies)['verdict']}"


def embedded(picture: Picture) -> Json:
    """A picture as SVG within the page, and to be taken away with its numbers."""
    whole = svg_of(picture.drawn).decode()
    svg = whole[whole.index("<svg") :]
    for pattern in (r'(id=")', r"(url\(#)", r'(href="#)'):  # names must differ between the pictures of a page
        svg = re.sub(pattern, rf"\g<1>{picture.name}-", svg)
    coded = {"svg64": whole.encode(), "csv64": as_csv(picture.rows)}
    about = {"name": picture.name, "caption": picture.caption, "svg": svg}
    return {**about, **{name: base64.b64encode(content).decode() for name, content in coded.items()}}


def texts(run: Run) -> list[Json]:
    """The texts of samples.npz: words, the attention that each gets (largest 1), output rates, spikes by layer."""
    samples, found = run.samples, []
    outputs, every = samples["free_outputs"], int(samples["reading_steps"])
    names, classes = run.result.classes, outputs.shape[2]
    if len(names) != classes:  # an earlier eqspike kept none
        names = [str(number) for number in range(classes)]
    for index, label in enumerate(samples["labels"].tolist()):
        words, shares = received(samples, index)
        strongest = float(shares.max()) if len(shares) else 1.0
        answer = int(outputs[-1, index].argmax())
        right = "right" if answer == label else "wrong"
        found.append(
            {
                "title": f"{index + 1}: {' '.join(words[:8])} … ({right})",
                "words": words.tolist(),
                "attention": [round(float(value) / (strongest or 1.0), 3) for value in shares],
                "steps": [every * (step + 1) for step in range(len(outputs))],
                "rates": [[round(float(value), 4) for value in line] for line in outputs[:, index].T],
                "spikes": {
                    name.removeprefix("free_spikes_"): np.abs(samples[name][:, index].astype(np.int64))
                    .reshape(len(samples[name]), -1)
                    .sum(1)
                    .tolist()
                    for name in sorted(samples)
                    if name.startswith("free_spikes_")
                },
                "legend": f"Label {names[label]}, answer {names[answer]}. Lines: output rates of {', '.join(names)}.",
            }
        )
    return found


def provenance(run: Run, command: Command) -> list[str]:
    """(run, command, seed, commit, machine)."""
    environment = read(run.path / "environment.json", dict) if run.has("environment.json") else {}
    machine = f"{environment.get('processor', '–')}, {environment.get('threads', '–')} threads"
    return [run.name, command(run), str(run.result.seed), str(environment.get("commit") or "–")[:10], machine]
