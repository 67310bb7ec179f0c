"""Data sets of images: MNIST, and digits that come with scikit-learn. An image is a text, row by row: characters whose
codes are its grey values.

*MNIST* (LeCun, Bottou, Bengio & Haffner, Proc. IEEE 1998): 60,000 + 10,000 digits of 28 × 28 grey values, read from
``mnist.npz`` (x_train, y_train, x_test, y_test) or from the four official IDX files, gzipped or not.
*Digits* (Alpaydin & Kaynak 1998): 1,797 handwritten digits of 8 × 8 grey values, the test part of the UCI set "Optical
Recognition of Handwritten Digits"; a fifth of them is test here.
"""

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eqspike_seq.data.cache import Found, search_places
from eqspike_seq.data.corpus import Corpus, Split, image_of
from eqspike_seq.data.download import Source, fetched
from eqspike_seq.errors import DataError
from eqspike_seq.files import read_arrays

PIXELS = 784  # of MNIST
BRIGHTEST = 16  # of digits
TEST_SHARE = 0.2  # of digits
MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
OFFICIAL = tuple(
    Source(f"{MIRROR}{file}", file, size, sha256)
    for file, size, sha256 in (
        ("train-images-idx3-ubyte.gz", 9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        ("train-labels-idx1-ubyte.gz", 28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        ("t10k-images-idx3-ubyte.gz", 1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        ("t10k-labels-idx1-ubyte.gz", 4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    )
)


def find_mnist(data_dir: Path | None) -> Found | None:
    """The first place that holds the data set in one of its forms: npz or idx."""
    for place, folder in search_places(data_dir):
        if (folder / "mnist.npz").is_file():
            return Found("npz", folder / "mnist.npz", place)
        if all(_idx_file(folder, source) for source in OFFICIAL):
            return Found("idx", folder, place)
    return None


def load_mnist(data_dir: Path | None = None) -> Corpus:
    """The data set, found or fetched. Raises DataError where it cannot be had or read."""
    if (found := find_mnist(data_dir)) is None:
        last = fetched("mnist", "mnist.npz or the four IDX files", data_dir, *OFFICIAL)
        found = Found("idx", last.parent, "download")
    arrays = _npz(found.path) if found.kind == "npz" else [_idx(found.path, source) for source in OFFICIAL]
    return Corpus(
        "mnist",
        tuple("0123456789"),
        _split(found.path, arrays[0], arrays[1]),
        _split(found.path, arrays[2], arrays[3]),
        source=f"{found.kind} ({found.place})",
        images=True,
    )


def _idx_file(folder: Path, source: Source) -> Path | None:
    """The file of this name, gzipped or not."""
    for name in (source.file, source.file.removesuffix(".gz")):
        if (folder / name).is_file():
            return folder / name
    return None


def _npz(path: Path) -> list[NDArray[np.uint8]]:
    """Images and labels of training and test. Raises DataError where the file is damaged or an array is missing."""
    try:
        arrays = read_arrays(path)
        return [arrays[name] for name in ("x_train", "y_train", "x_test", "y_test")]
    except KeyError as error:
        raise DataError(f"{path} has no array {error}: expected x_train, y_train, x_test and y_test") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}. Replace it.") from error


def _idx(folder: Path, source: Source) -> NDArray[np.uint8]:
    """One IDX file: two zero bytes, the type 8 (bytes), the number of axes, their sizes, the values."""
    path = _idx_file(folder, source)
    assert path is not None
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(60_000 * PIXELS + 17)  # one byte more than the largest file has
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}. Delete it and download it again.") from error
    axes = content[3] if len(content) > 3 and content[:3] == b"\x00\x00\x08" else 0
    shape = tuple(int(size) for size in np.frombuffer(content[4 : 4 + 4 * axes], dtype=">u4")) if axes else ()
    values = np.frombuffer(content, dtype=np.uint8, offset=min(4 + 4 * axes, len(content)))
    if not shape or len(shape) != axes or int(np.prod(shape, dtype=object)) != len(values):
        raise DataError(f"{path} is not an IDX file of bytes: {len(content):,} bytes, axes {shape}. Download it again.")
    return values.reshape(shape)


def _split(path: Path, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Split:
    """Raises DataError unless there are images of 28 × 28 bytes and a label 0–9 for each."""
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
        raise DataError(
            f"{path}: got images of shape {images.shape} ({images.dtype}) and labels of shape {labels.shape}, "
            "expected (n, 28, 28) uint8 and (n,)"
        )
    if labels.dtype.kind not in "iu":
        raise DataError(f"{path}: got labels of {labels.dtype}, expected whole numbers from 0 to 9")
    if ((labels < 0) | (labels > 9)).any():
        row = int(((labels < 0) | (labels > 9)).argmax())
        raise DataError(f"{path}: row {row} has label {labels[row]}, expected 0 to 9")
    return Split([image_of(image) for image in images], labels.astype(np.int64))


def load_digits(seed: int = 0) -> Corpus:
    """The data set; training and test are cut by class, the same for every run unless another ``seed`` is asked for."""
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    found = datasets.load_digits()
    grey = np.rint(found.data * (255 / BRIGHTEST)).astype(np.uint8)
    train, test = train_test_split(np.arange(len(grey)), test_size=TEST_SHARE, stratify=found.target, random_state=seed)

    def split(rows: np.ndarray) -> Split:  # type: ignore[type-arg]
        rows = np.sort(rows)
        texts = [image_of(image) for image in grey[rows]]
        return Split(texts, found.target[rows].astype(np.int64))

    return Corpus(
        "digits", tuple("0123456789"), split(train), split(test), source="comes with scikit-learn", images=True
    )
