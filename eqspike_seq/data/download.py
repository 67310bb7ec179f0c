"""Fetching an official archive: known address, size and SHA-256; nothing is kept that does not match."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eqspike_seq.data.locate import cache_dir
from eqspike_seq.errors import DataError
from eqspike_seq.files import sha256_of_file

ATTEMPTS = 3


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
            raise DataError(f"{path} has SHA-256 {got}, expected {expected}. Delete it and fetch it again.")


class Bar:
    """A rich progress bar with the members that pooch expects of one."""

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

    total: Any = 0  # set by pooch from the server's word; the known size is shown in its place

    def update(self, count: int) -> None:
        """``count`` more bytes have come."""
        self.progress.advance(self.task, count)

    def reset(self) -> None:
        """Pooch calls this at the end, before it reports the whole once more."""
        self.progress.reset(self.task)

    def close(self) -> None:
        """Take the bar away."""
        self.progress.stop()


def fetch(source: Source, wait_s: float = 2.0) -> Path:
    """The archive in the cache, downloaded if need be; three attempts, the pause doubling each time.

    Raises DataError where the server cannot be reached, or sends less, more or other than the archive.
    """
    import pooch
    from filelock import FileLock

    folder = cache_dir() / "data"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot write to the cache {folder}: {error.strerror}. Set EQSPIKE_CACHE to another folder."
        ) from error
    reasons = []
    with FileLock(folder / f".{source.file}.lock"):
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(wait_s * 2 ** (attempt - 1))
            bar = Bar(source.file, source.size)
            try:
                downloader = pooch.HTTPDownloader(progressbar=bar, timeout=30)
                logger = pooch.get_logger()
                logger.setLevel("ERROR")
                found = pooch.retrieve(
                    source.url, f"sha256:{source.sha256}", source.file, folder, downloader=downloader
                )
                return Path(found)
            except Exception as error:  # pooch and requests let many kinds through; each is a failed attempt
                reasons.append(str(error).splitlines()[0])
            finally:
                bar.close()
                (folder / source.file).unlink(missing_ok=True) if reasons else None
    raise DataError(
        f"{source.url} could not be fetched in {ATTEMPTS} attempts ({reasons[-1]}); expected {source.size:,} "
        f"bytes with SHA-256 {source.sha256}. Nothing was kept."
    )
