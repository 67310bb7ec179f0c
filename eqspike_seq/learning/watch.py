"""What a run warns of: layers that cannot learn, silence, a loss that grows."""

import math

from eqspike_seq.config.section import flat
from eqspike_seq.config.settings import RunConfig
from eqspike_seq.ledger import Ledger
from eqspike_seq.model.network import Shape
from eqspike_seq.phases import Phase
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.schema import Metrics

WORSE = 1.2  # times the loss of answering all classes alike, at which training is told to diverge
APART = 0.01  # share of texts with more than one fixed point from which a run is warned
STUCK = 0.95  # share of such units at which a layer is warned of


def warn_of_layers(line: Metrics, warned: set[str], reporter: Reporter) -> None:
    """Say, once for each, which layers are silent or saturated."""
    for kind, shares in (("silent", line.silent), ("saturated", line.saturated)):
        for layer, share in shares.items():
            if share > STUCK and f"{layer} {kind}" not in warned:
                warned.add(f"{layer} {kind}")
                reporter.warn(
                    f"layer {layer}: {share:.1%} of its rates are {kind} at step {line.step}; "
                    "so it can hardly learn. Try another --learning-rate, --seed or --hidden."
                )


def warn_of_loop(line: Metrics, warned: set[str], reporter: Reporter) -> None:
    """Say, once, that texts have more than one fixed point."""
    if line.loop.get("apart", 0.0) > APART and "loop" not in warned:
        warned.add("loop")
        reporter.warn(
            f"{line.loop['apart']:.1%} of the checked validation texts settle elsewhere from another start at step "
            f"{line.step} (loop gain up to {line.loop['gain']:.2g}). Raise --temperature."
        )


def warn_of_phases(line: Metrics, config: RunConfig, warned: set[str], reporter: Reporter) -> None:
    """Say, once for each, which phases end before most texts converge.

    The neurons of a rate code go on in the nudges from where its free phase ended, so that what it left unsettled is
    gone when gradients are read, unless the nudges do not converge either. A free phase in which no text converges is
    always reported.
    """
    shares = line.converged
    early = [phase for phase, share in shares.items() if share < 0.5]
    if early == [Phase.FREE] and shares[Phase.FREE] > 0 and "window" in flat(config):
        return
    for phase in early:
        if phase not in warned:
            warned.add(phase)
            reporter.warn(
                f"{phase} phase: only {shares[phase]:.1%} of the texts converged (mean residual "
                f"{line.residual[phase]:.2g}) by step {line.step}. "
                f"Raise --{'free' if phase == Phase.FREE else 'nudge'}-steps."
            )


def warn_of_silence(
    config: RunConfig, shape: Shape, ledger: Ledger, step: int, warned: set[str], reporter: Reporter
) -> None:
    """Say, once for each, which spiking layers below the output have sent nothing, and whether nudges have not."""
    changes = config.settings().get("neuron") == "sigma-delta"
    layers = [f"s{index}" for index in range(2 if shape.clamped else 1, len(shape.sizes))]
    sent = {
        (layer, phase): kinds["spikes"] + kinds["graded_events"]
        for layer in layers
        for phase, kinds in ledger.counts.get(layer, {}).items()
    }
    if config.backend.name == "dense":
        return
    for layer in layers:
        if not sent.get((layer, Phase.FREE), 0) and layer not in warned:
            warned.add(layer)
            flag = "--projection-threshold" if layer == "s1" else "--threshold"
            change = f"Lower {flag}." if changes else "Raise --bias, or lower --learning-rate."
            reporter.warn(f"layer {layer}: silent, no spike in any free phase by step {step}. {change}")
    if changes and not any(sent.get((layer, Phase.PLUS), 0) for layer in layers) and "nudges" not in warned:
        warned.add("nudges")
        reporter.warn(
            f"nudges: silent, no spike below the output by step {step}, so that only its weights learn. "
            "Lower --nudge-threshold, or raise --beta."
        )


def loss_of_alike(shape: Shape) -> float:
    """½(1 − 1/C): the loss ½‖y − ŷ‖² of a network whose output is 1/C for every class; its cross-entropy is ln C."""
    return math.log(shape.classes) if shape.softmax else 0.5 * (1 - 1 / shape.classes)


def warn_of_loss(line: Metrics, shape: Shape, reporter: Reporter) -> None:
    """Say that an epoch's loss is above that of a network that answers all classes alike."""
    alike = loss_of_alike(shape)
    if line.loss > WORSE * alike:
        reporter.warn(
            f"training diverges: loss {line.loss:.3g} at step {line.step}, where equal outputs for all classes give "
            f"{alike:.3g}. Lower --learning-rate."
        )
