"""Neurons and rules by name: adding one is one entry here and one in the setting of that name."""

import torch

from eqspike_seq.backends import filled
from eqspike_seq.config import RunConfig
from eqspike_seq.dynamics import Backend
from neuromorphic.change_core import Reading
from neuromorphic.neurons import Bernoulli, IntegrateAndFire, LeakyIntegrateAndFire
from neuromorphic.plasticity import Count, EqSpike, MembraneCount, Rule, Trace
from neuromorphic.sigma_delta import SigmaDeltaBackend
from neuromorphic.simulator import SpikingBackend

NEURONS = {"if": IntegrateAndFire, "lif": LeakyIntegrateAndFire, "bernoulli": Bernoulli}  # fire at most once a step
RULES = {"count": Count, "trace": Trace, "eqspike": EqSpike, "membrane": MembraneCount}


def spiking(config: RunConfig, dtype: torch.dtype) -> Backend:
    """The spiking backend with the neuron, the circuit and the rule that ``config`` names."""
    rule: Rule = filled(RULES[config.rule], config)
    if config.neuron == "sigma-delta":
        return filled(SigmaDeltaBackend, config, rule=rule, reading=filled(Reading, config), dtype=dtype)
    return filled(SpikingBackend, config, neuron=filled(NEURONS[config.neuron], config), rule=rule, dtype=dtype)
