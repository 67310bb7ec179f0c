"""Writing files so that a reader finds the old one or the new one, never half of one."""

import hashlib
import json
import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from eqspike_seq.errors import RunError

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


def replace(path: Path, write: Callable[[Path], None]) -> None:
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


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """``replace``. Raises RunError where the folder cannot be written or the disk is full; nothing is left behind."""
    try:
        replace(path, write)
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"cannot write {path}: {reason}. Free space or choose another folder with --out.") from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` atomically."""

    def save(temporary: Path) -> None:
        temporary.write_bytes(data)

    write_atomically(path, save)


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


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of an ``.npz``; nothing is unpickled. Raises OSError, or ValueError if it is corrupt."""
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (EOFError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"not a whole .npz file ({error})") from error


def sha256_of_file(path: Path) -> str:
    """SHA-256 of its content. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(parts: Iterable[bytes]) -> str:
    """SHA-256 of ``parts``, each preceded by its length, so that their borders count."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()
