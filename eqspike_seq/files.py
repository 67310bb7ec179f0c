"""Files: written so that a reader finds the old one or the new one, never half of one; read as a stranger's.

Readers take so many bytes and no more, unpickle nothing, and raise OSError where there is no reading the file and
ValueError for whatever is wrong inside it.
"""

import hashlib
import json
import os
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from eqspike_seq.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_TEXT = 100_000_000  # bytes of a JSON file
LARGEST_TOML = 1_000_000  # bytes
LARGEST_ARRAYS = 4_000_000_000  # bytes that an .npz may unpack to; word2vec-google-news-300 has 3.6 GB
UNFINISHED = ".unfinished-"  # how the name of a file begins while it is being written


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """An empty file beside ``path``, removed at the end unless it has been renamed. Raises OSError.

    A process that is killed leaves it behind: ``remove_unfinished`` is for whoever next has ``path`` to itself.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{UNFINISHED}{path.name}-", suffix=path.suffix)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        with suppress(OSError):  # renamed, or the disk cannot be written any more
            os.unlink(name)


def remove_unfinished(folder: Path, name: str = "") -> None:
    """Remove what killed processes left of ``name``, or of any file, in ``folder``. Raises OSError."""
    for path in folder.iterdir():
        if path.name.startswith(f"{UNFINISHED}{name}"):
            path.unlink(missing_ok=True)


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file, flush it to disk, then rename it to ``path``. Raises OSError."""
    with temporary(path) as new:
        try:
            write(new)
        except SafetensorError as error:
            raise OSError(str(error)) from error
        with new.open("rb+") as file:
            os.fsync(file.fileno())
        new.chmod(0o644)
        new.replace(path)


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """``replace``. Raises RunError where the folder cannot be written or the disk is full; nothing is left behind."""
    try:
        replace(path, write)
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"cannot write {path}: {reason}. Free space or choose another folder with --out.") from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` atomically."""
    write_atomically(path, lambda new: new.write_bytes(data))


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write ``value`` as JSON, atomically."""
    write_bytes(path, as_json(value))


def as_json(value: dict[str, Any]) -> bytes:
    """``value`` as indented JSON; NaN and infinity are refused by the encoder."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def save_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Arrays as a compressed ``.npz``, whatever the name of ``path``."""
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def read_text(path: Path, most: int = LARGEST_TEXT) -> str:
    """UTF-8 of at most ``most`` bytes."""
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    return content.decode()


def parse_json(text: str) -> dict[str, Any]:
    """A JSON object, every number in it finite, every string writable. Raises ValueError."""
    try:
        found = json.loads(text, parse_float=_finite, parse_constant=_finite, parse_int=_whole)
        if "\\ud" in text.lower():  # half a character, perhaps
            json.dumps(found, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError(f"got {type(found).__name__}, expected an object")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not np.isfinite(value):
        raise ValueError(f"got {text[:20]}, expected a finite number")
    return value


def _whole(text: str) -> int:
    if len(text) > 40:  # 128 bits, as the states of random numbers have, and a sign
        raise ValueError(f"got a number of {len(text)} digits, expected at most 40")
    return int(text)


def read_json(path: Path) -> dict[str, Any]:
    """``parse_json`` of a file."""
    return parse_json(read_text(path))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """``parse_json`` of each line of a file."""
    return [parse_json(line) for line in read_text(path).splitlines()]


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file."""
    try:
        found = tomllib.loads(read_text(path, LARGEST_TOML))
        json.dumps(found, default=str)  # keys with dots nest as deeply as brackets
        return found
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def shipped(package: str, folder: str, suffix: str = ".toml") -> list[str]:
    """Names of the files with this ``suffix`` in a folder of a package."""
    entries = (resources.files(package) / folder).iterdir()
    return sorted(entry.name.removesuffix(suffix) for entry in entries if entry.name.endswith(suffix))


def read_shipped(package: str, folder: str, name: str) -> dict[str, Any]:
    """The TOML file of this name among those shipped, or the one of this path."""
    if name not in shipped(package, folder):
        return read_toml(Path(name))
    with resources.as_file(resources.files(package) / folder / f"{name}.toml") as path:
        return read_toml(path)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of an ``.npz`` that unpacks to at most ``LARGEST_ARRAYS`` bytes."""
    with path.open("rb") as handle:
        try:
            with zipfile.ZipFile(handle) as archive:
                size = sum(member.file_size for member in archive.infolist())
            if size > LARGEST_ARRAYS:
                raise ValueError(f"it unpacks to {size:,} bytes, expected at most {LARGEST_ARRAYS:,}")
            handle.seek(0)
            with np.load(handle, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except (OSError, ValueError):
            raise
        except Exception as error:  # zipfile and numpy let many kinds through, a MemoryError for a size made up too
            raise ValueError(str(error) or type(error).__name__) from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.nbytes < array.size:
            raise ValueError(f"{name} is no array of numbers or texts")
    return arrays


def read_tensors(path: Path) -> "dict[str, Tensor]":
    """Every tensor of a safetensors file: finite numbers in floating point or of 8 bits; those named ids of int64."""
    import torch
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except OSError:
        raise
    except Exception as error:  # SafetensorError is of no other kind; torch adds its own
        raise ValueError(str(error) or type(error).__name__) from error
    for name, tensor in tensors.items():
        if name.split(".")[-1] == "ids" and tensor.dtype == torch.int64:
            continue
        if tensor.dtype not in (torch.float32, torch.float64, torch.int8) or not tensor.numel():
            raise ValueError(f"{name} has {tensor.numel()} values of {tensor.dtype}, expected some of float32")
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} holds NaN or infinite values")
    return tensors


def sha256_of_file(path: Path) -> str:
    """SHA-256 of its content. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(parts: Iterable[bytes | memoryview]) -> str:
    """SHA-256 of ``parts``, each preceded by its length, so that their borders count."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()
