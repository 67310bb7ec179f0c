"""Settings of the data: images or texts, found on disk, embedded or your own, and how the network reads them."""

import difflib
import os.path
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SkipValidation

from eqspike_seq.config.section import Needs, Section
from eqspike_seq.data.registry import DATASETS, pixels_of
from eqspike_seq.data.sight import Sight, TokenSequence
from eqspike_seq.data.tokens import TokeniserName
from eqspike_seq.data.vectors import Vectors, Word2VecVectors
from eqspike_seq.errors import ConfigError

SOURCES = (
    "".join(f"{name}: {known.about}. " for name, known in DATASETS.items())
    + "Your own texts: a file with texts and labels (.csv, .tsv, .jsonl or .parquet), or a folder with train and test."
)
ONLY_TEXTS = Needs("texts", lambda settings: "tokeniser" in settings)  # nothing is fed back to pixels


def name_of(dataset: str) -> str:
    """What results call a data set: its name, or that of the file or folder, which is no built-in set's."""
    if dataset in DATASETS:
        return dataset
    stem = Path(dataset).stem
    return f"own-{stem}" if stem in DATASETS else stem


def _named_or_there(dataset: str) -> str:
    """A name, or a path that holds from every folder: a relative one must be there."""
    if dataset in DATASETS or os.path.isabs(dataset):
        return dataset
    if not dataset or not os.path.exists(dataset):
        close = difflib.get_close_matches(dataset.lower(), DATASETS, n=1, cutoff=0.7)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ValueError(
            f"the dataset: got {dataset!r}{hint}, expected one of {', '.join(DATASETS)}, or a file of texts "
            f"(.csv, .tsv, .jsonl or .parquet) or a folder with train and test files; no such file in "
            f"{os.getcwd()}"
        )
    return os.path.abspath(dataset)


@dataclass(frozen=True)
class Examples(Section):
    """The data of a run."""

    dataset: Annotated[str, AfterValidator(_named_or_there)]
    """Name of a data set, or a file or folder with your own texts."""
    limit: Annotated[int, Field(ge=2)] | None = None
    """Use only this many texts of each split, for quick trials and not for results. Default: all."""

    @property
    def dataset_name(self) -> str:
        """What results call the data set."""
        return name_of(self.dataset)

    @property
    def inputs(self) -> int:
        """Texts of an example: 2 of a pair."""
        return DATASETS[self.dataset].inputs


@dataclass(frozen=True)
class Images(Examples):
    """Images, whose pixels are the first layer."""

    @property
    def rows(self) -> int:
        """Pixels of an image: what asks in the network."""
        return pixels_of(self.dataset)


def _absolute(path: Path | None) -> Path | None:
    """The path as it holds from every folder."""
    return None if path is None else path.absolute()


DataDir = Annotated[Path | None, AfterValidator(_absolute)]


@dataclass(frozen=True)
class FoundImages(Images):
    """Images that are found on disk or downloaded."""

    data_dir: DataDir = None
    """Folder with the data. Default: EQSPIKE_DATA, then the cache, then a download."""


@dataclass(frozen=True)
class Texts(Examples):
    """Texts or pairs of texts, and how the network reads them."""

    tokeniser: TokeniserName = "unicode"
    """What counts as a word. unicode: letters of any script; single letters in scripts without spaces; emoji. ascii: a
    to z and digits, as in the recorded runs. Default: ascii for imdb, snli and mini, else unicode."""
    sight: SkipValidation[Sight] = TokenSequence()
    embeddings: SkipValidation[Vectors] = Word2VecVectors()

    @property
    def rows(self) -> int:
        """What asks of a text by itself."""
        return self.sight.rows


@dataclass(frozen=True)
class FoundTexts(Texts):
    """Texts that are found on disk or downloaded."""

    data_dir: DataDir = None
    """Folder with the data. Default: EQSPIKE_DATA, then the cache, then a download."""


@dataclass(frozen=True)
class OwnTexts(Texts):
    """Your own texts."""

    text_column: tuple[str, ...] = ()
    """Column with the texts, or two columns for pairs. Default: text, or the only column beside the labels."""
    label_column: str = "label"
    """Column with the labels."""
    strict: bool = False
    """Refuse rows with a blank text or label. Default: leave them out and report how many and which."""
    class_names: tuple[str, ...] = ()
    """Names of the classes, in the order of their labels: whole numbers by value, others alphabetically."""

    @property
    def inputs(self) -> int:
        """Texts of an example: 2 of a pair."""
        return max(1, len(self.text_column))

    def check(self) -> None:
        """Raises ConfigError for columns or names that cannot be."""
        columns = self.text_column
        if len(columns) > 2 or len(set(columns)) < len(columns):
            raise ConfigError(
                f"--text-column: got {' '.join(columns)}, expected one column, or two different ones for pairs"
            )
        for name in self.class_names:
            if not name.strip() or not name.isprintable() or self.class_names.count(name) > 1:
                raise ConfigError(
                    f"--class-names: got {', '.join(map(repr, self.class_names))}, expected different names, none blank"
                )
