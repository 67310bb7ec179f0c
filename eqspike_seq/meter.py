"""Joules as the machine itself measures them: NVIDIA's total-energy counter, or RAPL; never a rated power × time."""

from dataclasses import dataclass
from pathlib import Path

RAPL = Path("/sys/class/powercap")


@dataclass
class Meter:
    """Counters as they stood when last read. ``source`` is None where none can be read.

    RAPL counts whole processor packages, with whatever else runs on them; NVML the whole board.
    """

    source: str | None
    last: list[float]
    wraps: list[float]  # where each counter begins again at 0
    rapl: Path

    @classmethod
    def begin(cls, device: str, rapl: Path = RAPL) -> "Meter":
        """For the device that computes: cpu or cuda."""
        if device == "cuda":
            found = _nvml()
            return cls(None, [], [], rapl) if found is None else cls("NVML", [found], [float("inf")], rapl)
        packages = _packages(rapl)
        last = [_joules(package / "energy_uj") for package in packages]
        wraps = [_joules(package / "max_energy_range_uj") for package in packages]
        known = [(j, wrap) for j, wrap in zip(last, wraps, strict=True) if j is not None and wrap is not None]
        if not packages or len(known) < len(packages):
            return cls(None, [], [], rapl)
        return cls("RAPL packages", [j for j, _ in known], [wrap for _, wrap in known], rapl)

    def read(self) -> float | None:
        """Joules since ``begin`` or the last reading; None where there are none. To be read before a counter, of some
        hundred kilojoules, begins again twice."""
        if self.source is None:
            return None
        now = [_nvml()] if self.source == "NVML" else [_joules(p / "energy_uj") for p in _packages(self.rapl)]
        values = [value for value in now if value is not None]
        if len(values) < len(self.last):
            return None
        steps = zip(values, self.last, self.wraps, strict=True)
        used = sum(value - last if value >= last else value - last + wrap for value, last, wrap in steps)
        self.last = values
        return used


def _packages(rapl: Path) -> list[Path]:
    """Whole packages: their parts, and psys, which holds packages, are counted by other names."""
    return sorted(path.parent for path in rapl.glob("intel-rapl:*/name") if path.read_text().startswith("package"))


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
