"""Joules as the machine itself measures them: NVIDIA's total-energy counter, or RAPL; never a rated power × time."""

from dataclasses import dataclass
from pathlib import Path

RAPL = Path("/sys/class/powercap")


@dataclass
class Meter:
    """Counters read when it was made; ``joules`` is what was used since. ``source`` is None where none can be read.

    RAPL counts whole processor packages, with whatever else runs on them; NVML the whole board.
    """

    source: str | None
    start: list[float]
    wraps: list[float]  # where each counter begins again at 0
    device: str

    @classmethod
    def begin(cls, device: str, rapl: Path = RAPL) -> "Meter":
        """For the device that computes: cpu or cuda."""
        if device == "cuda":
            found = _nvml()
            return cls(None if found is None else "NVML total energy", [found or 0.0], [float("inf")], device)
        counters = _packages(rapl)
        read = [_joules(package / "energy_uj") for package in counters]
        wraps = [_joules(package / "max_energy_range_uj") for package in counters]
        if not counters or None in read or None in wraps:
            return cls(None, [], [], device)
        return cls("RAPL packages", [j for j in read if j is not None], [j for j in wraps if j is not None], device)

    def joules(self, rapl: Path = RAPL) -> float | None:
        """Since ``begin``; None where nothing can be read. A counter may have begun again once."""
        if self.source is None:
            return None
        now = [_nvml()] if self.device == "cuda" else [_joules(p / "energy_uj") for p in _packages(rapl)]
        if None in now or len(now) != len(self.start):
            return None
        pairs = zip((value or 0.0 for value in now), self.start, self.wraps, strict=True)
        return sum(value - start if value >= start else value - start + wrap for value, start, wrap in pairs)


def _packages(rapl: Path) -> list[Path]:
    """Whole packages, intel-rapl:0, …; their parts have a second number."""
    return sorted(path for path in rapl.glob("intel-rapl:*") if path.name.count(":") == 1)


def _joules(path: Path) -> float | None:
    try:
        return int(path.read_text()) / 1e6
    except (OSError, ValueError):
        return None


def _nvml() -> float | None:
    try:
        import pynvml

        pynvml.nvmlInit()
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByIndex(0))) / 1e3
    except Exception:  # not installed, no driver, no such counter: there is nothing to measure with
        return None
