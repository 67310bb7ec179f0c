"""The tables of docs/speed.md and docs/how-to/several-machines.md."""

from statistics import median

from analysis.folders import Json
from analysis.markdown import read, table

WAYS = {
    "event": "event-driven",
    "batched": "the batched backend, a batch of one, fp32",
    "batched_default": "the same, products as by default",
    "literal": "dense, Algorithm 2 as written",
}


def dense() -> str:
    """Dense EP against Algorithm 2, before and after training."""
    rows = []
    for name in ("speed-cpu-preset.json", "speed-cpu.json"):
        found = read(name)
        about = f"`cpu`, settled to {found['settings']['tolerance']:g}"
        for stage, label in (
            ("initial", "at initialisation"),
            ("trained", f"after {found['trained_batches']} batches"),
        ):
            part = found[stage]
            cells = (
                f"{about}, {label}",
                f"{part['literal_seconds']:.1f} s",
                f"{median(part['seconds']['ours']):.2f} s",
                f"{part['ratio']:.1f} ×",
                f"{part['ratio_float32']:.1f} ×",
                f"{part['inference_ratio']:.1f} ×",
                f"{found['memory_ratio']:.1f} ×",
                f"{min(part['cosine_to_literal'].values()):.4f}",
                f"{min(cosine for row in part['cosine_to_float32'].values() for cosine in row.values()):.5f}",
            )
            rows.append(cells)
    heads = ("", "as written", "ours", "faster", "in fp32", "inference", "less memory", "least cosine", "to fp32")
    return table(heads, rows, text=(0,))


def tried() -> str:
    """Sweeps of the free phase by what could save some."""
    found = read("acceleration.json")["mean_sweeps"]
    return table(
        ("", *found), [(name, *(f"{row[name]:.2f}" for row in found.values())) for name in _first(found)], (0,)
    )


def spiking() -> str:
    """Spiking training batches against the step loop, Brian2 and dense EP."""
    found = read("spiking.json")
    loop = found["step_loop"]
    in_fp32, by_default = (loop[f"ratio_to_step_loop{end}"] for end in ("", "_in_the_precision_of_the_preset"))
    rows: list[tuple[str, ...]] = [
        ("`if`, step loop in fp32 ÷ ours in fp32", f"{in_fp32:.1f}", "–"),
        ("`if`, step loop in fp32 ÷ ours as by default", f"{by_default:.1f}", "–"),
    ]
    for key, label in (
        ("if_to_dense", "`if`, rule `count` ÷ dense EP"),
        ("if_preset_to_dense", "`if`, the preset's rule ÷ dense EP"),
        ("sigma_delta_to_dense", "`sigma-delta` ÷ dense EP"),
    ):
        rows.append((label, *(f"{found[stage][key]:.2f}" for stage in ("initial", "trained"))))
    return table(("", "at initialisation", "after training"), rows, (0,))


def latency() -> str:
    """One review at a time."""
    found = read("latency.json")
    rows = [
        (label, f"{found['ways'][way]['p50_ms']:.2f}", f"{found['ways'][way]['p99_ms']:.1f}")
        for way, label in WAYS.items()
    ]
    return table(("", "p50, ms", "p99, ms"), rows, (0,))


def scaling() -> str:
    """Seconds a step that the model foretells."""
    found = read("scaling.json")["seconds_foretold"]
    rows = [(name, *(f"{seconds:.2f}" for seconds in row.values())) for name, row in found.items()]
    return table(("processes", *_first(found)), rows, (0,))


def scaling_measured() -> str:
    """One process and two, measured, beside the model."""
    found = read("scaling.json")
    one, two = found["one_process"][-1]["seconds"], found["two_processes"]["seconds"]
    rows = [
        ("measured", f"{one:.2f} s", f"{two:.2f} s", f"{one / two:.2f} ×"),
        (
            "foretold",
            f"{found['seconds_foretold']['this machine']['1']:.2f} s",
            f"{found['two_processes_foretold']:.2f} s",
            f"{found['speed_up_foretold']:.2f} ×",
        ),
        ("of which exchange, measured", "–", f"{1e3 * found['exchange_seconds']:.0f} ms", "–"),
    ]
    return table(("", "one process", "two", "faster"), rows, (0,))


def _first(found: Json) -> Json:
    first: Json = next(iter(found.values()))
    return first
