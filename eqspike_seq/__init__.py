"""Equilibrium Propagation for text. ``EqSpikeClassifier`` is loaded when it is first asked for, and torch with it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eqspike_seq.classifier import EqSpikeClassifier

__all__ = ["EqSpikeClassifier"]


def __getattr__(name: str) -> Any:
    if name == "EqSpikeClassifier":
        from eqspike_seq.classifier import EqSpikeClassifier

        return EqSpikeClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
