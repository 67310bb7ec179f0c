"""Answers a second of ``eqspike predict`` on reviews of IMDB's test split, and the memory that it holds.

    python -m benchmarks.serving runs/imdb-words-small-seed0 runs/imdb-words-small-sigma-delta-seed0 \
        --json results/serving.json

Each run answers in a process of its own with one thread, in turn: ``--file`` of all --texts reviews, of few, and the
same through a pipe. A figure is the difference between many and few, so that the start of Python, and what is compiled
once, are left out: texts over processor seconds, which other work on a machine changes little.
``one_by_one`` answers one text after the other in this process.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import tyro

from benchmarks.measure import JsonFile, command
from eqspike.build import configure
from eqspike.commands.predict import as_json, costs
from eqspike.prediction import TOGETHER, Predictor
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.data.dataset import load_corpus
from eqspike_seq.files import write_json
from eqspike_seq.runs.environment import environment
from neuromorphic.pricing import read_table

FEW = TOGETHER  # texts
ALONE = 500  # texts that are answered one by one
EVERY = 0.05  # seconds between two looks at the memory of a process


def answered(run: Path, file: Path, piped: bool) -> dict[str, float]:
    """What a process takes that answers to all lines of ``file``."""
    asked = [sys.executable, "-m", "eqspike", "predict", str(run), "--json"]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    with file.open("rb") as source:
        if piped:
            sender = subprocess.Popen(["cat"], stdin=source, stdout=subprocess.PIPE)
            given: Any = sender.stdout
        else:
            asked, given = [*asked, "--file", str(file)], subprocess.DEVNULL
        process = subprocess.Popen(asked, stdin=given, stdout=subprocess.DEVNULL, env=environ)
        peak = 0
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            peak = max(peak, peak_of(process.pid))
            time.sleep(EVERY)
        _, status, usage = ended
        process.returncode = os.waitstatus_to_exitcode(status)
    if piped:
        given.close()
        sender.wait()
    if process.returncode:
        raise RuntimeError(f"{' '.join(asked)} ended with {process.returncode}")
    return {
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": peak,
    }


def peak_of(process: int) -> int:
    """Bytes that a running process has held at most; what ``wait4`` says includes this one's at the fork."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def one_by_one(run: Path, texts: list[str]) -> float:
    """Texts a processor second, each relaxed by itself."""
    predictor, table = Predictor.open(run), read_table("horowitz-45nm-fp32")

    def answer(text: str) -> None:
        found = predictor.predict(text)
        as_json(found, costs([found], table)[0], False)

    for text in texts[:20]:
        answer(text)
    started = time.process_time()
    for text in texts[:ALONE]:
        answer(text)
    return min(ALONE, len(texts)) / (time.process_time() - started)


def main(runs: tyro.conf.Positional[tuple[Path, ...]], json_file: JsonFile, texts: int = 5000) -> None:
    """Measure each run.

    Args:
        runs: Folders of finished runs on IMDB.
        json_file: Where the figures go.
        texts: Reviews beyond the few, every fifth of the test split.
    """
    torch.set_num_threads(1)
    reviews = [text.replace("\n", " ").replace("\r", " ") for text in load_corpus(configure("imdb").data).test.texts]
    reviews = reviews[:: max(1, len(reviews) // (texts + FEW))][: texts + FEW]
    found: dict[str, Any] = {"format": FORMAT, "command": command(), "environment": environment()}
    found |= {"texts": len(reviews) - FEW, "words_a_text": sum(len(text.split()) for text in reviews) / len(reviews)}
    found |= {"load_before": os.getloadavg()[0], "runs": {}}
    with tempfile.TemporaryDirectory() as place:
        many, few = Path(place) / "many.txt", Path(place) / "few.txt"
        many.write_text("\n".join(reviews) + "\n")
        few.write_text("\n".join(reviews[:FEW]) + "\n")
        for run in runs:
            row: dict[str, Any] = {"one_by_one": one_by_one(run, reviews)}
            for name, piped in (("file", False), ("pipe", True)):
                all_of, some = answered(run, many, piped), answered(run, few, piped)
                more = all_of["processor_seconds"] - some["processor_seconds"]
                row[name] = {
                    "texts_a_processor_second": found["texts"] / more,
                    "peak_bytes": all_of["peak_bytes"],
                    "peak_bytes_of_few": some["peak_bytes"],
                }
            found["runs"][run.name] = row
            print(run.name, row, flush=True)
            write_json(json_file, found)


if __name__ == "__main__":
    tyro.cli(main)
