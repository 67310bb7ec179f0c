"""``eqspike table 1|2|3``: the tables of Bal & Sengupta (IJCAI 2023), their rows as published, ours as measured."""

import statistics

from analysis.folders import Run

PUBLISHED = "Bal & Sengupta (2023)"
# (what, IMDB, SNLI): test accuracy in percent, their Table 1
ACCURACIES = (
    ("EP, convergent RNN with HopAttn", "88.9 ± 0.3", "81.4 ± 0.2"),
    ("EP, without HopAttn", "79.8 ± 0.4", "–"),
    ("LSTM, backpropagation", "87.2", "80.6"),
    ("UniCORNN, backpropagation", "88.4", "–"),
    ("SPINN-PI-NT, backpropagation", "–", "80.9"),
)
# (data set, tokens, layers, β, T, K, batch, epochs, learning rates): their Table 2
SETTINGS = (
    ("imdb", "600", "180000-1000-40-2", "0.1", "50", "25", "128", "40", "1e-4 5e-5 5e-5 5e-5"),
    ("snli", "25 + 25", "30000-400-3", "0.5", "60", "30", "256", "50", "4 × 5e-4, 2e-4 2e-4"),
)
# (data set, memory, seconds for the test split), on 2080 Ti GPUs: their Table 3
COSTS = (("imdb", "7 GB", "120 s"), ("snli", "1.9 GB", "40 s"))
TITLES = {
    1: "Test accuracy, %",
    2: "Settings",
    3: "Memory in training, and time of one pass over the test split",
}


Rows = tuple[tuple[str, ...], list[tuple[str, ...]]]


def accuracies(found: list[list[Run]]) -> Rows:
    """Mean and standard deviation over the seeds that there are; the split is the official test split, read once."""
    names = list(dict.fromkeys(["imdb", "snli", *(group[0].result.dataset for group in found)]))
    rows = [
        (f"{what} (published)", imdb, snli, *["–"] * (len(names) - 2), "–", PUBLISHED)
        for what, imdb, snli in ACCURACIES
    ]
    for group in found:
        values = [100 * run.result.test_accuracy for run in group]
        shown = f"{statistics.mean(values):.2f}"
        if len(values) > 1:
            shown += f" ± {statistics.stdev(values):.2f}"
        dataset = group[0].result.dataset
        places = (shown if name == dataset else "–" for name in names)
        rows.append((group[0].label, *places, str(len(group)), _names(group)))
    return ("", *names, "seeds", "source"), rows


def settings(found: list[list[Run]]) -> Rows:
    """What the networks and their training were."""
    rows: list[tuple[str, ...]] = [(row[0], "dense EP (published)", *row[1:], PUBLISHED) for row in SETTINGS]
    for group in found:
        chosen, ledgers = group[0].settings, group[0].ledgers
        layers = "-".join(str(size) for size in ledgers.inference.sizes)
        rates = " ".join(f"{rate:g}" for rate in chosen.learning_rate)
        figures = (chosen.beta, chosen.free_steps, chosen.nudge_steps, chosen.batch, chosen.epochs)
        about = (chosen.dataset, group[0].label, str(chosen.tokens or "–"), layers)
        rows.append((*about, *(f"{figure:g}" for figure in figures), rates, _names(group)))
    return ("data", "what", "tokens", "layers", "β", "T", "K", "batch", "epochs", "learning rates", "source"), rows


def costs(found: list[list[Run]]) -> Rows:
    """Peak memory of the process (CUDA: of the device), and wall time; the machine is in each run's folder."""
    rows: list[tuple[str, ...]] = [
        (data, "dense EP (published)", memory, time, "2080 Ti", PUBLISHED) for data, memory, time in COSTS
    ]
    for group in found:
        result = group[0].result
        memory = statistics.mean(run.result.peak_memory_bytes for run in group) / 1e9
        seconds = statistics.mean(run.result.test_seconds for run in group)
        figures = (f"{memory:.2f} GB", f"{seconds:.0f} s", group[0].settings.device)
        rows.append((result.dataset, group[0].label, *figures, _names(group)))
    return ("data", "what", "memory", "test split", "machine", "source"), rows


def _names(group: list[Run]) -> str:
    return ", ".join(run.name for run in group)
