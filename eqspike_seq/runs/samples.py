"""What samples.npz holds: texts through the three phases."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eqspike_seq.phases import RELAXED

MISTAKES = {
    "rows": ("m", "iu"),
    "labels": ("m", "iu"),
    "outputs": ("mc", "f"),
    "tokens": ("mw", "U"),
    "mask": ("mw", "b"),
}
TOKENS, LABELS = {"tokens", "mistakes_tokens"}, {"labels", "mistakes_labels"}


def received(samples: dict[str, NDArray[Any]], text: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """(the words of a text, the attention that each gets from all rows that ask; 1 is an even share)."""
    real = samples["mask"][text]
    asks = samples["asks"][text] if "asks" in samples else real  # files of an earlier eqspike: every token asks
    shares = samples["attention"][text].astype(np.float64)[asks][:, real]
    return samples["tokens"][text][real], shares.sum(0) * real.sum() / max(1, asks.sum())


def check_samples(arrays: dict[str, NDArray[Any]]) -> None:
    """Raises ValueError unless these are the arrays of samples.npz: names, axes, kinds, finite numbers."""
    sizes: dict[str, int] = {}  # axes: texts b, tokens n, classes c, mistakes m, their tokens w; readings r, steps t

    def fit(name: str, axes: str, kinds: str, phase: str = "") -> None:
        array = arrays.get(name)
        if array is None or array.ndim < len(axes) or array.dtype.kind not in kinds:
            got = "nothing" if array is None else f"{array.ndim} axes of {array.dtype}"
            raise ValueError(f"{name}: got {got}, expected axes {axes or 'none'}, numbers of kind {kinds}")
        for axis, size in zip(axes, array.shape, strict=False):
            key = axis + (phase if axis in "rt" else "")
            if size != sizes.setdefault(key, size) or size < 1:
                raise ValueError(f"{name}: got shape {array.shape}, expected axis {axis} to have {sizes[key]}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name}: NaN or infinite values")

    fit("labels", "b", "iu")
    fit("reading_steps", "", "iu")
    if arrays["reading_steps"].shape != () or not 1 <= arrays["reading_steps"] <= 2**31:
        raise ValueError("reading_steps: expected one whole number above 0")
    fit("tokens", "bn", "U")
    fit("mask", "bn", "b")
    if "mistakes_rows" in arrays:  # files of an earlier eqspike have none
        for name, (axes, kinds) in MISTAKES.items():
            fit(f"mistakes_{name}", axes, kinds)
        if "attention" in arrays:
            fit("mistakes_attention", "mw", "f")
    for name in TOKENS & arrays.keys():
        "".join(arrays[name].ravel().tolist()).encode()  # no half characters
    if "attention" in arrays:
        if "asks" in arrays:
            fit("asks", "bq", "b")
        fit("attention", "bqn" if "asks" in arrays else "bnn", "f")  # an earlier eqspike: every token asks
    layers = [name.removeprefix("free_") for name in arrays if name.startswith("free_spikes_")]
    for phase in RELAXED:
        fit(f"{phase}_outputs", "rbc", "f", phase)
        for name in ("residual", "phi"):
            fit(f"{phase}_{name}", "rb", "f", phase)
        for name in layers:
            fit(f"{phase}_{name}", "tb", "biuf", phase)
            if arrays[f"{phase}_{name}"].ndim != arrays[f"free_{name}"].ndim:
                raise ValueError(f"{phase}_{name}: not as in the free phase")
    for name in LABELS & arrays.keys():
        if (arrays[name] < 0).any() or (arrays[name] >= sizes["c"]).any():
            raise ValueError(f"{name}: expected numbers of {sizes['c']} classes")
