"""A run in one file: a zip of what predictions and reports read, opened wherever a run folder is.

    pack(contents(Path("runs/imdb")), Path("imdb.zip"))    # eqspike export runs/imdb --format zip --out imdb.zip
    opened(Path("imdb.zip"))                               # a folder with its files, removed when the process ends
    opened(Path("imdb-small"))                             # the same of a model that comes with eqspike

It holds the vectors that the run ended with, and neither the optimiser's state nor the middle of training. Whoever
opens one takes the files it knows by name, nothing else, so that no name leads out of the folder.
"""

import atexit
import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from safetensors.torch import save

from eqspike_seq.errors import RunError
from eqspike_seq.files import shipped, write_atomically
from eqspike_seq.runs.weights import VECTORS, WEIGHTS, read_table, read_weights

MODELS = Path(__file__).parents[1] / "models"
LARGEST_RUN = 1_000_000_000  # bytes that a zip may unpack to
REPORTED = (  # copied as they are, where they exist
    "config.toml",
    "environment.json",
    "metrics.jsonl",
    "result.json",
    "ledger.json",
    "curves.json",
    "vocabulary.json",
    "samples.npz",
    "predictions.parquet",
)
KNOWN = re.compile("|".join(map(re.escape, (*REPORTED, VECTORS, WEIGHTS))) + r"|checks/\w{1,40}\.json")
START = (1980, 1, 1, 0, 0, 0)  # the time of every member: equal runs make equal files


def models() -> list[str]:
    """Names of the models that come with eqspike."""
    return shipped("eqspike_seq", "models", ".zip")


def opened(run: Path) -> Path:
    """The folder of a run: ``run`` itself, or where a zip of one, or a model that comes with eqspike, is unpacked.

    What is not there is returned as it is, for the reader to say what it lacks. Raises RunError for a file that is no
    zip of a run.
    """
    if not run.exists() and str(run) in models():
        run = MODELS / f"{run}.zip"
    if not run.is_file():
        return run
    about = run.stat()
    return _unpacked(run.absolute(), about.st_mtime_ns, about.st_size)


@cache
def _unpacked(path: Path, *_: int) -> Path:
    """A folder of the name of ``path`` with what it holds; the same as long as the file is the same."""
    place = Path(tempfile.mkdtemp(prefix="eqspike-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    try:
        return _unpack(path, place / path.stem)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise


def _unpack(path: Path, folder: Path) -> Path:
    wanted = "expected a zip that `eqspike export RUN --format zip` wrote"
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if KNOWN.fullmatch(member.filename)]
            if "config.toml" not in (names := [member.filename for member in members]):
                raise RunError(f"{path}: no run (it has no config.toml); {wanted}")
            if len(set(names)) < len(names):
                raise RunError(f"{path}: a file is in it twice; {wanted}")
            if (size := sum(member.file_size for member in members)) > LARGEST_RUN:
                raise RunError(f"{path}: it unpacks to {size:,} bytes, expected at most {LARGEST_RUN:,}")
            for member in members:
                target = folder / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, target.open("xb") as file:  # no more than its file_size
                    shutil.copyfileobj(source, file, 1 << 20)
    except RunError:
        raise
    except Exception as error:  # zipfile lets many kinds through, an OSError too where places in it are made up
        raise RunError(f"{path}: cannot be read ({str(error) or type(error).__name__}); {wanted}") from error
    return folder


def contents(run: Path) -> dict[str, bytes]:
    """The files of a zip of a run folder, by name. Raises RunError where it has no weights that can be read."""
    names = [*REPORTED, *(path.relative_to(run).as_posix() for path in sorted(run.glob("checks/*.json")))]
    found = {name: (run / name).read_bytes() for name in names if (run / name).is_file()}
    found[WEIGHTS] = save(read_weights(run / WEIGHTS))
    if (run / VECTORS).is_file():
        found[VECTORS] = save({"vectors": read_table(run, run / WEIGHTS)})
    return found


def pack(files: Mapping[str, bytes], out: Path) -> None:
    """Write a zip of ``files``, by name. Raises RunError where it cannot be written, or nobody would open it."""
    if (size := sum(map(len, files.values()))) > LARGEST_RUN:
        raise RunError(f"{out}: it would unpack to {size:,} bytes, expected at most {LARGEST_RUN:,}")

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                member = zipfile.ZipInfo(name, START)
                archive.writestr(member, content, zipfile.ZIP_DEFLATED, compresslevel=9)

    write_atomically(out, write)
