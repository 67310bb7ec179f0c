"""Fetching an official archive: known address, size and SHA-256; nothing is kept that does not match."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eqspike_seq.data.cache import alone, cache_dir, not_found
from eqspike_seq.errors import DataError
from eqspike_seq.files import replace, sha256_of_file

ATTEMPTS = 3
PAUSE_S = 2.0  # after the first
SILENCE_S = 30.0  # a server that sends nothing for so long is given up
CHUNK = 1 << 16  # bytes


@dataclass(frozen=True)
class Source:
    """An archive as its publisher offers it."""

    url: str
    file: str
    size: int
    sha256: str

    def check(self, path: Path) -> None:
        """Raises DataError unless the file at ``path`` is this one."""
        try:
            got = sha256_of_file(path)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        if got != self.sha256:
            expected = f"{self.sha256} ({self.size:,} bytes)"
            raise DataError(f"{path} has SHA-256 {got}, expected {expected}. Delete it and download it again.")


class Bar:
    """A rich progress bar with the members that pooch expects of one; it ends a download that is too long."""

    def __init__(self, file: str, size: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn(f"fetching {file}"),
            BarColumn(),
            DownloadColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self.task = self.progress.add_task("", total=size)
        self.progress.start()
        self.size, self.received = size, 0

    total: Any = 0  # set by pooch from the server's word; the known size is shown in its place

    def update(self, count: int) -> None:
        """``count`` more bytes have come, or fewer at the end. Raises DataError where they are more than there are."""
        self.received += count
        if self.received >= self.size + CHUNK:
            raise DataError(f"it sends more than {self.size:,} bytes")
        self.progress.advance(self.task, count)

    def reset(self) -> None:
        """Pooch calls this at the end, before it reports the whole once more."""
        self.progress.reset(self.task)
        self.received = 0

    def close(self) -> None:
        """Take the bar away."""
        self.progress.stop()


def fetch(source: Source) -> Path:
    """The archive in the cache, downloaded if need be; three attempts, the pause doubling each time.

    Raises DataError where the server cannot be reached, or sends less, more or other than the archive.
    """
    path, reason = cache_dir() / "data" / source.file, ""
    with alone(path):
        if path.exists() and sha256_of_file(path) == source.sha256:  # another process has fetched it meanwhile
            return path
        path.unlink(missing_ok=True)
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(PAUSE_S * 2 ** (attempt - 1))
            try:
                replace(path, lambda new: _download(source, new))
                return path
            except DataError as error:
                reason = str(error)
    raise DataError(
        f"{source.url} could not be downloaded in {ATTEMPTS} attempts ({reason}); expected {source.size:,} "
        f"bytes with SHA-256 {source.sha256}. Nothing was kept."
    )


def fetched(name: str, forms: str, data_dir: Path | None, *sources: Source) -> Path:
    """The last of the archives of a data set that is nowhere; all are in the cache now. Raises ``not_found``."""
    try:
        return [fetch(source) for source in sources][-1]
    except DataError as error:
        raise not_found(name, data_dir, forms, error) from error


def _download(source: Source, path: Path) -> None:
    """One attempt. Raises DataError for what is the server's or the network's fault, OSError for the disk's."""
    import pooch
    import requests
    import urllib3

    bar = Bar(source.file, source.size)
    try:
        pooch.HTTPDownloader(progressbar=bar, chunk_size=CHUNK, timeout=SILENCE_S)(source.url, str(path), None)
    except (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError, ValueError) as error:
        raise DataError(str(error).splitlines()[0]) from error
    finally:
        bar.close()
    if (got := sha256_of_file(path)) != source.sha256:
        raise DataError(f"got {path.stat().st_size:,} bytes with SHA-256 {got}")
