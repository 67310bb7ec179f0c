"""Imperfections whose strength can be varied, for ``eqspike robustness``: one figure of one table of a device model."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from eqspike_seq.devices.imperfections import (
    Asymmetry,
    Drift,
    Imperfection,
    Injected,
    LostSpikes,
    Mismatch,
    Programming,
    ReadNoise,
    Stuck,
    Thresholds,
)

MONTH = 30 * 24 * 3600.0  # seconds
SINCE = 20.0  # seconds after which a weight is as it was written
RANGE = 8.0  # of weights, over √fan-in


@dataclass(frozen=True)
class Axis:
    """``kind``, ``table`` and ``figure`` of a device model that has the strength, written ``symbol``, at most ``most``.

    ``title`` names the imperfection, ``meaning`` says what the strength is; ``strengths`` are those to begin with, and
    ``more`` the other figures of the table. ``gains``: the σ of gains exp(σ ξ − σ²/2) that differ as much as
    synapses do at a strength of 1, where gains are what differs.
    """

    kind: type[Imperfection]
    table: str
    figure: str
    symbol: str
    title: str
    meaning: str
    strengths: tuple[float, ...]
    most: float
    more: Mapping[str, float] = field(default_factory=dict)
    gains: float | None = None

    def model(self, strength: float) -> dict[str, Any]:
        """The content of a device model of this strength and nothing else."""
        said = {"label": "modelled", "source": "an axis of eqspike robustness, not a chip's"}
        found: dict[str, Any] = {"name": f"{self.table}-{strength:g}", "title": self.at(strength)}
        if self.kind.ranged:
            found["range"] = {"limit": RANGE, **said}
        return {**found, self.table: {self.figure: float(strength), **self.more, **said}}

    def at(self, strength: float) -> str:
        """The strength in words."""
        return f"{self.symbol} = {strength:g}"


MISMATCH, GAINS = "mismatch", "gains exp(σ ξ − σ²/2)"
INJECTED = Axis(Injected, "injected", "sigma", "σ", "noise in training", GAINS, (), 10)
AXES = {
    MISMATCH: Axis(Mismatch, MISMATCH, "sigma", "σ", MISMATCH, GAINS, (0.25, 0.5, 0.75, 1, 1.5), 10, gains=1.0),
    "asymmetry": Axis(Asymmetry, "asymmetry", "eta", "η", "asymmetry", "feedback (1 − η) w + η r", (0.25, 0.5, 1), 1),
    "read-noise": Axis(
        ReadNoise, "read_noise", "sigma", "σ", "read noise", f"{GAINS} of each batch", (0.25, 0.5, 1), 10, gains=1.0
    ),
    "drift": Axis(
        Drift,
        "drift",
        "spread",
        "s",
        "a month of drift",
        "w (t/t₀)^−ν, exponents ν of standard deviation s",
        (0.02, 0.05, 0.1),
        1,
        {"exponent": 0.0, "seconds": MONTH, "since": SINCE},
        gains=math.log(MONTH / SINCE),
    ),
    "thresholds": Axis(
        Thresholds, "thresholds", "sigma", "σ", "offsets of units", "constant inputs σ ξ of units", (0.25, 0.5, 1), 10
    ),
    "stuck": Axis(Stuck, "stuck", "share", "p", "stuck synapses", "share of synapses", (0.05, 0.1, 0.2), 1),
    "programming": Axis(
        Programming,
        "programming",
        "error",
        "e",
        "programming errors",
        "errors in ranges of weights",
        (0.02, 0.05, 0.1),
        1,
    ),
    "lost-spikes": Axis(
        LostSpikes,
        "lost_spikes",
        "share",
        "p",
        "lost spikes",
        "share of spikes that never arrive",
        (0.01, 0.05, 0.2),
        0.99,
    ),
}
