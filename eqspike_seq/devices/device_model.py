"""What a device is, read from a TOML file: one of those beside this module, or the user's own."""

from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, ClassVar

import torch
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor

from eqspike_seq.devices.imperfections import (
    Asymmetry,
    Bits,
    Drift,
    Imperfection,
    Injected,
    LostSpikes,
    Mismatch,
    Programming,
    Pulses,
    Range,
    ReadNoise,
    SoftBounds,
    Stuck,
    Thresholds,
    normal,
    within,
)
from eqspike_seq.errors import ConfigError
from eqspike_seq.files import read_shipped, shipped

IDEAL = "ideal"


@dataclass(frozen=True, kw_only=True)
class DeviceModel:
    """Imperfections, a table of the file each. What has no table is perfect; states and the optimiser always are."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=1)]
    title: Annotated[str, Field(min_length=1)]
    note: str = ""
    range: Range | None = None
    bits: Bits | None = None
    pulses: Pulses | None = None
    soft_bounds: SoftBounds | None = None
    programming: Programming | None = None
    mismatch: Mismatch | None = None
    asymmetry: Asymmetry | None = None
    injected: Injected | None = None
    stuck: Stuck | None = None
    thresholds: Thresholds | None = None
    read_noise: ReadNoise | None = None
    drift: Drift | None = None
    lost_spikes: LostSpikes | None = None

    @property
    def imperfections(self) -> dict[str, Imperfection]:
        """Those it has, by name; a table whose figures are those of an ideal device is none."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in found.items() if isinstance(value, Imperfection) and not value.ideal}

    @property
    def synaptic(self) -> bool:
        """Whether any of them is of synapses or units, and not of spikes on their way."""
        return any(each.synaptic for each in self.imperfections.values())

    def check(self) -> None:
        """Raises ValueError where one needs a range and there is none."""
        ranged = [name for name, each in self.imperfections.items() if each.ranged]
        if ranged and self.range is None:
            raise ValueError(f"{', '.join(ranged)}: needs a [range], of which it is a fraction. Add one.")
        if self.drift is not None and self.drift.seconds < self.drift.since:
            raise ValueError(
                f"drift: got seconds {self.drift.seconds:g}, expected at least since, {self.drift.since:g}"
            )

    def limit(self, fan_in: float | Tensor) -> float | Tensor:
        """W of a layer, infinite without a range."""
        return float("inf") if self.range is None else self.range.of(fan_in)

    def programmed(self, weight: Tensor, limit: float | Tensor, random: torch.Generator) -> Tensor:
        """What synapses of range W ``limit`` store after ``weight`` was programmed into them from outside."""
        found = within(weight, limit)
        if self.bits is not None:
            found = self.bits.nearest(found, limit)
        if self.programming is not None:
            found = found + self.programming.error * limit * normal(found, random)
        return within(found, limit)

    def written(self, weight: Tensor, change: Tensor, limit: float | Tensor, random: torch.Generator) -> Tensor:
        """What synapses of range W ``limit`` that store ``weight`` store after the update ``change``."""
        if self.pulses is not None:
            change = self.pulses.given(change, limit, random)
        found = weight + change if self.soft_bounds is None else self.soft_bounds.moved(weight, change, limit)
        found = within(found, limit)
        return found if self.bits is None else within(self.bits.rounded(found, limit, random), limit)


def profiles() -> list[str]:
    """Names of the device models that come with eqspike."""
    return shipped("eqspike_seq", "devices/profiles")


@cache
def read_device(name: str) -> DeviceModel:
    """The device model of this name, or in the file of this path. Raises ConfigError, saying what is wrong with it."""
    try:
        found = TypeAdapter(DeviceModel).validate_python(read_shipped("eqspike_seq", "devices/profiles", name))
        found.check()
    except OSError as error:
        known = f"expected one of {', '.join(profiles())}, or a TOML file"
        raise ConfigError(f"--device-model: got {name[:80]}, {known}; there is no such file") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(f"{name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except ValueError as error:
        raise ConfigError(f"{name}: not a device model: {error}") from error
    return found
