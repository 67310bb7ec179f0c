"""Where data is looked for, and where what was made or fetched is kept."""

import os
from dataclasses import dataclass
from pathlib import Path

from eqspike_seq.errors import DataError


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
