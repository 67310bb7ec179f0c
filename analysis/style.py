"""One style for all pictures: sizes, colours that colour-blind eyes tell apart, log axes, legends that cover no data,
SVG that is the same every time."""

import io
import math
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from eqspike_seq.files import write_bytes

CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")  # characters that XML has no place for
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe & Ito
MARKERS = "osD^v"
POINTS = 72  # an inch
LINE = 13.0  # points: height of a line of a legend
LETTER = 5.2  # points: width of a letter of a legend
HANDLE = 40.0  # points: width of what a legend shows before a label, and of the gap behind it
LONGEST = 80  # letters: labels are shortened to as many


def figure(rows: int = 1, columns: int = 1, height: float | None = None, one_scale: bool = False) -> tuple[Any, Any]:
    """(figure, array of axes), in the style of all pictures.

    It is 7 inches wide with one column and 10 with more; ``height`` is 4 inches for one row and 3 a row for more.
    With ``one_scale`` the axes of a row have one vertical axis.
    """
    import matplotlib
    from cycler import cycler
    from matplotlib.figure import Figure

    matplotlib.rcParams.update(
        {
            "svg.hashsalt": "eqspike",
            "svg.fonttype": "none",
            "text.parse_math": False,  # names and words are taken as they are
            "font.size": 9,
            "axes.titlesize": 9,
            "legend.fontsize": 8,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.formatter.useoffset": False,
            "grid.alpha": 0.3,
            "axes.prop_cycle": cycler(color=COLOURS),
        }
    )
    size = (7.0 if columns == 1 else 10.0, height or (4.0 if rows == 1 else 3.0 * rows))
    drawn = Figure(figsize=size, layout="constrained")
    return drawn, drawn.subplots(rows, columns, squeeze=False, sharey="row" if one_scale else False)


def logarithmic(
    axes: Any, *which: Literal["x", "y"], said: Callable[[Sequence[float]], list[str]] | None = None
) -> None:
    """Make axes logarithmic where anything positive is drawn along them, else leave them linear.

    ``said`` turns ticks into labels (default: plain numbers or powers of ten). Labels of matplotlib's own would be
    markup, which is not parsed here: nothing but this function may make an axis logarithmic.
    """
    from matplotlib.ticker import NullFormatter

    from analysis.ticks import LogLabels, LogTicks, numbers

    for name in which:
        axis = getattr(axes, f"{name}axis")
        if math.isinf(axis.get_minpos()):
            continue
        getattr(axes, f"set_{name}scale")("log", nonpositive="mask")
        axis.set_major_locator(LogTicks())
        axis.set_major_formatter(LogLabels(said or numbers))
        axis.set_minor_formatter(NullFormatter())


def together(drawn: Any, place: int, *artists: Any) -> None:
    """Give what shows series ``place`` ids by which a page finds it in the SVG: ``series-PLACE-NUMBER``."""
    number = len(drawn.findobj(lambda artist: str(artist.get_gid()).startswith("series-")))
    for artist in artists:
        artist.set_gid(f"series-{place}-{number}")
        number += 1


def legend(drawn: Any, handles: Sequence[Any] = ()) -> None:
    """A legend below all axes, where it covers no data: of ``handles``, or of all that has a label in any of them."""
    if not handles:
        found = (pair for axes in drawn.axes for pair in zip(*axes.get_legend_handles_labels(), strict=True))
        handles = list({label: handle for handle, label in reversed(list(found))}.values())[::-1]
    _grow(drawn, _below(drawn, handles, drawn.get_figwidth(), loc="outside lower center"))


def legends(drawn: Any) -> None:
    """A legend below each of the axes of a row."""
    from matplotlib.transforms import ScaledTranslation

    lines, width = 0, drawn.get_figwidth() / len(drawn.axes)
    for axes in drawn.axes:
        under = axes.transAxes + ScaledTranslation(0, -3 * LINE / POINTS, drawn.dpi_scale_trans)
        where = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "bbox_transform": under}
        lines = max(lines, _below(axes, axes.get_legend_handles_labels()[0], width, **where))
    _grow(drawn, lines)


def _below(place: Any, handles: Sequence[Any], width: float, **where: Any) -> int:
    """A legend in as many columns as have room in ``width`` inches; the number of its lines."""
    if not handles:
        return 0
    labels = [short(handle.get_label(), LONGEST) for handle in handles]
    columns = int(POINTS * width / (HANDLE + LETTER * max(len(label) for label in labels)))
    columns = min(len(labels), max(1, columns))
    shown = [handle[0] if isinstance(handle, tuple) else handle for handle in handles]  # of a point: without its range
    place.legend(shown, labels, ncols=columns, **where)
    return math.ceil(len(labels) / columns)


def _grow(drawn: Any, lines: int) -> None:
    """Make room for a legend of more than two lines."""
    drawn.set_figheight(drawn.get_figheight() + LINE * max(0, lines - 2) / POINTS)


def key(label: str, **looks: Any) -> Any:
    """A line that only a legend shows."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **{"color": "dimgrey", **looks})


def short(name: str, most: int) -> str:
    """A name of at most ``most`` letters; of a longer one the middle is left out."""
    return name if len(name) <= most else f"{name[: most - most // 2 - 1]}…{name[len(name) - most // 2 :]}"


def svg_of(drawn: Any) -> bytes:
    """The figure as SVG, the same every time."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "constrained_layout not applied")  # names longer than the picture is wide
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # text stays text: whoever shows it has the font
        drawn.savefig(content, format="svg", metadata={"Date": None})
    return CONTROL.sub(b"?", content.getvalue())


def save(drawn: Any, path: Path) -> Path:
    """Write the figure as SVG."""
    write_bytes(path, svg_of(drawn))
    return path
