"""Pictures as they are laid out: no text over text, no legend over data, labels that say where they stand."""

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from analysis import check_pictures, energy_report
from analysis.folders import Json, open_run, read
from analysis.pictures import draw_all
from analysis.style import figure, legend, logarithmic, svg_of
from analysis.sweep_report import draw
from analysis.units import texts_of
from docs.tools.markdown import RESULTS
from eqspike_seq.runs.findings import ConvergenceCheck, GradientCheck
from neuromorphic.pricing import read_table
from tests.conftest import MARKUP

TABLE = read_table("horowitz-45nm-fp32")
SUPERSCRIPTS = {character: str("⁰¹²³⁴⁵⁶⁷⁸⁹".index(character)) for character in "⁰¹²³⁴⁵⁶⁷⁸⁹"} | {"⁻": "-"}
PREFIXES = {"p": 1e-12, "n": 1e-9, "µ": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6}


def value_of(label: str) -> float:
    """What a tick label says."""
    if joules := re.fullmatch(r"([\d.]+) ([pnµmkM]?)J", label):
        return float(joules[1]) * PREFIXES[joules[2]]
    mantissa, times, powered = label.rpartition("×")
    if ten := re.fullmatch(r"10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)", powered):
        exponent = int("".join(SUPERSCRIPTS[character] for character in ten[1]))
        return float(mantissa if times else "1") * 10.0**exponent
    return float(label)


def laid_out(drawn: Any) -> list[Text]:
    """Every text that a figure shows, after it has been drawn."""
    FigureCanvasAgg(drawn).draw()
    hidden = set()
    for axes in drawn.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in (*axis.majorTicks, *axis.minorTicks):
                if not axes.get_visible() or not low <= tick.get_loc() <= high or not tick.label1.get_visible():
                    hidden |= {tick.label1, tick.label2}
    return [
        text
        for text in drawn.findobj(Text)
        if text.get_text().strip()
        and text.get_visible()
        and text not in hidden
        and (not text.axes or text.axes.get_visible())
    ]


def judge(drawn: Any) -> None:
    """No text over another one or over the edge, no legend over axes, no markup."""
    assert not MARKUP.search(svg_of(drawn).decode())
    texts = laid_out(drawn)
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    for name, box in boxes:
        assert drawn.bbox.x0 - 1 <= box.x0 and box.x1 <= drawn.bbox.x1 + 1, f"{name!r} is cut"
        assert drawn.bbox.y0 - 1 <= box.y0 and box.y1 <= drawn.bbox.y1 + 1, f"{name!r} is cut"
    for (one, box), (other, beside) in itertools.combinations(boxes, 2):
        wide = min(box.x1, beside.x1) - max(box.x0, beside.x0)
        high = min(box.y1, beside.y1) - max(box.y0, beside.y0)
        assert wide <= 1 or high <= 1, f"{one!r} over {other!r}"
    shown = [*drawn.legends, *(axes.get_legend() for axes in drawn.axes if axes.get_legend())]
    for frame in (found.get_window_extent() for found in shown):
        for inside in (axes.get_window_extent() for axes in drawn.axes if axes.get_visible()):
            wide = min(frame.x1, inside.x1) - max(frame.x0, inside.x0)
            assert wide <= 0 or min(frame.y1, inside.y1) <= max(frame.y0, inside.y0)


@pytest.mark.parametrize("joules", [False, True])
@pytest.mark.parametrize("columns", [1, 5])
@pytest.mark.parametrize(
    ("low", "high"),
    [(1e-16, 1.0), (3e-6, 2e-3), (0.4, 60.0), (64, 2048), (1.1, 1.3), (5e4, 3e7), (7e-12, 4e-4), (20, 300)],
)
def test_ticks_of_a_log_axis_say_where_they_stand_and_keep_apart(
    low: float, high: float, columns: int, joules: bool
) -> None:
    drawn, axes = figure(2, columns)
    for place in axes.flat:
        place.plot([low, high], [low, high])
        logarithmic(place, "x", "y", said=texts_of if joules else None)
    judge(drawn)
    for axis in (axis for place in axes.flat for axis in (place.xaxis, place.yaxis)):
        bottom, top = sorted(axis.get_view_interval())
        seen = [tick for tick in axis.majorTicks if bottom <= tick.get_loc() <= top]
        assert len(seen) >= 2
        if not joules or low > 1e-12:  # below a picojoule labels have two digits
            assert all(value_of(tick.label1.get_text()) == pytest.approx(tick.get_loc(), rel=5e-3) for tick in seen)


@pytest.mark.parametrize("values", [[0.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
def test_a_log_axis_of_nothing_or_one_value_is_drawn(values: list[float]) -> None:
    drawn, ((axes,),) = figure()
    axes.plot([1, 2], values)
    logarithmic(axes, "y")
    judge(drawn)


@pytest.mark.parametrize("label", ["$x_1$", r"\frac{a}{b}$", "_x_", "a_b^c"])
def test_names_are_taken_as_they_are(label: str) -> None:
    drawn, ((axes,),) = figure()
    axes.plot([1, 10], [1, 10], label=f"run {label}")
    axes.set(title=label, xlabel=label)
    logarithmic(axes, "x", "y")
    legend(drawn)
    assert [text.get_text() for text in laid_out(drawn)].count(label) == 2
    assert svg_of(drawn).decode().count(f">{label}</text>") == 2


@pytest.mark.parametrize("names", [("imdb-dense-seed0", "imdb-sigma-delta-seed0"), ("imdb-*",), ("m*",)])
def test_pictures_of_runs_are_clear(names: tuple[str, ...]) -> None:
    runs = [open_run(path) for name in names for path in sorted(RESULTS.glob(name)) if path.is_dir()]
    pictures = list(draw_all(runs, TABLE))
    assert len(pictures) >= 5
    for picture in pictures:
        judge(picture.drawn)


CHECKS = sorted(path for path in RESULTS.glob("checks/*/*.json") if path.stem in ("gradients", "convergence"))


@pytest.mark.parametrize("path", CHECKS, ids=lambda path: path.parent.name)
def test_pictures_of_checks_are_clear(path: Path) -> None:
    schema = GradientCheck if path.stem == "gradients" else ConvergenceCheck
    for picture in check_pictures.pictures(read(path, schema.read)):
        judge(picture.drawn)


def test_picture_of_a_sweep_is_clear() -> None:
    varied = {"beta": (0.01, 0.1, 1.0), "hidden": ((40,), (64, 32), (1280, 64, 40)), "rule": ("count", "trace", "x_1")}
    rows = [dict(zip(varied, values, strict=True)) for values in itertools.product(*varied.values())]
    picture = draw([{**row, "bias": 3, "validation_accuracy": 0.5} for row in rows], [*varied, "bias"])
    judge(picture.drawn)
    assert [axes.get_xscale() for axes in picture.drawn.axes[:4]] == ["log", "linear", "linear", "linear"]


def priced(joules: float) -> Json:
    """An entry of energy.json with one component."""
    return {"joules": {"value": joules}, "components": {"layers": {"value": joules}}}


def test_a_bar_that_goes_on_is_broken_and_says_how_far(tmp_path: Path) -> None:
    hardware = {}
    for name, times in (("one", 2.9), ("two", 219.0), ("three", 0.5)):
        both = {"inference": priced(1e-6 * times), "training": priced(1e-6 * times)}
        dense = {"on": "one", "inference": priced(1e-6), "training": priced(1e-6)}
        none = {"inference": None, "training": None}
        spikes = {"inference": 0.0, "training": 0.0}
        hardware[name] = {
            "title": name,
            **both,
            "dense": dense,
            "dense_over_this": none,
            "joules_of_spikes": spikes,
            "spikes_per_synapse": {"inference": 1.0, "training": 1.0},
        }
    path = energy_report.draw({"hardware": hardware}, tmp_path)[0]
    said = re.findall(r">([^<]*×)</text>", path.read_text())
    assert said == ["2.9 µJ, 2.9×", "219 µJ, 219×", "500 nJ, 0.5×"] * 2
    drawn, ((axes,),) = figure()
    for place, times in enumerate((2.9, 219.0, 0.5)):
        energy_report._bar(axes, place, priced(times), priced(1.0))
    longest = [bar.get_x() + bar.get_width() for bar in axes.patches if bar.get_width()]
    assert max(longest) <= energy_report.BROKEN < energy_report.WIDEST
    broken = {round(float(line.get_ydata().mean())) for line in axes.lines}  # the gaps across a bar
    assert broken == {0, 1}
