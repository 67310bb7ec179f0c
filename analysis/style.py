"""One style for all pictures: colours that colour-blind eyes can tell apart, SVG that is the same every time."""

import io
import re
import warnings
from pathlib import Path
from typing import Any

from eqspike_seq.files import write_bytes

CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")  # characters that XML has no place for
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe & Ito


def figure(rows: int = 1, columns: int = 1, width: float = 7.0, height: float = 4.0) -> tuple[Any, Any]:
    """(figure, array of axes), in the style of all pictures."""
    import matplotlib
    from cycler import cycler
    from matplotlib.figure import Figure

    matplotlib.rcParams.update(
        {
            "svg.hashsalt": "eqspike",
            "svg.fonttype": "none",
            "text.parse_math": False,  # names and words are taken as they are
            "font.size": 9,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "axes.prop_cycle": cycler(color=COLOURS),
        }
    )
    drawn = Figure(figsize=(width, height), layout="constrained")
    return drawn, drawn.subplots(rows, columns, squeeze=False)


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
