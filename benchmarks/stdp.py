"""What a pair of spikes does to a synapse by the rule ``eqspike``: weight change against spike-time difference.

python -m benchmarks.stdp --json results/stdp.json

One spike of each side in a nudge of 600 steps, the post-synaptic one in the middle, the pre-synaptic one moved; the
change of the weight less what either spike does without the other: the part that belongs to the pair.
"""

import math

import torch
import tyro

from benchmarks.measure import JsonFile
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.files import write_json
from neuromorphic.plasticity import EqSpike, Side

STEPS, START = 600, 0.1


def side(spikes: torch.Tensor, gain: float) -> Side:
    """One neuron whose spikes are (K,), as a synapse sees it."""
    trace, course = torch.tensor(START, dtype=torch.float64), []
    for z in spikes:
        trace = trace + gain * (z - trace)
        course.append(trace)
    start = torch.full((1, 1), START, dtype=torch.float64)
    shaped = torch.stack(course).view(-1, 1, 1)
    return Side(start, start, start, shaped[-1], spikes.view(-1, 1, 1), shaped)


def curve(tau: float, differences: list[int]) -> list[float]:
    """What the pair does for each t_post − t_pre."""
    gain, rule, found = 1 - math.exp(-1 / tau), EqSpike(trace_tau=tau), []
    for difference in differences:
        post, pre = (torch.zeros(STEPS, dtype=torch.float64) for _ in range(2))
        post[STEPS // 2], pre[STEPS // 2 - difference] = 1, 1
        found.append(
            sum(
                sign * float(rule.synapse(side(p * post, gain), side(q * pre, gain)).whole())
                for sign, p, q in ((1, 1, 1), (-1, 1, 0), (-1, 0, 1))
            )
        )
    return found


def main(json_file: JsonFile) -> None:
    """Compute the curves.

    Args:
        json_file: Where they go.
    """
    differences = list(range(-150, 151, 2))
    curves = {str(tau): curve(tau, differences) for tau in (20.0, 50.0, 200.0)}
    write_json(json_file, {"format": FORMAT, "start": START, "t_post_less_t_pre": differences, "curves": curves})


if __name__ == "__main__":
    tyro.cli(main)
