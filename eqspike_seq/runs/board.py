"""``--tensorboard``: the lines of metrics as TensorBoard event files too."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from eqspike_seq.errors import ConfigError

Log = Callable[[dict[str, Any]], None]


def check_board(wanted: bool) -> None:
    """Raises ConfigError where the log is ``wanted`` and its package is missing: before long work, not after."""
    if wanted and find_spec("tensorboard") is None:
        raise ConfigError("--tensorboard: it needs the package tensorboard. Install it: pip install tensorboard")


@contextmanager
def board(folder: Path, wanted: bool, step: int) -> Iterator[Log]:
    """A function that logs a line of metrics under its step; what was logged earlier after ``step`` is void."""
    if not wanted:
        yield lambda line: None
        return
    from torch.utils.tensorboard.writer import SummaryWriter

    writer = SummaryWriter(folder, purge_step=step + 1)

    def log(line: dict[str, Any]) -> None:
        for name, value in scalars(line):
            writer.add_scalar(name, value, line["step"])
        writer.flush()

    try:
        yield log
    finally:
        writer.close()


def scalars(line: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """("rates/s2", 0.4), … for all numbers of a line but its step."""
    for name, value in line.items():
        if isinstance(value, dict):
            yield from scalars(value, f"{prefix}{name}/")
        elif name != "step":
            yield prefix + name, float(value)
