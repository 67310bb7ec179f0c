"""EP against BPTT: over time, step for step, and over β, both converged.

With g the gradient examined and r the reference, cosine = g·r/(‖g‖‖r‖) and relative RMSE = ‖g − r‖/‖r‖.

Over time: EP with nudges ±β, cut off after t = 1, 2, … steps, against BPTT through the last t steps: the
gradient-descending updates of Bal & Sengupta (2023), Eq. 5–6 and Fig. 2a (Ernoult et al. 2019). Synchronous updates,
float64, no early stop. Over β the error of three-phase EP falls as β², where no unit crosses a corner of σ.
"""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from eqspike_seq.learning.estimators import ThreePhase, losses
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network, Shape, State, above_s1
from eqspike_seq.model.projection import DenseProjection
from eqspike_seq.model.synapses import Gradients, RowProduct, local_update, plain
from eqspike_seq.model.token_layer import dense_layer
from eqspike_seq.relaxation.dense import DenseBackend, sweep
from eqspike_seq.runs.findings import Agreement, GradientCurves, NudgeSizes

CURVE_TEXTS = 16  # in float64
CURVE_STEPS, CURVE_BETA = 30, 0.01
FOLLOWED = 4  # single weights of each parameter whose updates over time are kept
BETAS = (0.1, 0.03, 0.01, 0.003, 0.001)
BACK = 300  # steps through which BPTT goes back, converged
SETTLED = DenseBackend(free_steps=2000, nudge_steps=2000, tolerance=1e-12, dtype=torch.float64)


def compare(found: Gradients, truth: Gradients) -> list[Agreement]:
    """How well each parameter's gradient agrees; cosine and error are None where the reference is zero."""
    agreements, found, truth = [], plain(found), plain(truth)
    for name, value in truth.items():
        g, r = found[name].double().flatten(), value.double().flatten()
        cosine, error = None, None
        if bool(r.any()):
            cosine, error = float(F.cosine_similarity(g, r, 0)), float((g - r).norm() / r.norm())
        agreements.append(Agreement(parameter=name, cosine=cosine, relative_rmse=error))
    return agreements


def ep_course(projection: DenseProjection, batch: Batch, free: State, beta: float, steps: int) -> list[Gradients]:
    """−Δθ of Eq. 18 as it stands after 1, 2, … steps of both nudges, synchronous."""

    def swept(state: State, beta: float) -> State:
        after = sweep(projection, state, beta, order="synchronous")
        asked = after if projection.network.shape.compared else state  # else s¹ is a state, found by what was before
        return replace(after, recall=projection.recall(asked))

    plus, minus, course = free, free, []
    for _ in range(steps):
        plus, minus = swept(plus, beta), swept(minus, -beta)
        difference, mean = plus - minus, 0.5 * (plus + minus)
        course.append(local_update(projection.network, batch, difference, mean, scale=1 / (2 * beta)))
    return course


def bptt_course(network: Network, batch: Batch, free: State, steps: int) -> list[Gradients]:
    """−dL/dθ through the last 1, 2, … steps before the fixed point ``free``, each a synchronous sweep.

    At a fixed point all steps have the same Jacobians, so one recorded sweep is pulled back through again and again.
    """
    held, learnt = network.shape.clamped, network.shape.learnt  # held: s¹ is the input and no state
    names, values = zip(*network.named(), *([("X", batch.stored)] if learnt else []), strict=True)
    parameters = [value.detach().clone().requires_grad_() for value in values]
    traced = Network.of(network.shape, dict(zip(names, parameters, strict=True)))
    state = [layer.detach().clone().requires_grad_() for layer in (*(() if held else (free.projection,)), *free.layers)]
    with torch.enable_grad():
        seen = batch.holding(parameters[-1]) if learnt else batch
        projection = dense_layer(traced, seen, network.dtype)
        before = State(free.projection, tuple(state)) if held else State(state[0], tuple(state[1:]))
        after = sweep(projection, before, order="synchronous")
    outputs = [*(() if held else (after.projection,)), *after.layers]
    pulled = [torch.zeros_like(layer) for layer in outputs]
    pulled[-1] = torch.func.grad(lambda output: losses(network.shape, output, batch.labels).mean())(free.output)
    total = [torch.zeros_like(parameter) for parameter in parameters]
    course = []
    for _ in range(steps):
        found = torch.autograd.grad(
            outputs, [*state, *parameters], pulled, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        pulled = list(found[: len(state)])
        total = [sum_ + step for sum_, step in zip(total, found[len(state) :], strict=True)]
        gradients = dict(zip(names, total, strict=True))
        if learnt and batch.ids is not None:
            gradients["X"] = RowProduct.of(batch.ids.flatten(), gradients["X"].flatten(0, -2)).whole()
        course.append(gradients)
    return course


def against_bptt(
    network: Network, batch: Batch, beta: float, steps: int
) -> tuple[list[Agreement], dict[str, GradientCurves]]:
    """(agreement after ``steps`` steps, curves over time of every parameter) of EP and BPTT."""
    network = network.to(torch.float64)
    few = batch.take(slice(CURVE_TEXTS), batch.mask.shape[2]).to(torch.float64)
    backend = DenseBackend(free_steps=1000, tolerance=1e-13, dtype=torch.float64)
    free = backend.free(network, few).rates
    ep = ep_course(dense_layer(network, few, torch.float64), few, free, beta, steps)
    bptt = bptt_course(network, few, free, steps)
    by_step = [{r.parameter: r for r in compare(e, b)} for e, b in zip(ep, bptt, strict=True)]
    rng = np.random.default_rng(0)
    curves = {}
    ep, bptt = [plain(e) for e in ep], [plain(b) for b in bptt]
    for name, value in bptt[-1].items():
        largest = value.abs().flatten().topk(min(100, value.numel())).indices.numpy()
        followed = rng.choice(largest, min(FOLLOWED, len(largest)), replace=False)
        curves[name] = GradientCurves(
            cosine=[agreements[name].cosine for agreements in by_step],
            relative_rmse=[agreements[name].relative_rmse for agreements in by_step],
            followed=followed.tolist(),
            ep=[e[name].flatten()[followed].tolist() for e in ep],
            bptt=[b[name].flatten()[followed].tolist() for b in bptt],
        )
    return list(by_step[-1].values()), curves


def over_betas(network: Network, batch: Batch) -> NudgeSizes:
    """Three-phase EP at ``BETAS`` and BPTT from the same fixed point, of the first texts in which no unit crosses."""
    network = network.to(torch.float64)
    few = batch.take(slice(CURVE_TEXTS), batch.mask.shape[2]).to(torch.float64)
    crossing = [crosses(network, few, beta) for beta in BETAS]
    kept = few.take(~crossing[0], few.mask.shape[2])
    cosine: dict[str, list[float | None]] = {}
    error: dict[str, list[float | None]] = {}
    if len(kept):
        free = SETTLED.free(network, kept).rates
        truth = bptt_course(network, kept, free, BACK)[-1]
        for beta in BETAS:
            for found in compare(ThreePhase(beta)(SETTLED, network, kept).gradients, truth):
                cosine.setdefault(found.parameter, []).append(found.cosine)
                error.setdefault(found.parameter, []).append(found.relative_rmse)
    shares = [float(each.double().mean()) for each in crossing]
    return NudgeSizes(betas=list(BETAS), crossing=shares, texts=len(kept), cosine=cosine, relative_rmse=error)


def crosses(network: Network, batch: Batch, beta: float) -> Tensor:
    """Whether any unit above s¹ is on one side of a corner of σ, 0 or 1, at +β and on the other at −β, (B,)."""
    free = SETTLED.free(network, batch)
    plus, minus = (end.rates for end in SETTLED.nudge(network, batch, free, (beta, -beta)))
    found = torch.zeros(len(batch), dtype=torch.bool)
    pairs = list(zip(regions(network.shape, plus), regions(network.shape, minus), strict=True))
    for one, other in pairs[: len(pairs) - network.shape.softmax]:
        found |= (one != other).flatten(1).any(1)
    return found


def regions(shape: Shape, state: State) -> list[Tensor]:
    """−1 for units above s¹ at 0, 1 for those at 1, else 0."""
    return [(layer >= 1).int() - (layer <= 0).int() for layer in above_s1(shape, state)]
