"""The tables of docs/speed.md and docs/how-to/several-machines.md."""

from statistics import median

from analysis.folders import Json
from docs.tools.growth import NAMES
from docs.tools.markdown import read, table

WAYS = {
    "event": "event-driven",
    "batched": "the batched backend, a batch of one, fp32",
    "batched_default": "the same, products as by default",
    "literal": "dense, Algorithm 2 as written",
}


PRODUCTS = {
    "square_2048": "product of two squares of 2048",
    "w2_up": "w₂ F(s¹)",
    "w2_down": "w₂ᵀ s²",
    "scores": "q Kᵀ",
    "mix": "p K",
}


def dense() -> str:
    """Dense EP against Algorithm 2 at both sizes, before and after training."""
    rows = []
    for preset in ("paper-small", "paper"):
        found = read(f"speed-{preset}.json")
        for stage, label in (
            ("initial", "at initialisation"),
            ("trained", f"after {found['trained_batches']} batches"),
        ):
            part = found[stage]
            cells = (
                f"`{preset}`, {label}",
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
    loop, brian = found["step_loop"], found["brian2"]
    in_fp32, by_default = (loop[f"ratio_to_step_loop{end}"] for end in ("", "_in_the_precision_of_the_preset"))
    not_asked = ("–", "–")
    rows: list[tuple[str, ...]] = [
        ("`if`, step loop in fp32 ÷ ours in fp32", f"{in_fp32:.1f}", *not_asked),
        ("`if`, step loop in fp32 ÷ ours as by default", f"{by_default:.1f}", *not_asked),
        ("`if`, Brian2 ÷ a text of our batch, w₂ as synapses", f"{brian['ratio_to_brian2']:.0f}", *not_asked),
        (
            "`if`, Brian2 ÷ a text of our batch, layers above s¹ alone",
            f"{brian['ratio_to_brian2_above_s1']:.1f}",
            *not_asked,
        ),
    ]
    for key, label in (
        ("if_to_dense", "`if`, rule `count` ÷ dense EP"),
        ("if_preset_to_dense", "`if`, the preset's rule ÷ dense EP"),
        ("sigma_delta_to_dense", "`sigma-delta` ÷ dense EP"),
    ):
        rows.append((label, *(f"{found[stage][key]:.2f}" for stage in ("initial", "epoch", "trained"))))
    return table(("", "at initialisation", "over the first epoch", "after training"), rows, (0,))


def spiking_words() -> str:
    """Spiking training batches of networks with pooling queries against dense EP, over a whole run of each."""
    found = [read(name)["epoch"] for name in ("spiking-words.json", "spiking-words-small.json")]
    rows = []
    for key, label in (("if_preset_to_dense", "`if` ÷ dense EP"), ("sigma_delta_to_dense", "`sigma-delta` ÷ dense EP")):
        rows.append((label, *(f"{ratio:.2f}" for each in found for ratio in (each["median"][key], each[key]))))
    heads = [f"`{preset}`, {what}" for preset in ("imdb", "imdb-small") for what in ("a batch", "the whole run")]
    return table(("", *heads), rows, (0,))


def latency() -> str:
    """One review at a time."""
    found = read("latency.json")
    rows = [
        (label, f"{found['ways'][way]['p50_ms']:.2f}", f"{found['ways'][way]['p99_ms']:.1f}")
        for way, label in WAYS.items()
    ]
    return table(("", "p50, ms", "p99, ms"), rows, (0,))


def growth() -> str:
    """Fitted exponents, and those of the largest term."""
    rows = []
    for name, about in read("growth.json")["growth"].items():
        fitted, theory = about["exponent"], about["exponent_of_the_largest_term"]
        sizes = [row["size"] for row in about["rows"]]
        cells = (
            NAMES[name],
            f"{sizes[0]} – {sizes[-1]}",
            *(f"{fitted[cost]:.2f}" for cost in ("seconds", "products")),
        )
        rows.append((*cells, f"{theory['products']}", f"{fitted['bytes']:z.2f}", f"{theory['bytes']}"))
    heads = ("of", "from – to", "time", "products", "products in theory", "memory", "memory in theory")
    return table(heads, rows, (0, 1))


def costs() -> str:
    """What HopAttn adds."""
    found, rows = read("costs.json"), []
    for name, label in (
        ("hopattn_cpu", "`paper-small`"),
        ("hopattn_paper_halved", "`paper`, N and units of s² halved"),
    ):
        part = found[name]
        rows.append((label, *(f"{100 * part[f'{cost}_more']:+.0f} %" for cost in ("seconds", "products", "bytes"))))
    return table(("HopAttn adds", "time", "products", "peak memory"), rows, (0,))


def over_time() -> str:
    """Peak memory of EP and of BPTT by the steps of a phase."""
    found = read("costs.json")["memory_over_time"]
    steps = sorted({row["steps"] for row in found["rows"]})
    rows = []
    for estimator, label in (("three-phase", "EP"), ("bptt", "BPTT")):
        bytes_at = {row["steps"]: row["bytes"] for row in found["rows"] if row["estimator"] == estimator}
        slope = found["bytes_a_step"][estimator]
        rows.append((label, *(f"{bytes_at[step] / 1e6:.0f} MB" for step in steps), f"{slope / 1e6:.2f} MB"))
    return table(("", *(f"{step} steps" for step in steps), "a step more"), rows, (0,))


def roofline() -> str:
    """How near dense training comes to the machine."""
    found = read("growth.json")["roofline"]
    rates, reached = found["operations_a_second"], found["reached_operations_a_second"]
    rows = [(PRODUCTS[name], *(f"{rates[kind][name] / 1e9:.0f}" for kind in rates)) for name in PRODUCTS]
    trained = [f"{reached / 1e9:.0f}" if kind == found["product_dtype"] else "–" for kind in rates]
    return table(("10⁹ operations a second", *rates), [*rows, ("dense training", *trained)], (0,))


def scaling() -> str:
    """Seconds a step that the model foretells."""
    found = read("scaling.json")["seconds_foretold"]
    rows = [(name, *(f"{seconds:.2f}" for seconds in row.values())) for name, row in found.items()]
    return table(("processes", *_first(found)), rows, (0,))


def scaling_measured() -> str:
    """One process and two, measured, and as the model foretells."""
    found = read("scaling.json")
    one, two = found["one_process"][-1]["seconds"], found["two_processes"]["seconds"]
    rows = [
        ("measured", f"{one:.2f} s", f"{two:.2f} s", f"{one / two:.2f} ×"),
        (
            "predicted",
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


ONCE = ("reading", "words and")  # parts of a run, not of a batch
SERVED = {"file": "`--file`", "pipe": "standard input, a pipe"}
STAGES = {
    "sizes": "reading once, to choose sizes",
    "reading": "reading, words and n-grams",
    "training": "training",
    "testing": "validation",
    "saving": "a checkpoint",
    "baseline": "TF-IDF and logistic regression",
}
SIZES_OF_WORDS = {
    "queries": "Q, queries",
    "patterns": "N, patterns of a text",
    "dim": "D",
    "hidden": "units of s²",
    "vocabulary": "patterns of the vocabulary",
    "classes": "classes",
    "texts": "texts of a batch",
}


def whole() -> str:
    """IMDB from raw text to a tested model, each in a process of its own."""
    labels = {
        "dense": "eqspike, dense EP",
        "sigma-delta": "eqspike, sigma-delta",
        "bptt": "the network of dense EP by BPTT, plain PyTorch",
        "tfidf": "scikit-learn, TF-IDF and logistic regression",
        "lstm": "LSTM",
    }
    found = read("pipeline.json")["whole"]
    rows = [
        (
            label,
            f"{found[name]['seconds']:.0f} s",
            f"{found[name]['peak_bytes'] / 2**30:.2f} GiB",
            *(f"{found[name][f'{part}_accuracy']:.2%}" for part in ("validation", "test")),
        )
        for name, label in labels.items()
        if name in found
    ]
    return table(("", "time", "peak memory", "validation", "test"), rows, (0,))


def parts() -> str:
    """Where the time of a training batch of dense EP goes."""
    parts = read("pipeline.json")["parts"]
    found = {name: seconds for name, seconds in parts.items() if not name.startswith(ONCE)}
    total = sum(found.values())
    rows = [
        (name, f"{1e3 * seconds:.1f} ms", f"{seconds / total:.0%}")
        for name, seconds in sorted(found.items(), key=lambda part: -part[1])
    ]
    return table(("", "a batch of 64", "share"), [*rows, ("whole batch", f"{1e3 * total:.1f} ms", "100%")], (0,))


def ways() -> str:
    """Processor time of a training batch by each way, and its ratio to dense EP."""
    found = read("pipeline.json")["batches"]["seconds_a_batch"]
    labels = {
        "dense": "dense EP",
        "sigma-delta": "sigma-delta",
        "bptt": "BPTT, the same buckets",
        "bptt, padded": "BPTT, batches padded to their longest text",
    }
    rows = [
        (
            label,
            f"{1e3 * found[way]:.1f} ms",
            f"{found['dense'] / found[way]:.2f}",
            f"{found[way] / found['dense']:.2f}",
        )
        for way, label in labels.items()
    ]
    return table(("", "a batch of 64", "dense EP ÷ it", "it ÷ dense EP"), rows, (0,))


def serving() -> str:
    """Answers a second."""
    rows = []
    for run, row in read("serving.json")["runs"].items():
        kind = "event-driven" if "sigma-delta" in run else "dense"
        rows.append((f"{kind}, one text after the other", f"{row['one_by_one']:,.0f}", "–"))
        for way, label in SERVED.items():
            about = row[way]
            rows.append(
                (
                    f"{kind}, {label}",
                    f"{about['texts_a_processor_second']:,.0f}",
                    f"{about['peak_bytes'] / 2**20:.0f} MiB",
                )
            )
    return table(("", "texts a second of one core", "peak memory"), rows, (0,))


def large() -> str:
    """Memory and time of each stage of large sets."""
    found = read("large.json")["sets"]
    rows = [
        (
            label,
            *(
                cell
                for about in found.values()
                for stage in [about["stages"].get(name)]
                for cell in (
                    ("–", "–")
                    if stage is None
                    else (f"{stage['processor_seconds']:.0f} s", f"{stage['peak_bytes'] / 2**30:.2f} GiB")
                )
            ),
        )
        for name, label in STAGES.items()
        if any(name in about["stages"] for about in found.values())
    ]
    heads = [
        f"{about['texts']:,} texts, {what}" for about in found.values() for what in ("processor time", "peak memory")
    ]
    return table(("", *heads), rows, (0,))


def growth_words() -> str:
    """Exponents of a network with pooling queries."""
    rows = []
    for name, about in read("growth-words.json")["words"].items():
        sizes = [row["size"] for row in about["rows"]]
        fitted = [f"{about['exponent'][cost]:z.2f}" for cost in ("seconds", "products", "joules", "bytes")]
        ends, span = about["exponent_of_the_largest_term"], f"{sizes[0]:,} – {sizes[-1]:,}"
        rows.append((SIZES_OF_WORDS[name], span, *fitted[:3], f"{ends['products']}", fitted[3], f"{ends['bytes']}"))
    heads = ("of", "from – to", "time", "products", "energy", "all three in theory", "memory", "memory in theory")
    return table(heads, rows, (0, 1))


def scaling_words() -> str:
    """What a process receives at each batch where patterns are learnt, and how long it takes, measured and modelled."""
    found = read("scaling-words.json")
    processes, nobody = list(found["bytes_received"]), ["–"] * (len(found["bytes_received"]) - 2)
    two = found["measured"]["two"]["bytes_received"]
    rows = [
        ("ms a batch, measured", *(f"{1e3 * found['seconds_measured'][p]:.1f}" for p in processes[:2]), *nobody),
        ("MB received, measured", "0.00", f"{two / 1e6:.2f}", *nobody),
        ("MB received, rows of its texts", *(f"{found['bytes_received'][p] / 1e6:.2f}" for p in processes)),
        ("MB received, were all rows sent", *(f"{found['bytes_of_all_gradients'][p] / 1e6:.0f}" for p in processes)),
        *(
            (f"ms a step at {name}", *(f"{1e3 * row[p]:.1f}" for p in processes))
            for name, row in found["seconds_foretold"].items()
        ),
    ]
    return table(("processes", *processes), rows, (0,))
