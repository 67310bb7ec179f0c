"""Where data is looked for, and the cache: what was made or fetched is kept there.

Of several processes that want the same thing one makes it.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from numpy.typing import NDArray

from eqspike_seq.errors import DataError
from eqspike_seq.files import read_arrays, remove_unfinished, replace, save_arrays

Arrays = dict[str, NDArray[Any]]
Read = TypeVar("Read")


@contextmanager
def alone(path: Path, progress: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Hold ``path``, a file of the cache, while it is made; other processes wait, and ``progress`` is told that.

    What a killed process left of it is removed first. Raises DataError where the cache cannot be written.
    """
    lock = FileLock(_lock(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress(f"waiting for another process that is making {path.name}")
            lock.acquire()
        try:
            remove_unfinished(path.parent, path.name)
            yield
        finally:
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()
    except OSError as error:
        raise DataError(
            f"cannot write to the cache {path.parent}: {error.strerror or error}. "
            "Free space there, or set EQSPIKE_CACHE to another folder."
        ) from error


def kept(
    path: Path, make: Callable[[], Arrays], read: Callable[[Arrays], Read], progress: Callable[[str], None]
) -> Read:
    """What ``read`` finds in the arrays kept at ``path``, which ``make`` gives where they are missing or damaged."""
    found = _found(path, read)
    if found is not None:
        with suppress(OSError):  # what a process left that was killed when all but this was done
            _lock(path).unlink()
    else:
        with alone(path, progress):
            found = _found(path, read)  # maybe made while this process waited
            if found is None:
                arrays = make()
                replace(path, lambda new: save_arrays(new, arrays))
                found = read(arrays)
    return found


def _lock(path: Path) -> Path:
    return path.parent / f".{path.name}.lock"


def _found(path: Path, read: Callable[[Arrays], Read]) -> Read | None:
    if not path.exists():
        return None
    try:
        return read(read_arrays(path))
    except (OSError, ValueError, KeyError, TypeError):  # DataError too
        return None


@dataclass(frozen=True)
class Found:
    """Where a data set lies: ``kind`` is the form it has there, ``place`` the name of the search place."""

    kind: str
    path: Path
    place: str


def cache_dir() -> Path:
    """EQSPIKE_CACHE, else the user's cache folder for eqspike."""
    from platformdirs import user_cache_path

    place = os.environ.get("EQSPIKE_CACHE")
    return Path(place) if place else user_cache_path("eqspike")


def search_places(data_dir: Path | None) -> list[tuple[str, Path]]:
    """(name, folder) in order: --data-dir, EQSPIKE_DATA, the cache; only those set.

    Raises DataError where --data-dir is given and not there.
    """
    places = []
    if data_dir is not None:
        if not data_dir.exists():
            raise DataError(f"--data-dir: no folder or file {data_dir}. Name another or leave it out.")
        places.append(("--data-dir", data_dir))
    if named := os.environ.get("EQSPIKE_DATA"):
        places.append(("EQSPIKE_DATA", Path(named)))
    return [*places, ("cache", cache_dir() / "data")]


def not_found(name: str, data_dir: Path | None, forms: str, reason: object) -> DataError:
    """The error for a data set that is nowhere and could not be fetched."""
    looked = "; ".join(f"{place} {folder}" for place, folder in search_places(data_dir))
    return DataError(
        f"{name} was not found. Looked in {looked}, for {forms}. {reason} "
        "Give the data with --data-dir or EQSPIKE_DATA, or try the embedded set: eqspike run mini"
    )
