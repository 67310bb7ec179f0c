"""What a person sees while a run goes on: bars with the time left, and warnings."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from eqspike_seq.data.dataset import Dataset
    from eqspike_seq.learning.metrics import Window
    from eqspike_seq.runs.schema import Metrics

MANY_NEAR = 0.01  # of a split, nearly in training: a share at which a run is warned
MANY_LETTERS = 0.05  # in no token: a share at which a run is warned


class Reporter:
    """Prints to standard error, tables of results to standard output; nothing at all where ``quiet``."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False, quiet=quiet)
        self.out = Console(highlight=False, quiet=quiet)

    def status(self, text: str) -> None:
        """One line."""
        self.console.print(f"[dim]{escape(text)}[/dim]")

    def warn(self, text: str) -> None:
        """One line that stands out."""
        self.console.print(f"[yellow]warning:[/yellow] {escape(text)}")

    def dataset(self, dataset: "Dataset") -> None:
        """Sizes, what was dropped, what has no vector."""
        counts = dataset.counts
        if dataset.synthetic:
            self.status(f"{dataset.name} is synthetic: results on it say nothing about real text")
        what = "images" if dataset.images else "texts"
        self.status(
            f"{dataset.name}: {len(dataset.train):,} training, {len(dataset.validation):,} validation, "
            f"{len(dataset.test):,} test {what}; {counts['train_texts_dropped_as_in_test']:,} training {what} "
            "dropped because they occur in test"
        )
        if dataset.images:
            return
        self._classes(dataset)
        if again := counts.get("duplicate_texts"):
            self.status(
                f"{again:,} of {counts['texts']:,} texts are duplicates; identical texts stay in the same split"
            )
        if several := counts.get("texts_with_several_labels"):
            self.warn(f"{several:,} texts occur with different labels; no network can get all of them right")
        self._leaks(dataset)
        self._letters(counts)
        unknown, tokens = counts["train_tokens_without_vector"], counts["train_tokens"]
        named = "words" if dataset.grams is None else "words and n-grams"
        self.status(
            f"vectors: {len(dataset.embeddings.table) - 1:,} {named} × "
            f"{dataset.embeddings.dim}, "
            f"{dataset.embeddings.source}; {unknown / max(tokens, 1):.2%} of the training tokens have no vector"
        )
        if empty := counts["train_texts_without_known_token"]:
            self.warn(f"{empty:,} training texts have no known token; the network sees only their labels")

    def _leaks(self, dataset: "Dataset") -> None:
        """How many validation and test texts are nearly training texts, if any are; a warning where they are many."""
        splits = {"validation": len(dataset.validation), "test": len(dataset.test)}
        found = {split: dataset.counts[f"{split}_texts_near_training"] for split in splits}
        if any(found.values()):
            listed = " and ".join(
                f"{near:,} {split} texts ({near / splits[split]:.1%})" for split, near in found.items()
            )
            say = self.warn if any(near > MANY_NEAR * splits[split] for split, near in found.items()) else self.status
            say(f"{listed} nearly repeat a training text: they share 80 % of their words and word pairs with it")

    def _letters(self, counts: dict[str, int]) -> None:
        """How many letters no token holds, if any; a warning where they are many."""
        lost, written = (
            sum(counts.get(f"{split}_{what}", 0) for split in ("train", "validation", "test"))
            for what in ("letters_in_no_token", "letters")
        )
        if lost:
            say = self.warn if lost > MANY_LETTERS * written else self.status
            say(
                f"{lost / written:.2%} of the letters belong to no token: --tokeniser ascii reads a to z only, unicode "
                "every script; words of more than 64 letters are left out"
            )

    def _classes(self, dataset: "Dataset") -> None:
        """Texts of each class, and what always answering the largest one would get."""
        every = Counter(label for part in (dataset.train, dataset.validation, dataset.test) for label in part.labels)
        listed = ", ".join(f"{name} {every[label]:,}" for label, name in enumerate(dataset.classes))
        largest = Counter(dataset.train.labels.tolist()).most_common(1)[0][0]
        share = float((dataset.test.labels == largest).mean())
        self.status(f"classes: {listed}; always answering {dataset.classes[largest]} gets {share:.2%} of test")

    def epoch(self, number: int, line: "Metrics") -> None:
        """The figures of an epoch."""
        rates = " ".join(f"{layer} {rate:.2f}" for layer, rate in line.rates.items())
        self.console.print(
            f"epoch {number}: train {line.train_accuracy:.4f}, validation "
            f"{line.validation_accuracy:.4f}, loss {line.loss:.4f}, "
            f"free phase {line.sweeps['free']:.1f} steps, mean rates {rates}"
        )

    @contextmanager
    def training(self, total: int, done: int) -> Iterator[Callable[[int, "Window"], None]]:
        """A bar over all batches, with running loss and accuracy."""
        with self._progress() as progress:
            task = progress.add_task("training", total=total, completed=done)

            def advance(step: int, window: "Window") -> None:
                text = f"training, loss {window.loss / window.texts:.4f}" if window.texts else "training"
                progress.update(task, completed=step, description=text)

            yield advance

    @contextmanager
    def counting(self, what: str, total: int) -> Iterator[Callable[[float], None]]:
        """A bar over all texts, or comparisons; it is told how many more are done."""
        with self._progress() as progress:
            yield partial(progress.advance, progress.add_task(what, total=total))

    def _progress(self) -> Progress:
        times = TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *times)
        return Progress(*columns, console=self.console, transient=True)
