"""Where each setting acts: one given where it has no effect is a mistake, which training must not pass over."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from eqspike_seq.config.settings import WHERE, RunConfig
from eqspike_seq.data.registry import DATASETS, is_searched, pixels_of
from eqspike_seq.errors import ConfigError


@dataclass(frozen=True)
class Condition:
    """What ``setting`` must be for another one to act; ``needed`` says so, as a flag where one flag brings it about."""

    needed: str
    setting: str
    holds: Callable[[RunConfig], bool]


def is_one_of(setting: str, *values: Any) -> Condition:
    """That ``setting`` has one of ``values``."""
    needed = " or ".join([" ".join(as_flag(setting, values[0])), *map(str, values[1:])])
    return Condition(needed, setting, lambda config: getattr(config, setting) in values)


def as_flag(name: str, value: Any) -> list[str]:
    """A setting as it is typed: --name, --no-name, or --name and its values."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}", *map(str, value if isinstance(value, (list, tuple)) else [value])]


def typed(flag: list[str]) -> list[str]:
    """The values of a flag, or the flag of one that has none."""
    return flag[1:] or flag


def named_in(arguments: Iterable[str]) -> set[str]:
    """Names of the settings of which a command line has flags, --no-NAME included."""
    flags = {argument[2:].split("=")[0].replace("-", "_") for argument in arguments if argument.startswith("--")}
    return flags | {flag.removeprefix("no_") for flag in flags}


TEXTS = (Condition("texts", "dataset", lambda config: not pixels_of(config.dataset)),)
PAIRS = (Condition("pairs of texts", "dataset", lambda config: config.inputs() == 2),)
OWN_TEXTS = (Condition("a file or folder of your own", "dataset", lambda config: config.dataset not in DATASETS),)
FOUND = (Condition("a data set that is looked for", "dataset", lambda config: is_searched(config.dataset)),)
PICKLE = (Condition("--embeddings FILE.kv", "embeddings", lambda config: config.embeddings.endswith(".kv")),)
SPIKING = (is_one_of("backend", "spiking"),)
RATES = (
    is_one_of("backend", "spiking", "brian2"),
    Condition("a --neuron other than sigma-delta", "neuron", lambda config: config.neuron != "sigma-delta"),
)
CHANGES = (*SPIKING, is_one_of("neuron", "sigma-delta"))
LEAKY = (*SPIKING, is_one_of("neuron", "lif"))
HOPATTN = (*TEXTS, is_one_of("attention", True))
WINNERS = (*SPIKING, *HOPATTN, is_one_of("circuit", "wta"))
CODED_QUERY = Condition("--query-threshold above 0", "query_threshold", lambda config: config.query_threshold > 0)

ACTS: dict[str, tuple[Condition, ...]] = {  # a setting that is not here acts everywhere
    "precision": (is_one_of("backend", "dense", "spiking"),),
    "data_dir": FOUND,
    "text_column": OWN_TEXTS,
    "label_column": OWN_TEXTS,
    "class_names": OWN_TEXTS,
    "strict": OWN_TEXTS,
    "tokeniser": TEXTS,
    "tokens": TEXTS,
    "keep": TEXTS,
    "embeddings": TEXTS,
    "trust_pickle": (*TEXTS, *PICKLE),
    "dim": (*TEXTS, is_one_of("embeddings", "word2vec", "random")),
    "min_count": TEXTS,
    "workers": (*TEXTS, is_one_of("embeddings", "word2vec")),
    "attention": TEXTS,
    "projections": PAIRS,
    "recall": TEXTS,
    "masked": TEXTS,
    "bptt_steps": (is_one_of("estimator", "bptt"),),
    "order": (is_one_of("backend", "dense"),),
    "neuron": SPIKING,
    "rule": SPIKING,
    "circuit": (*SPIKING, *HOPATTN),
    "sampler": WINNERS,
    "winners": (*CHANGES, *WINNERS[1:]),
    "query_threshold": (*CHANGES, *HOPATTN),
    "query_nudge_threshold": (*CHANGES, *HOPATTN, CODED_QUERY),
    "pattern_nudge_threshold": (*CHANGES, *WINNERS[1:]),
    "attention_threshold": (*CHANGES, *HOPATTN),
    "top_patterns": (*CHANGES, *HOPATTN, is_one_of("circuit", "clocked")),
    "window": RATES,
    "tick_steps": RATES,
    "feedback_tau": (*RATES, *TEXTS),
    "output_tau": RATES,
    "trace_tau": (*SPIKING, RATES[1], is_one_of("rule", "eqspike", "trace")),
    "membrane_tau": LEAKY,
    "refractory": LEAKY,
    "reset": LEAKY,
    "common_noise": (*SPIKING, is_one_of("neuron", "bernoulli")),
    "threshold": CHANGES,
    "projection_threshold": CHANGES,
    "baseline": CHANGES,
    "deadband": CHANGES,
    "output_threshold": CHANGES,
    "nudge_threshold": CHANGES,
    "projection_nudge_threshold": (*CHANGES, *TEXTS),  # pixels do not change in the nudges
    "events": CHANGES,
}


def unmet(config: RunConfig, name: str) -> list[Condition]:
    """What keeps a setting from acting; nothing where it acts."""
    return [condition for condition in ACTS.get(name, ()) if not condition.holds(config)]


def check_given(config: RunConfig, given: Iterable[str]) -> None:
    """Raises ConfigError that names each setting of ``given`` that has no effect with the others, and why."""
    lines = []
    for name in RunConfig.model_fields:
        if name not in given or not (missing := unmet(config, name)):
            continue
        needed = [condition.needed for condition in missing]
        got = ", ".join(
            config.dataset_name() if other == "dataset" else " ".join(as_flag(other, getattr(config, other)))
            for other in (condition.setting for condition in missing)
        )
        flags = [text.split(" or ")[0] for text in needed if text.startswith("--")]
        remedy = f"Add {' '.join(flags)} or leave it out." if len(flags) == len(needed) else "Leave it out."
        said = " ".join(as_flag(name, getattr(config, name)))
        lines.append(f"{said}: acts with {' and '.join(needed)} only; got {got}. {remedy}")
    if lines:
        raise ConfigError("\n".join(lines))


def differences(mine: RunConfig, theirs: RunConfig) -> list[str]:
    """Settings that change what is computed and differ, as ``--flag mine != theirs``.

    Where the other's precision is auto, any will do.
    """
    return [
        " ".join([*as_flag(name, value), "!=", *typed(as_flag(name, getattr(theirs, name)))])
        for name in RunConfig.model_fields
        if (value := getattr(mine, name)) != getattr(theirs, name)
        and name not in WHERE
        and (name, getattr(theirs, name)) != ("precision", "auto")
        and not (unmet(mine, name) and unmet(theirs, name))
    ]
