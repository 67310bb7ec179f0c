"""eqspike: text classifiers trained with Equilibrium Propagation, dense or on spiking neurons.

    config = configure("mini", "spiking", epochs=5)  # as `eqspike run mini --backend spiking --epochs 5`
    result = run(config)                             # trains, tests, fills a run folder
    open(result["path"]).predict(["a dull film"])    # without a path: the model that comes with eqspike
    compare([result["path"], "imdb-small"])          # a table

Each name is loaded when it is first asked for, and torch with it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eqspike import datasets
    from eqspike.build import configure, make_backend, run
    from eqspike.classifier import EqSpikeClassifier
    from eqspike.opening import OpenedRun, compare, open
    from eqspike.prediction import Prediction, Predictor
    from eqspike_seq.config.settings import RunConfig

__all__ = [
    "EqSpikeClassifier",
    "OpenedRun",
    "Prediction",
    "Predictor",
    "RunConfig",
    "__version__",
    "compare",
    "configure",
    "datasets",
    "make_backend",
    "open",
    "run",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("eqspike")
    if name == "datasets":
        import eqspike.datasets as home

        return home
    if name in ("configure", "make_backend", "run"):
        from eqspike import build as home  # type: ignore[no-redef]
    elif name == "EqSpikeClassifier":
        from eqspike import classifier as home  # type: ignore[no-redef]
    elif name in ("OpenedRun", "compare", "open"):
        from eqspike import opening as home  # type: ignore[no-redef]
    elif name in ("Prediction", "Predictor"):
        from eqspike import prediction as home  # type: ignore[no-redef]
    elif name == "RunConfig":
        from eqspike_seq.config import settings as home  # type: ignore[no-redef]
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(home, name)


def __dir__() -> list[str]:
    return sorted(__all__)
