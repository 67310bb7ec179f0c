"""Is the finite-β contrast of a stochastic network the gradient of a free-energy difference? Exactly, by enumeration.

python -m benchmarks.free_energy --json results/free-energy.json

*Where it is.* A network whose states s are finite in number has, at equilibrium at temperature T and with nudge β, the
distribution and the free energy

    P_β(s) = exp((φ(s, θ) − β L(s))/T)/Z,    F(β) = −T ln Z,    ∂F/∂β = ⟨L⟩_β,    ∂F/∂θ = −⟨∂φ/∂θ⟩_β

so that the contrast of two nudges is a gradient at every β, not only as β → 0 (after Litman, arXiv 2511.22024):

    1/(2β) [⟨∂φ/∂θ⟩]^{+β}_{−β} = −∂C_β/∂θ,    C_β = (F(β) − F(−β))/(2β) = 1/(2β) ∫_{−β}^{β} ⟨L⟩_β' dβ'

What it descends is the loss, averaged over all nudges between −β and β. Without noise the same holds of the energy at
the fixed point, E(β) = min_s (Σ s² − φ + βL), as far as one fixed point can be followed from −β to β: for an output
unit with σ' = ½ that is β < 2, where the nudge −β(y − s) begins to outweigh what holds the unit.

*Where it is not.* The networks of ``neuromorphic`` sample no such distribution. A neuron fires with the probability
σ(u) = clip(u/2, 0, 1), whose log odds ln(u/(2 − u)) are not linear in u; all neurons fire at once; a winner is drawn at
the temperature τ√D, whatever that of the neurons is; and a synapse multiplies mean rates, not spikes of the same step.
Then there is no F, but C_β, the mean of ⟨L⟩_β' of the stationary distributions, still is defined, and its gradient is
what the contrast should be. Here both are computed for networks of 64 and of 128 states, from the stationary
distribution of the Markov chain of each kind of dynamics, departing from the first one step by step:

    Gibbs                logistic neurons, one unit at a time, T = ½, which has the slope ½ of σ; winners at the same T
    together             all units at once
    clipped              σ in place of the logistic function, one unit at a time
    clipped, together    both
    spiking              both, and winners at √D

``currents`` is the share of the probability that moves in a step that flows in circles: ½ Σ |π_s P_st − π_t P_ts| ÷
Σ_{s≠t} π_s P_st, 0 in detailed balance.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor

from benchmarks.measure import JsonFile, command
from eqspike_seq.config.settings import FORMAT
from eqspike_seq.files import write_json
from eqspike_seq.model.network import sigma
from eqspike_seq.progress import Reporter
from eqspike_seq.runs.environment import environment

BETAS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
HEAT, NODES, NETWORKS, DIM = 0.5, 10, 5, 4  # T of neurons; points of the integral over β'; networks of each kind; D
SIZES = {"no winners": (1, 4, 2), "winners": (4, 3, 2)}  # patterns, hidden and output units: 64 and 128 states

Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class Dynamics:
    """How a state follows another: by ``clipped`` or logistic neurons, all ``together`` or one at a time; winners are
    drawn at the temperature ``heat``."""

    name: str
    clipped: bool = False
    together: bool = False
    heat: float = HEAT


DYNAMICS = (
    Dynamics("Gibbs"),
    Dynamics("together", together=True),
    Dynamics("clipped", clipped=True),
    Dynamics("clipped, together", clipped=True, together=True),
    Dynamics("spiking", clipped=True, together=True, heat=math.sqrt(DIM)),
)


class Chain:
    """All states of a network of ``sizes`` (patterns N, hidden H, outputs C), S = N·2^{H+C} in number, and its loss
    against ``target`` (C,): the one-hot ``winner`` (S, N), the spikes ``hidden`` (S, H) and ``output`` (S, C)."""

    def __init__(self, sizes: tuple[int, int, int], target: Tensor) -> None:
        patterns, hidden, outputs = sizes
        self.target, values = target, [patterns, *[2] * (hidden + outputs)]
        self.states = torch.cartesian_prod(*(torch.arange(n) for n in values))
        self.values = values
        self.strides = [math.prod(values[place + 1 :]) for place in range(len(values))]
        self.winner = torch.nn.functional.one_hot(self.states[:, 0], patterns).double()
        self.hidden, self.output = self.states[:, 1:].double().split([hidden, outputs], 1)
        self.loss = 0.5 * (target - self.output).square().sum(1)

    def chances(self, how: Dynamics, theta: Parameters, beta: float) -> list[Tensor]:
        """For each unit the probability of each of its values, (S, values), given the state of the others."""
        found = self.winner @ theta["X"]
        query = theta["q"] + self.hidden @ theta["w2"]
        into_hidden = found @ theta["w2"].T + self.output @ theta["w3"] + theta["b2"]
        into_output = self.hidden @ theta["w3"].T + theta["b3"] + beta * (self.target - 0.5)
        u = torch.cat([into_hidden, into_output], 1)
        fires = sigma(u) if how.clipped else ((u - 1) / HEAT).sigmoid()
        won = (query @ theta["X"].T / how.heat).softmax(1)
        return [won, *(torch.stack([1 - p, p], 1) for p in fires.unbind(1))]

    def transitions(self, how: Dynamics, theta: Parameters, beta: float) -> Tensor:
        """P (S, S), from row to column."""
        chances = self.chances(how, theta, beta)
        if how.together:
            return torch.stack([p[:, self.states[:, unit]] for unit, p in enumerate(chances)]).prod(0)
        here, found = torch.arange(len(self.states)), torch.zeros(len(self.states), len(self.states)).double()
        for unit, p in enumerate(chances):
            for value in range(self.values[unit]):
                there = here + (value - self.states[:, unit]) * self.strides[unit]
                found = found.index_put((here, there), p[:, value] / len(chances), accumulate=True)
        return found

    def stationary(self, how: Dynamics, theta: Parameters, beta: float) -> Tensor:
        """π (S,) with πP = π."""
        moves = self.transitions(how, theta, beta)
        one = torch.ones(len(moves)).double()
        return torch.linalg.solve(moves.T - torch.eye(len(moves)) + 1.0, one)

    def phi(self, theta: Parameters, winner: Tensor, hidden: Tensor, output: Tensor) -> Tensor:
        """φ of states (…, N), (…, H), (…, C)."""
        found = winner @ theta["X"]
        above = hidden @ theta["b2"] + output @ theta["b3"] + (output * (hidden @ theta["w3"].T)).sum(-1)
        return (found * (theta["q"] + hidden @ theta["w2"])).sum(-1) + above

    def held(self, pi: Tensor, theta: Parameters, rates: bool) -> list[Tensor]:
        """What synapses hold, ⟨∂φ/∂θ⟩ by parameter; with ``rates`` of mean rates in place of spikes."""
        pi = pi.detach()
        states = (self.winner, self.hidden, self.output)
        phi = self.phi(theta, *(pi @ s for s in states)) if rates else pi @ self.phi(theta, *states)
        return list(torch.autograd.grad(phi, list(theta.values())))

    def contrast(self, how: Dynamics, theta: Parameters, beta: float, rates: bool) -> Tensor:
        """Of two nudges ±β, over 2β, all parameters in a row."""
        plus, minus = (self.held(self.stationary(how, theta, b), theta, rates) for b in (beta, -beta))
        return flat([(a - b) / (2 * beta) for a, b in zip(plus, minus, strict=True)])

    def descent(self, how: Dynamics, theta: Parameters, beta: float) -> Tensor:
        """−∂C_β/∂θ, and for β = 0 −∂⟨L⟩/∂θ, all parameters in a row."""
        nodes, weights = np.polynomial.legendre.leggauss(NODES if beta else 1)
        mean = torch.zeros(()).double()
        for node, weight in zip(nodes, weights, strict=True):
            mean = mean + 0.5 * weight * (self.stationary(how, theta, beta * node) @ self.loss)
        return -flat(torch.autograd.grad(mean, list(theta.values())))

    def currents(self, how: Dynamics, theta: Parameters) -> float:
        """The share of moving probability that flows in circles."""
        flow = self.stationary(how, theta, 0.0).unsqueeze(1) * self.transitions(how, theta, 0.0)
        moving = (flow.sum() - flow.diagonal().sum()).detach()
        return float(0.5 * (flow - flow.T).detach().abs().sum() / moving)


def flat(parts: Any) -> Tensor:
    """All of ``parts`` in a row."""
    return torch.cat([part.flatten() for part in parts])


def drawn(sizes: tuple[int, int, int], seed: int) -> tuple[Chain, Parameters]:
    """A network whose neurons are in the middle of σ on average, and its states."""
    patterns, hidden, outputs = sizes
    random = torch.Generator().manual_seed(seed)

    def uniform(*size: int, width: float) -> Tensor:
        return (width * (2 * torch.rand(*size, generator=random, dtype=torch.float64) - 1)).requires_grad_()

    theta = {
        "q": uniform(DIM, width=0.5),
        "X": uniform(patterns, DIM, width=1.0),
        "w2": uniform(hidden, DIM, width=1 / math.sqrt(DIM)),
        "b2": (1 + uniform(hidden, width=0.3)).detach().requires_grad_(),
        "w3": uniform(outputs, hidden, width=1 / math.sqrt(hidden)),
        "b3": (0.8 + uniform(outputs, width=0.2)).detach().requires_grad_(),
    }
    return Chain(sizes, torch.eye(outputs).double()[seed % outputs]), theta


def cosine(one: Tensor, other: Tensor) -> float:
    """Between two vectors."""
    return float(torch.nn.functional.cosine_similarity(one.detach(), other.detach(), 0))


def main(json_file: JsonFile) -> None:
    """Compute all of it.

    Args:
        json_file: Where the figures go.
    """
    rows: list[dict[str, Any]] = []
    for kind, sizes in SIZES.items():
        for how in DYNAMICS if kind == "winners" else DYNAMICS[:-1]:
            for seed in range(NETWORKS):
                chain, theta = drawn(sizes, seed)
                loss, currents = chain.descent(how, theta, 0.0), chain.currents(how, theta)
                for beta in BETAS:
                    contrasts = {on: chain.contrast(how, theta, beta, on == "rates") for on in ("spikes", "rates")}
                    objective = chain.descent(how, theta, beta)
                    about = {"kind": kind, "dynamics": how.name, "network": seed, "beta": beta, "currents": currents}
                    found = {f"{on}_to_free_energy": cosine(made, objective) for on, made in contrasts.items()}
                    found |= {f"{on}_to_loss": cosine(made, loss) for on, made in contrasts.items()}
                    rows.append({**about, **found})
    write_json(json_file, {"format": FORMAT, "command": command(), "environment": environment(), "rows": rows})
    for kind in SIZES:
        for how in DYNAMICS:
            mine = [row for row in rows if (row["kind"], row["dynamics"]) == (kind, how.name)]
            for beta in BETAS:
                at = [row for row in mine if row["beta"] == beta]
                keys = ("spikes_to_free_energy", "rates_to_free_energy", "spikes_to_loss", "rates_to_loss", "currents")
                if at:
                    means = " ".join(f"{key} {np.mean([row[key] for row in at]):.5f}" for key in keys)
                    Reporter().out.print(kind, how.name, beta, means)


if __name__ == "__main__":
    tyro.cli(main)
