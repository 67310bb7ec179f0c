"""The run folder: the only thing that passes from a run to a report."""

import json
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from eqspike_seq.config.presets import read_toml
from eqspike_seq.config.section import differences
from eqspike_seq.config.settings import FORMAT, WHERE, RunConfig
from eqspike_seq.data.registry import DATASETS
from eqspike_seq.errors import RunError
from eqspike_seq.files import (
    as_json,
    read_json,
    read_json_lines,
    read_tensors,
    remove_unfinished,
    write_atomically,
)
from eqspike_seq.runs.schema import Metrics
from eqspike_seq.runs.vocabulary import as_file
from eqspike_seq.runs.weights import VECTORS, Rows, read_rows, row_files


@dataclass(frozen=True)
class Checkpoint:
    """Weights and optimiser state by name, ``state``: step, epoch, random state, partial sums; of patterns that are
    learnt the ``rows`` that have moved, since the last checkpoint when it is written, since the start when it is read.
    """

    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]
    rows: Rows | None = None


@dataclass
class RunFolder:
    """A folder that this process holds until ``close``, by ``lock`` and the file that it locks, ``held``.

    To other processes it goes without them.
    """

    path: Path
    lock: FileLock | None = None
    held: os.stat_result | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return RunFolder, (self.path,)

    @classmethod
    def open(cls, config: RunConfig) -> "RunFolder":
        """The folder to write to, new or resumed. Raises RunError where it cannot be written, is taken or differs.

        What a killed run left half-written is removed.
        """
        path = choose(config)
        lock = FileLock(path / ".lock")
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
            remove_unfinished(path)
            for name in ("checkpoint", "best"):
                shutil.rmtree(path / f"{name}.new", ignore_errors=True)
                old = path / f"{name}.old"
                if old.is_dir() and not (path / name).exists():  # killed between two renames
                    old.rename(path / name)
                shutil.rmtree(old, ignore_errors=True)
            return cls(path, lock, os.stat(lock.lock_file))
        except Timeout as error:
            raise RunError(f"{path}: another run is writing there. Wait for it or choose another --out.") from error
        except OSError as error:
            lock.release()
            raise RunError(f"--out: cannot write to {path}: {error.strerror}. Choose another folder.") from error

    def close(self) -> None:
        """Let the folder go; one in which nothing was written is removed."""
        if self.lock is None:
            return
        with suppress(OSError):  # it may be read-only by now, or not empty
            if self.is_held():
                (self.path / ".lock").unlink()
                self.path.rmdir()
        self.lock.release()

    def is_held(self) -> bool:
        """Whether the folder is there and still that of this process."""
        try:
            return self.held is not None and os.path.samestat(self.held, os.stat(self.path / ".lock"))
        except OSError:
            return False

    def check_held(self) -> None:
        """Raises RunError unless ``is_held``: a folder that was removed and made again would not hold a whole run."""
        if not self.is_held():
            raise RunError(
                f"{self.path} disappeared while this run was writing there: it, or its .lock, was removed, or its "
                "disk unmounted. Start the run again; if the folder comes back, with --resume auto."
            )

    def write(self, name: str, write: Callable[[Path], object]) -> None:
        """``write_atomically`` of the file ``name``, as long as the folder is held. Raises RunError."""
        self.check_held()
        write_atomically(self.path / name, write)

    def write_bytes(self, name: str, data: bytes) -> None:
        """``data`` as ``name``."""
        self.write(name, lambda new: new.write_bytes(data))

    def continued(self, config: RunConfig) -> RunConfig:
        """``config``, where precision is auto with the one that the run here began with.

        Raises RunError where the run here is complete, or was made with settings that compute something else.
        """
        path = self.path / "config.toml"
        if not path.exists():
            return config
        if completed(self.path) is not None:
            raise RunError(f"{self.path}: this run is complete; there is nothing to resume")
        saved = read_toml(path)
        if different := changed(saved, config):
            raise RunError(
                f"--resume: {self.path} was made with other settings (saved != given): "
                f"{'; '.join(different)}. Give the same settings, or another --out."
            )
        return replace(config, run=replace(config.run, precision=saved.get("precision", "auto")))

    def _environment(self) -> dict[str, Any]:
        """environment.json, empty where there is none. Raises RunError."""
        path = self.path / "environment.json"
        try:
            return read_json(path) if path.exists() else {}
        except (OSError, ValueError) as error:
            raise RunError(f"--resume: {path} cannot be read ({error}). Start again with another --out.") from error

    def check_data(self, config: RunConfig, source: str, vectors: str) -> None:
        """Raises RunError where the run here began with other texts of the user's own (``source`` has their hash), with
        other ``vectors``, by their SHA-256, or with a device model that says something else now."""
        made = self._environment()
        before, began = made.get("data", source), made.get("embedding_sha256", vectors)
        if config.data.dataset not in DATASETS and before != source:
            raise RunError(
                f"--resume: {config.data.dataset} has changed since this run began (was {before}; is {source}). "
                "Put the old file back, or start again with another --out."
            )
        device = json.loads(json.dumps(asdict(config.learning.device)))
        if config.learning.device_model is not None and made.get("device_model", device) != device:
            raise RunError(
                f"--resume: the device model {config.learning.device_model} has changed since this run began. Put the "
                "old one back (environment.json has it), or start again with another --out."
            )
        if began != vectors:
            raise RunError(
                f"--resume: the word vectors have changed since this run began (SHA-256 was {began}, is "
                f"{vectors}). Put the old data or vectors back, or start again with another --out."
            )

    def write_json(self, name: str, value: dict[str, Any]) -> None:
        """``value`` with the format number, as ``name``."""
        self.write_bytes(name, as_json({"format": FORMAT, **value}))

    def write_metrics(self, lines: list[Metrics]) -> None:
        """All of ``metrics.jsonl``."""
        text = "".join(json.dumps({"format": FORMAT, **line.content()}, allow_nan=False) + "\n" for line in lines)
        self.write_bytes("metrics.jsonl", text.encode())

    def read_metrics(self, last_step: int) -> list[Metrics]:
        """The lines up to ``last_step``: later ones belong to work that is done again."""
        path = self.path / "metrics.jsonl"
        try:
            lines = map(Metrics.read, read_json_lines(path) if path.exists() else [])
            return [line for line in lines if line.step <= last_step]
        except (OSError, ValueError) as error:
            raise RunError(f"--resume: {path} cannot be read ({error!r}). Remove it to continue without it.") from error

    def save_vocabulary(self, words: list[str], classes: tuple[str, ...], vectors: Tensor) -> None:
        """``vocabulary.json`` and ``vectors.safetensors``: what turns a text into the network's input, and its answer
        into a name. ``words`` by id, from 0, padding; ``vectors`` (V + 1, D). Raises RunError where they are too many.
        """
        self.write_bytes("vocabulary.json", as_file(words, classes))
        self.write(VECTORS, lambda path: save_file(_for_disk({"vectors": vectors}), path))

    def save_halfway(self, model: dict[str, Tensor], rows: Rows | None) -> None:
        """``halfway.safetensors``: the weights in the middle of training, for checks of the gradient there."""
        tensors = model if rows is None else {**model, "X": rows.vectors, "X.ids": rows.ids}
        self.write("halfway.safetensors", lambda path: save_file(_for_disk(tensors), path))

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Replace ``checkpoint/`` as a whole: written next to it, then renamed; the old one is kept until then.

        Of patterns only the rows that have moved since the last checkpoint are written; files with the earlier ones are
        links to those that are there.
        """

        def fill(new: Path) -> None:
            save_file(_for_disk(checkpoint.model), new / "model.safetensors")
            save_file(_for_disk(checkpoint.optimizer), new / "optimizer.safetensors")
            (new / "state.json").write_text(json.dumps({"format": FORMAT, **checkpoint.state}, allow_nan=False))
            if (rows := checkpoint.rows) is not None and len(rows.ids):
                tensors = _for_disk({"ids": rows.ids, "vectors": rows.vectors})
                save_file(tensors, new / f"rows-{checkpoint.state['step']:010d}.safetensors")
            for file in new.iterdir():
                with file.open("rb+") as handle:
                    os.fsync(handle.fileno())
            if rows is not None and not rows.whole:
                link(row_files(self.path / "checkpoint"), new)

        self._replace("checkpoint", fill)

    def keep_best(self) -> None:
        """Let ``best/`` be the checkpoint that was saved last."""
        self._replace("best", lambda new: link((self.path / "checkpoint").iterdir(), new))

    def take_best(self) -> Checkpoint | None:
        """Let the checkpoint, if a best one was kept, have the weights of that and its own state: training has ended.

        Returns it.
        """
        best = self.path / "best"
        if best.is_dir():
            weights = [file for file in best.iterdir() if file.name != "state.json"]
            state = self.path / "checkpoint" / "state.json"
            self._replace("checkpoint", lambda new: link([*weights, state], new))
            shutil.rmtree(best, ignore_errors=True)
        return self.load_checkpoint()

    def _replace(self, name: str, fill: Callable[[Path], None]) -> None:
        """Let ``fill`` make a folder that takes the place of ``name``. Raises RunError; the old one is then kept."""
        self.check_held()
        new, final, old = (self.path / f"{name}{end}" for end in (".new", "", ".old"))
        try:
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            fill(new)
            if final.exists():  # else a kill has left the old one only
                shutil.rmtree(old, ignore_errors=True)
                final.rename(old)
            new.rename(final)
            shutil.rmtree(old, ignore_errors=True)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(new, ignore_errors=True)
            raise RunError(
                f"cannot write a checkpoint to {self.path}: {error}. The last one is kept; "
                "free space and continue with --resume auto."
            ) from error

    def load_checkpoint(self) -> Checkpoint | None:
        """The last whole checkpoint, or None. Raises RunError for one that cannot be read."""
        path = self.path / "checkpoint"
        if not path.is_dir():
            return None
        try:
            state = read_json(path / "state.json")
            model, optimizer = (read_tensors(path / f"{name}.safetensors") for name in ("model", "optimizer"))
            rows = read_rows(row_files(path))
        except (OSError, ValueError) as error:
            raise RunError(f"{path} cannot be read ({error}). Remove it to start again.") from error
        if state.pop("format", None) != FORMAT:
            raise RunError(f"{path}/state.json is not of format {FORMAT}. Remove the folder to start again.")
        return Checkpoint(model, optimizer, state, rows)


def link(files: Iterable[Path], folder: Path) -> None:
    """Let ``files`` be in ``folder`` too: by hard links where the disk has them, else as copies."""
    for file in files:
        try:
            os.link(file, folder / file.name)
        except OSError:
            shutil.copy2(file, folder / file.name)


def _for_disk(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def choose(config: RunConfig) -> Path:
    """Where this run goes: --resume PATH, --out, the newest unfinished run of these settings, or a new folder."""
    out, resume = config.run.out, config.run.resume
    if resume is not None and resume != "auto":
        path = Path(resume)
        if not (path / "config.toml").is_file():
            raise RunError(f"--resume: {path} is no run folder (it has no config.toml). Give a run folder, or auto.")
        if out is not None and out.resolve() != path.resolve():
            raise RunError(f"--resume {path} and --out {out} name two folders. Give only one of them.")
        return path
    if out is not None:
        if out.exists() and not out.is_dir():
            raise RunError(f"--out: {out} is a file, expected a folder")
        if resume is None and (out / "config.toml").exists():
            raise RunError(
                f"--out: {out} holds a run already. Continue it with --resume auto, or choose another folder."
            )
        return out
    stem = f"{config.data.dataset_name}-{config.backend.name}-{config.run.preset}-seed{config.run.seed}"
    number = 1
    while (path := Path("runs") / (stem if number == 1 else f"{stem}-{number}")).exists():
        if resume == "auto" and unfinished(path, config):
            return path
        number += 1
    return path


def unfinished(path: Path, config: RunConfig) -> bool:
    """True if ``path`` holds a run of the same settings that is not complete."""
    if not (path / "config.toml").is_file():
        return all(file.name.startswith(".") for file in path.iterdir())  # killed before it had begun
    return completed(path) is None and not changed(read_toml(path / "config.toml"), config)


def changed(saved: dict[str, Any], config: RunConfig) -> list[str]:
    """Settings that change what is computed and differ from those ``saved``; where precision is auto, any will do."""
    mine = config.settings()
    if mine.get("precision") == "auto":
        mine["precision"] = saved.get("precision", "auto")
    return differences(saved, mine, WHERE)


def completed(path: Path) -> dict[str, Any] | None:
    """``result.json`` of a run that came to its end, else None."""
    try:
        result = read_json(path / "result.json")
        return result if result["complete"] else None
    except (OSError, ValueError, KeyError):
        return None
