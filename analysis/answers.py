"""What a run answers: which classes it confuses, its most confident mistakes, and single texts step by step."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.folders import Json, Run
from eqspike_seq.data.registry import pixels_of
from eqspike_seq.errors import ConfigError
from eqspike_seq.runs.samples import received

LARGEST = 20  # classes, at most, of a confusion matrix; of more there is a list of what is confused most
WORDS = 400  # of a text at most: the first ones
DECIDING = 5  # words named of a mistake


def names(run: Run, classes: int) -> list[str]:
    """Of so many classes: those of the run, or numbers where an earlier eqspike kept none."""
    known = run.result.classes
    return known if len(known) == classes else [str(number) for number in range(classes)]


def confusion(run: Run) -> Json | None:
    """Answers by label: ``counts`` (C, C), ``classes`` with their figures, the most frequent ``pairs``.

    None where the run left no predictions. Raises ConfigError where they are none of its classes.
    """
    if not run.has("predictions.parquet"):
        return None
    labels, answers = run.predictions["label"], run.predictions["predicted"]
    count = max(len(run.result.classes), 1 + int(max(labels.max(), answers.max())))
    known = names(run, count)
    if min(labels.min(), answers.min()) < 0 or (run.result.classes and count > len(run.result.classes)):
        raise ConfigError(f"{run.path}: predictions.parquet has answers that are none of the classes in result.json")
    counts = np.zeros((count, count), dtype=np.int64)
    np.add.at(counts, (labels, answers), 1)
    apart = counts * (1 - np.eye(count, dtype=np.int64))
    rows = [_of_class(known, counts, apart, k) for k in range(count)]
    worst = np.argsort(-apart, axis=None, kind="stable")[:LARGEST]
    pairs = [(divmod(int(place), count), int(apart.flat[place])) for place in worst if apart.flat[place]]
    listed = [{"label": known[k], "answer": known[j], "texts": texts} for (k, j), texts in pairs]
    return {"classes": rows, "counts": counts.tolist() if count <= LARGEST else None, "pairs": listed}


def _of_class(known: list[str], counts: NDArray[np.int64], apart: NDArray[np.int64], k: int) -> Json:
    """Its texts, the share of them that is right, the share of its answers that is right, what it is taken for."""
    texts, answered, right = int(counts[k].sum()), int(counts[:, k].sum()), int(counts[k, k])
    other = int(apart[k].argmax())
    return {
        "name": known[k],
        "texts": texts,
        "recall": right / texts if texts else None,
        "precision": right / answered if answered else None,
        "taken_for": known[other] if apart[k, other] else None,
    }


def mistakes(run: Run) -> list[Json]:
    """Those of samples.npz, most confident first, each with the words that get most of the attention."""
    samples, found = run.samples, []
    if "mistakes_rows" not in samples:
        return []
    known = names(run, samples["mistakes_outputs"].shape[1])
    for text, row in enumerate(samples["mistakes_rows"].tolist()):
        rates, label = samples["mistakes_outputs"][text], int(samples["mistakes_labels"][text])
        mask, answer = samples["mistakes_mask"][text], int(samples["mistakes_outputs"][text].argmax())
        entry = _shown(run, samples["mistakes_tokens"][text], mask)
        if "mistakes_attention" in samples:
            shares = samples["mistakes_attention"][text][mask].astype(np.float64)
            entry |= _attended(entry["words"], shares)
        about = {"row": row, "label": known[label], "answer": known[answer]}
        found.append({**about, "rates": [_rounded(rates[answer]), _rounded(rates[label])], **entry})
    return found


def texts(run: Run) -> list[Json]:
    """The texts of samples.npz: words, the attention that each gets (largest 1), output rates, spikes by layer."""
    samples, found = run.samples, []
    outputs, every = samples["free_outputs"], int(samples["reading_steps"])
    known = names(run, outputs.shape[2])
    for index, label in enumerate(samples["labels"].tolist()):
        entry = _shown(run, samples["tokens"][index], samples["mask"][index])
        if "attention" in samples:
            entry |= _attended(entry["words"], received(samples, index)[1])
        found.append(
            {
                "label": known[label],
                "answer": known[int(outputs[-1, index].argmax())],
                **entry,
                "steps": [every * (step + 1) for step in range(len(outputs))],
                "rates": [[_rounded(value) for value in line] for line in outputs[:, index].T],
                "spikes": {
                    name.removeprefix("free_spikes_"): np.abs(samples[name][:, index].astype(np.int64))
                    .reshape(len(samples[name]), -1)
                    .sum(1)
                    .tolist()
                    for name in sorted(samples)
                    if name.startswith("free_spikes_")
                },
            }
        )
    return found


def _shown(run: Run, tokens: NDArray[Any], mask: NDArray[np.bool_]) -> Json:
    """The words of a text, or the grey values of an image, row by row."""
    if pixels_of(run.result.dataset) == len(tokens):
        return {
            "words": [],
            "deciding": [],
            "pixels": [int(value) if value.isdecimal() else 0 for value in tokens.tolist()],
        }
    words = tokens[mask].tolist()
    return {"words": words[:WORDS], "deciding": [], "more": max(0, len(words) - WORDS)}


def _attended(words: list[str], shares: NDArray[np.float64]) -> Json:
    """What each word gets of the attention, most 1, how many even shares that is, and which words get most."""
    shown, most = shares[: len(words)], float(shares.max(initial=0.0))
    first = np.argsort(-shown, kind="stable").tolist()
    deciding = list(dict.fromkeys(words[place] for place in first))[:DECIDING]
    scaled = [round(float(value) / (most or 1.0), 3) for value in shown]
    return {"attention": scaled, "most": round(most, 2), "deciding": deciding}


def _rounded(value: Any) -> float:
    return round(float(value), 4)
