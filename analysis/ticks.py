"""Ticks of logarithmic axes: places with room for their labels, and labels as people write numbers."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import Formatter, LogLocator, MaxNLocator

ROOM = 0.6  # of the ticks for which matplotlib sees room: its labels are assumed to be three digits wide
PLAIN = (1e-3, 1e4)  # an axis within this range has plain numbers, any other one powers of ten
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def power(value: float) -> str:
    """A positive number as ``2×10⁻³``; those from 1 to 100 as they are."""
    mantissa, exponent = f"{value:.6e}".split("e")
    if 0 <= int(exponent) <= 1:
        return f"{value:g}"
    ten = "10" + str(int(exponent)).translate(SUPERSCRIPTS)
    return ten if float(mantissa) == 1 else f"{float(mantissa):g}×{ten}"


def numbers(values: Sequence[float]) -> list[str]:
    """Labels of one axis, all plain or all powers of ten."""
    if all(PLAIN[0] <= value <= PLAIN[1] for value in values):
        return [f"{value:g}" for value in values]
    return [power(value) for value in values]


class LogTicks(LogLocator):
    """1, 2 and 5 of each decade where there is room, else 1 and 3, else 1 of each decade, of every second and so on."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """The ticks from ``vmin`` to ``vmax``, both positive; at least two."""
        low, high = sorted((vmin, vmax))
        room = max(2, int(ROOM * self.axis.get_tick_space())) if self.axis is not None else 9
        exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)

        def within(places: Any) -> Any:
            return np.array([place for place in places if low <= place <= high])

        decades = within(float(f"1e{exponent}") for exponent in exponents)
        for mantissas, every in [((1, 2, 5), 1), ((1, 3), 1), *(((1,), every) for every in range(1, len(exponents)))]:
            chosen = [exponent for exponent in exponents if exponent % every == 0]
            places = within(float(f"{mantissa}e{exponent}") for exponent in chosen for mantissa in mantissas)
            if len(places) <= room:
                break
        if len(places) >= 2:
            return places
        if len(decades) >= 2:
            return decades[[0, -1]]
        return within(
            MaxNLocator(max(1, room - 1)).tick_values(low, high)
        )  # less than a decade: those of a linear axis


class LogLabels(Formatter):
    """Labels by a function of all values of an axis."""

    def __init__(self, said: Callable[[Sequence[float]], list[str]]) -> None:
        self.said = said

    def __call__(self, x: float, pos: int | None = None) -> str:
        """The label of one tick."""
        return self.said([x])[0]

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        """The labels of all."""
        return self.said(values)
