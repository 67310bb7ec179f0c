"""``eqspike report``: one HTML file that works from disk, with no request to anywhere."""

import base64
import html
import itertools
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from analysis.answers import confusion, mistakes, texts
from analysis.comparison import HEADS, Row, cells, compare, figures, seeds
from analysis.energy import NEVER
from analysis.folders import Json, Run, read
from analysis.picture import Picture, as_csv
from analysis.pictures import Series, draw_all, series
from analysis.style import svg_of
from analysis.summary import facts, verdicts
from analysis.ticks import LogLabels
from eqspike_seq.data.registry import pixels_of
from neuromorphic.pricing import CostTable, read_table

Command = Callable[[Run], str]
MOST = 600_000  # characters of single texts and mistakes in a page; the first run's are always there
FONTS = re.compile(r"font-family: [^;\"]*;?|; font-family: [^;\"]*(?=\")")
INK = (("#000000", "currentColor"), ("#ffffff", "var(--panel)"))  # what a dark page turns round


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
    rows, shown = compare(runs, table), series(runs)
    sets = list(dict.fromkeys(run.result.dataset for run in runs))
    environment = Environment(
        loader=PackageLoader("analysis"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html").render(
        title=f"eqspike: {', '.join(sets)}, {'1 run' if len(runs) == 1 else f'{len(runs)} runs'}",
        verdicts=[*([said] if (said := list(said)) else []), *verdicts(rows, table)],
        left_out=left_out,
        cards=[card(row, table, shown) for row in rows],
        subjects=subjects(runs),
        what="images" if all(map(pixels_of, sets)) else "texts",
        heads=HEADS,
        rows=[list(zip(cells(row), figures(row), strict=True)) for row in rows],
        seeds=seeds(runs),
        hardware=table.title,
        never=f"Not counted: {NEVER}",
        series=shown,
        pictures=[embedded(picture, shown) for picture in itertools.chain(drawn, draw_all(runs, table))],
        made=[provenance(run, command) for run in runs],
    )


def card(row: Row, table: CostTable, shown: list[Series]) -> Json:
    """A run in a few figures, in the colour that pictures give it."""
    (mine,) = (each for each in shown if row.run in each.runs)
    return {"name": row.run.name, "label": row.run.label, "place": mine.place, "facts": facts(row, table)}


def subjects(runs: list[Run]) -> list[Json]:
    """What each run confuses, its mistakes, and single texts while there is room for them in the page."""
    found: list[Json] = []
    length = 0
    for run in runs:
        whole: Json = {"texts": [], "mistakes": []}
        if run.has("samples.npz"):
            single = {"texts": texts(run), "mistakes": mistakes(run)}
            size = len(json.dumps(single))
            if not length or length + size <= MOST:
                whole, length = single, length + size
        about = {"name": run.name, "classes": run.result.classes, "confusion": confusion(run)}
        if whole["texts"] or about["confusion"]:
            found.append({**about, **whole})
    return found


def embedded(picture: Picture, shown: list[Series]) -> Json:
    """A picture as SVG within the page, to be taken away with its numbers; what it shows of runs can be asked."""
    whole = svg_of(picture.drawn).decode()
    svg = FONTS.sub("", whole[whole.index("<svg") :])
    for colour, turned in INK:
        svg = svg.replace(colour, turned)
    svg = told(svg, picture.drawn, shown)
    for pattern in (r'(id=")', r"(url\(#)", r'(href="#)'):  # names must differ between the pictures of a page
        svg = re.sub(pattern, rf"\g<1>{picture.name}-", svg)
    coded = base64.b64encode(as_csv(picture.rows)).decode()
    runs = " data-series" in svg
    return {"name": picture.name, "caption": picture.caption, "svg": svg, "csv64": coded, "runs": runs}


def told(svg: str, drawn: Any, shown: list[Series]) -> str:
    """The SVG with groups that say which series they are of, and points that say their values."""
    labels = {each.place: each.label for each in shown}
    artists = {a.get_gid(): a for a in drawn.findobj(lambda a: str(a.get_gid()).startswith("series-"))}

    def group(match: re.Match[str]) -> str:
        name, place, rest = match[1], int(match[2]), match[3]
        points = values(artists[name], labels.get(place, ""))
        if len(points) == rest.count("<use "):
            left = iter(points)
            rest = re.sub("<use ", lambda _: f'<use data-tip="{html.escape(next(left))}" ', rest)
        return f'<g data-series="{place}">{rest}'

    return re.sub(r'<g id="(series-(\d+)-\d+)">(.*?)(?=<g id="|\Z)', group, svg, flags=re.DOTALL)


def values(artist: Any, label: str) -> list[str]:
    """What each point of a line says: its series, and its place along both axes."""
    if not hasattr(artist, "get_xydata") or artist.get_marker() in (None, "None", ""):
        return []
    found = []
    for point in np.asarray(artist.get_xydata(), dtype=float):
        if np.isfinite(point).all():
            axes = (artist.axes.xaxis, artist.axes.yaxis)
            along = (
                f"{axis.label.get_text() or axis.axes.get_ylabel()}: {number(axis, value)}"
                for axis, value in zip(axes, point, strict=True)
            )
            found.append("\n".join([label, *along]))
    return found


def number(axis: Any, value: float) -> str:
    """As the labels of the axis say it, to four digits."""
    rounded, formatter = float(f"{value:.4g}"), axis.get_major_formatter()
    return formatter(rounded) if isinstance(formatter, LogLabels) else f"{rounded:g}"


def provenance(run: Run, command: Command) -> list[str]:
    """(run, command, seed, commit, machine)."""
    environment = read(run.path / "environment.json", dict) if run.has("environment.json") else {}
    machine = f"{environment.get('processor', '–')}, {environment.get('threads', '–')} threads"
    return [run.name, command(run), str(run.result.seed), str(environment.get("commit") or "–")[:10], machine]
