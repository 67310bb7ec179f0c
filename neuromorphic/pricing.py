"""Joules of a ledger on named hardware: every count times a constant that has a source, a range and a label.

    E = Σ counts × price + static power × steps × seconds a step

A cost table is a TOML file, one of those beside this module or the user's own. It prices every kind of the ledger or
says why it does not; nothing is left out silently.
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from eqspike_seq.errors import ConfigError
from eqspike_seq.files import read_shipped, shipped
from eqspike_seq.ledger import KINDS, Ledger
from eqspike_seq.phases import Phase
from eqspike_seq.runs.schema import Schema

PICO = 1e-12
GROUPS = {
    "events": ("spikes", "payload_bits", "synaptic_events"),
    "arithmetic": ("accumulates", "multiply_accumulates", "exponentials", "divisions"),
    "neurons": ("neuron_updates", "idle_updates"),
    "memory": ("state_reads", "state_writes", "weight_reads", "pattern_reads", "pattern_writes", "lookup_reads"),
    "learning": ("plasticity_reads", "plasticity_writes", "optimiser_reads", "optimiser_writes"),
    "input and output": ("io_bytes",),
}
GROUP_OF = {kind: group for group, kinds in GROUPS.items() for kind in kinds}
PRICED = tuple(kind for kind in KINDS if kind in GROUP_OF)
GROUP_OF |= {"graded_events": "events"}  # sent at the price of a spike


class _Table(Schema):
    model_config = ConfigDict(extra="forbid")


class Constant(_Table):
    """A figure with its range, unit, source and how it was had."""

    value: float = Field(ge=0, le=1e12)
    low: float = Field(ge=0, le=1e12)
    high: float = Field(ge=0, le=1e12)
    unit: Literal["pJ", "W", "s"]
    label: Literal["measured", "simulated", "modelled", "recalled"]
    source: str = Field(min_length=1)

    @model_validator(mode="after")
    def _in_order(self) -> "Constant":
        if not self.low <= self.value <= self.high:
            raise ValueError(f"got low {self.low}, value {self.value}, high {self.high}; expected low ≤ value ≤ high")
        return self


class Static(_Table):
    """Power that flows whether anything happens or not, for as long as the steps of a text take."""

    power: Constant
    step_seconds: Constant

    @model_validator(mode="after")
    def _in_units(self) -> "Static":
        for name, constant, unit in (("power", self.power, "W"), ("step_seconds", self.step_seconds, "s")):
            if constant.unit != unit:
                raise ValueError(f"{name}: got unit {constant.unit}, expected {unit}")
        return self


class CostTable(_Table):
    """One piece of hardware. ``dense`` names the table on which dense EP is priced beside it, itself if empty."""

    name: str = Field(min_length=1)
    title: str = Field(min_length=1)
    word_bits: int = Field(ge=1, le=1024)
    note: str = ""
    dense: str = ""
    prices: dict[str, Constant]
    omitted: dict[str, str] = {}
    static: Static | None = None

    def of(self, kind: str) -> float:
        """Picojoules of one event, 0 where it is omitted."""
        return self.prices[kind].value if kind in self.prices else 0.0

    @model_validator(mode="after")
    def _complete(self) -> "CostTable":
        for kind in (*self.prices, *self.omitted):
            if kind not in PRICED:
                raise ValueError(f"{kind}: no such kind of event; expected one of {', '.join(PRICED)}")
        if both := sorted(set(self.prices) & set(self.omitted)):
            raise ValueError(f"{', '.join(both)}: both priced and omitted. Keep one of them.")
        if missing := [kind for kind in PRICED if kind not in self.prices and kind not in self.omitted]:
            raise ValueError(
                f"{', '.join(missing)}: missing. Give each a price, or say under [omitted] why it costs nothing."
            )
        for kind, constant in self.prices.items():
            if constant.unit != "pJ":
                raise ValueError(f"{kind}: got unit {constant.unit}, expected pJ")
        return self


@dataclass  # not frozen, which takes three times as long to make: there is one of every count
class Joules:
    """An energy with its range."""

    value: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def __add__(self, other: "Joules") -> "Joules":
        return Joules(self.value + other.value, self.low + other.low, self.high + other.high)

    def __truediv__(self, number: float) -> "Joules":
        return Joules(self.value / number, self.low / number, self.high / number)


@dataclass
class Cost:
    """What one kind of event of one layer in one phase costs; ``layer`` "static" for static power."""

    layer: str
    phase: str
    kind: str
    count: int
    joules: Joules


def names() -> list[str]:
    """Of the tables that come with eqspike."""
    return shipped("neuromorphic", "costs")


def read_table(name: str) -> CostTable:
    """The table of this name, or in the file of this path. Raises ConfigError, saying what is wrong with it."""
    try:
        found = read_shipped("neuromorphic", "costs", name)
    except OSError as error:
        known = f"expected one of {', '.join(names())}, or a TOML file"
        raise ConfigError(f"--hardware: got {name[:80]}, {known}; there is no such file") from error
    except ValueError as error:
        raise ConfigError(f"{name}: not a TOML file: {error}") from error
    try:
        return CostTable.read(found)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from error


def price(ledger: Ledger, table: CostTable) -> list[Cost]:
    """The cost of every count of a ledger, in joules for all its texts; of a ``LedgerByText``, of each, (B,).

    A graded event is sent like a spike, and its bits on top. Where a table prices whole synaptic events, a layer that
    has them does not pay for its fetches of patterns again.
    """
    costs = []
    for layer, phases in ledger.counts.items():
        for phase, kinds in phases.items():
            for kind, count in kinds.items():
                constant = table.prices.get("spikes" if kind == "graded_events" else kind)
                if kind == "pattern_reads" and "synaptic_events" in table.prices:
                    count = count * (kinds["synaptic_events"] == 0)
                if constant is not None and not (isinstance(count, int) and count == 0):
                    costs.append(Cost(layer, phase, kind, count, _times(constant, count * PICO)))
    if table.static is not None:
        power, step = table.static.power, table.static.step_seconds
        a_step = Joules(power.value * step.value, power.low * step.low, power.high * step.high)
        for phase, steps in ledger.steps.items():
            costs.append(Cost("static", phase, "static", steps, _times(a_step, steps)))
    return costs


def extremes(above: Ledger, below: Ledger, table: CostTable) -> tuple[float, float]:
    """(least, greatest) ratio of two ledgers' energies a text, each constant anywhere in its range, the same for both.

    Σ pₖ aₖ / Σ pₖ bₖ is greatest where pₖ is high for aₖ > λ bₖ and low elsewhere, λ the ratio itself: repeated
    until it no longer changes (Dinkelbach 1967).
    """
    sums: dict[str, list[float]] = {}  # kind: [low, high of above, low, high of below], a text
    for place, ledger in ((0, above), (2, below)):
        for cost in price(ledger, table):
            row = sums.setdefault(cost.kind, [0.0] * 4)
            row[place] += cost.joules.low / ledger.samples[Phase.FREE]
            row[place + 1] += cost.joules.high / ledger.samples[Phase.FREE]
    found = []
    for sign in (-1, 1):
        ratio = 0.0
        for _ in range(100):
            high = [sign * ((row[1] - row[0]) - ratio * (row[3] - row[2])) > 0 for row in sums.values()]
            top, bottom = (
                sum(row[place + int(take)] for row, take in zip(sums.values(), high, strict=True)) for place in (0, 2)
            )
            before, ratio = ratio, top / bottom
            if ratio == before:
                break
        found.append(ratio)
    return found[0], found[1]


def at_bits(table: CostTable, bits: int) -> CostTable:
    """``table`` with narrower words: the multiplication in a product shrinks with the square of the bits, words in
    proportion; sums, bits that are sent and bytes that come in stay."""
    share = bits / table.word_bits
    prices = dict(table.prices)
    add = table.prices["accumulates"]
    for kind, constant in table.prices.items():
        changed = {}
        for end in ("value", "low", "high"):
            now = getattr(constant, end)
            if kind in ("multiply_accumulates", "exponentials", "divisions"):
                whole = getattr(table.prices["multiply_accumulates"], end)
                narrow = (whole - getattr(add, end)) * share**2 + getattr(add, end)
                changed[end] = now * narrow / whole
            elif kind.endswith(("reads", "writes")):
                changed[end] = now * share
        prices[kind] = constant.model_copy(update=changed)
    return table.model_copy(update={"prices": prices, "word_bits": bits, "title": f"{table.title} at {bits} bits"})


def total(costs: list[Cost]) -> Joules:
    """Of all."""
    each = [cost.joules for cost in costs]
    return Joules(sum(j.value for j in each), sum(j.low for j in each), sum(j.high for j in each))


def _times(joules: Joules | Constant, number: float) -> Joules:
    return Joules(joules.value * number, joules.low * number, joules.high * number)
