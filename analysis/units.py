"""Quantities as people write them: with a unit that fits, and no more digits than they are worth."""

from collections.abc import Sequence

ENERGY = ((1e6, "MJ"), (1e3, "kJ"), (1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ"), (1e-9, "nJ"), (1e-12, "pJ"))
TIME = ((3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"))
MEMORY = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def text_of(joules: float) -> str:
    """An energy to three digits."""
    for size, unit in ENERGY:
        if joules >= 0.9995 * size:  # what rounds to a thousand has the next unit
            return f"{joules / size:.3g} {unit}"
    return "0" if joules == 0 else f"{joules / 1e-12:.2g} pJ"


def texts_of(joules: Sequence[float]) -> list[str]:
    """Each with a unit that fits."""
    return [text_of(value) for value in joules]


def duration(seconds: float) -> str:
    """A time to two digits; minutes begin at 100 s, hours at 100 min."""
    for size, unit in TIME:
        if seconds >= (size if size <= 1 else 100 * size / 60):
            return f"{rounded(seconds / size)} {unit}"
    return "0 s" if seconds == 0 else "below 1 ms"


def memory(size: float) -> str:
    """So many bytes, to two digits."""
    for bytes_, unit in MEMORY:
        if size >= bytes_:
            return f"{rounded(size / bytes_)} {unit}"
    return f"{size:.0f} B"


def rounded(value: float) -> str:
    """A positive number to two digits, never with an exponent: 1.7, 26, 8,400."""
    return f"{float(f'{value:.2g}'):,.10g}"


def times(factor: float) -> str:
    """How many times more, or less, something takes that takes ``factor`` times as much."""
    more, said = factor >= 1, rounded(factor if factor >= 1 else 1 / factor)
    return "as much" if said == "1" else f"{said} times {'more' if more else 'less'}"


def beside(factor: float, other: str) -> str:
    """The same, with what it is compared with: as much as dense EP, 1.7 times less than dense EP."""
    said = times(factor)
    return f"{said} {'as' if said == 'as much' else 'than'} {other}"
