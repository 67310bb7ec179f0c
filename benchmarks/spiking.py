"""How fast the spiking backends train: against stepping every synapse, against Brian2, against dense EP.

python -m benchmarks.spiking --preset paper-small --json results/spiking.json

**Step loop.** The same network as a plain snnTorch program: every product is dense and made anew at each time step,
w₂ s¹ and w₂ᵀ r² too, the free phase and the two nudges run one after the other. Clocking is the backend's: spikes
arrive one step later, and HopAttn's output and the low-passed spikes r² that its query reads change every
``tick_steps`` steps only. The neuron is snnTorch's ``Leaky`` with beta 1 and threshold 1, v ← v + u/2, z = 1[v > 1].
Its own reset by subtraction comes at the start of the next step, (v + u/2) − z, ours at the end of the same one,
(v − z) + u/2: equal but for rounding. So that every spike is the same, Leaky's own reset is off and the loop
subtracts and holds the membrane in [``low``, ``high``] itself, which Leaky does not do. HopAttn is computed by the
backend's functions. That spikes are the same is checked in float64 before anything is timed in fp32, where sums taken
in another order may move a spike: how many neurons have another count then is among the figures.

**Brian2.** One text over a free phase in Brian's C++ standalone mode, in which HopAttn cannot be computed; seconds are
those that Brian reports of the simulation alone. *above_s1*: the layers above s¹ under a constant current. Ours are of
the same layers and currents: HopAttn of one stored pattern is that pattern, so that a text of one token, with w₂ the
identity, is a constant current. *all*: s¹ is held at a constant value and w₂ is there as synapses, which deliver s¹
every ``tick_steps`` steps and every spike of s² back; ours are of the whole network, HopAttn included. Brian's spike
counts are checked against ours.

**Dense EP.** Training batches as the preset has them, Adam, word dropout and counting included, with learning rates of
0 so that all see one network: that at initialisation, or with ``--run`` also those of finished runs. With ``--epoch``
also the whole first epoch, or the first ``--epochs``, in which each learns: the ratios are of all seconds, and with
``median`` those of a batch. Networks with pooling queries are timed over epochs only, as patterns have a rate of their
own: ``--preset imdb --no-brian2 --no-step-loop --repeats 0``.
"""

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import snntorch
import torch
import tyro
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.measure import JsonFile, alternately, command, medians
from eqspike.build import config_of, configure, make_backend, varied
from eqspike_seq.config.settings import FORMAT, RunConfig
from eqspike_seq.data.batches import random_batch
from eqspike_seq.data.dataset import Dataset, load_dataset, shape_of
from eqspike_seq.errors import RunError
from eqspike_seq.files import write_json
from eqspike_seq.learning.estimators import make_estimator
from eqspike_seq.learning.precision import settled
from eqspike_seq.learning.trainer import Trainer
from eqspike_seq.learning.training import with_precision
from eqspike_seq.memory import keep_freed_memory
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network, Shape
from eqspike_seq.model.projection import Layer
from eqspike_seq.progress import Reporter
from eqspike_seq.relaxation.dense import DenseBackend
from eqspike_seq.runs.environment import environment
from neuromorphic.attention.clocked import ClockedProjection, SoftmaxAnchor, Tick
from neuromorphic.brian import connect, stack
from neuromorphic.change_code import SigmaDeltaBackend
from neuromorphic.neurons import IntegrateAndFire, Noise
from neuromorphic.rate_code import SpikingBackend

Counts = list[Tensor]  # spikes of s², s³, … over a phase, each (B, Hᵢ)
NOTHING: dict[str, Tensor | None] = {"projection": None, "current": None}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "dense": ("dense", {}),
    "if, count": ("spiking", {"neuron": "if", "rule": "count"}),
    "if, as in the preset": ("spiking", {"neuron": "if"}),
    "sigma-delta": ("spiking", {"neuron": "sigma-delta"}),
}
RATIOS = {
    "if, count": "if_to_dense",
    "if, as in the preset": "if_preset_to_dense",
    "sigma-delta": "sigma_delta_to_dense",
}


class StepLoop:
    """Free phase, +β, −β of an integrate-and-fire network, stepped as described above."""

    def __init__(self, backend: SpikingBackend, network: Network, batch: Batch) -> None:
        assert isinstance(backend.neuron, IntegrateAndFire)
        self.backend, self.network, self.neuron = backend, network, backend.neuron
        self.batch, self.layer = batch, Layer.of(network, batch, backend.dtype)
        self.leaky = snntorch.Leaky(beta=1.0, threshold=1.0, reset_mechanism="none").to(network.dtype)
        layers = [layer.unsqueeze(1) for layer in network.rest(len(batch)).layers]
        self.v = [torch.full_like(layer, self.neuron.start) for layer in layers]
        self.z = [torch.zeros_like(layer) for layer in layers]
        self.feedback, self.output = layers[0].clone(), layers[-1].clone()

    def run(self, beta: float) -> list[Counts]:
        """Spike counts of the three phases."""
        noise, layer = Noise(0, False), self.layer
        projection = ClockedProjection(layer, self.batch, Tick(self.backend.tick_steps, self.neuron, noise))
        counts = [self._phase(self.backend.free_steps, layer.down, projection.free, layer.up)]
        start = self.v, self.z, self.feedback, self.output
        for strength in (beta, -beta):
            self.v, self.z, self.feedback, self.output = start
            trace0 = self.feedback
            anchor = projection.anchor(trace0[:, 0], projection.s1[:, 0], 1, noise)
            assert isinstance(anchor, SoftmaxAnchor)

            def query(trace: Tensor, trace0: Tensor = trace0) -> Tensor:
                return layer.down(trace - trace0)

            def forward(delta: Tensor, current0: Tensor = anchor.current0) -> Tensor:
                return current0 + layer.up(delta)

            counts.append(self._phase(self.backend.nudge_steps, query, anchor.change, forward, strength))
        return counts

    def _phase(
        self,
        steps: int,
        query: Callable[[Tensor], Tensor],
        hopattn: Callable[[Tensor], Tensor],
        forward: Callable[[Tensor], Tensor],
        strength: float = 0.0,
    ) -> Counts:
        weights, biases, every = self.network.weights, self.network.biases, self.backend.tick_steps
        low_pass = 1 - math.exp(-every / self.backend.feedback_tau)
        counts, last = [torch.zeros_like(z) for z in self.z], len(weights) - 1
        target, sent, s1 = self.layer.inputs.target.unsqueeze(1), torch.zeros_like(self.z[0]), None
        for step in range(steps):
            query(self.feedback)  # w₂ᵀ r², at every step
            if step % every == 0:
                s1 = hopattn(self.feedback)
            assert s1 is not None
            current, fired, membranes = forward(s1), [], []  # w₂ s¹, at every step
            for index in range(last + 1):
                below = current if index == 0 else self.z[index - 1] @ weights[index].T
                u = below + biases[index]
                if index < last:
                    u = u + self.z[index + 1] @ weights[index + 1]
                elif strength:
                    u = u + strength * (target - self.output)
                spikes, v = self.leaky(0.5 * u, self.v[index])
                spikes = spikes.to(v.dtype)  # Leaky gives float32
                membranes.append((v - spikes).clamp(self.neuron.low, self.neuron.high))
                counts[index] = counts[index] + spikes
                fired.append(spikes)
            self.v, self.z = membranes, fired
            self.output = self.output + (fired[-1] - self.output) / self.backend.output_tau
            if (step + 1) % every == 0:
                self.feedback = self.feedback + low_pass * ((counts[0] - sent) / every - self.feedback)
                sent = counts[0]
        return [count[:, 0] for count in counts]


def different_counts(backend: SpikingBackend, network: Network, batch: Batch, beta: float) -> float:
    """Share of all neurons, texts and phases in which the spike counts of step loop and backend differ."""
    loop = StepLoop(backend, network, batch).run(beta)
    free = backend.free(network, batch, record=True)
    phases = [free, *backend.nudge(network, batch, free, (beta, -beta), record=True)]
    differing, compared = 0, 0
    for counts, phase in zip(loop, phases, strict=True):
        for index, count in enumerate(counts, start=2):
            differing += int((phase.trace[f"spikes_s{index}"].sum(0) != count).sum())
            compared += count.numel()
    return differing / compared


def against_step_loop(config: RunConfig, network: Network, batch: Batch, repeats: int) -> dict[str, Any]:
    """Seconds of a training batch (phases and gradients) of the step loop and of the backend."""
    chosen = settled(config, network.shape, batch).run.precision
    like, own = (make_backend(varied(config, precision=name)) for name in ("float32", chosen))
    assert isinstance(like, SpikingBackend)
    wide, texts = network.to(torch.float64), replace(batch, x=batch.x.double())
    exact = different_counts(replace(like, dtype=torch.float64), wide, texts, config.learning.beta)
    if exact:
        raise RunError(f"the step loop is not the same network: {exact:.2%} of all spike counts differ")
    estimator = make_estimator(config.learning)
    seconds = alternately(
        {
            "backend_fp32": lambda: estimator(like, network, batch),
            "backend": lambda: estimator(own, network, batch),
        },
        repeats,
    )
    seconds |= alternately(
        {"step_loop_fp32": lambda: StepLoop(like, network, batch).run(config.learning.beta)}, 1, warm=0
    )
    found = medians(seconds)
    return {
        "seconds": seconds,
        "product_dtype": str(own.dtype),
        "different_counts": {"float64": exact, "float32": different_counts(like, network, batch, config.learning.beta)},
        "ratio_to_step_loop": found["step_loop_fp32"] / found["backend_fp32"],
        "ratio_to_step_loop_in_the_precision_of_the_preset": found["step_loop_fp32"] / found["backend"],
    }


def current_network(network: Network, current: Tensor) -> tuple[Network, Batch]:
    """The layers above s¹ of ``network`` under ``current`` (B, H₂), as a network of one token; see the head."""
    count, size = current.shape
    shape = Shape(1, size, network.shape.hidden, network.shape.classes)
    weights = [torch.eye(size).to(current), *(w.to(current) for w in network.weights[1:])]
    made = Network(shape, torch.zeros(1, size, size).to(current), weights, [b.to(current) for b in network.biases])
    mask = torch.ones(count, 1, 1, dtype=torch.bool)
    return made, Batch(current.view(count, 1, 1, size), mask, torch.zeros(count, dtype=torch.int64))


def brian(
    network: Network, steps: int, tick_steps: int, repeats: int, projection: Tensor | None, current: Tensor | None
) -> dict[str, Any]:
    """Seconds of Brian's C++ for one text under ``current`` (H₂,) or, by way of w₂, s¹ = ``projection`` (P·N·D,).

    Both in float64; also the spike counts of each layer.
    """
    import brian2 as b2

    weights, biases = ([t.double().numpy() for t in tensors] for tensors in (network.weights, network.biases))
    place = tempfile.TemporaryDirectory()
    folder = place.name
    b2.set_device("cpp_standalone", directory=folder, build_on_run=False)
    try:
        clock = b2.Clock(dt=1 * b2.ms)
        groups, monitors = stack(b2, clock, biases, 1)
        made = [*groups, *monitors, *connect(b2, clock, groups, weights, 1)]
        if current is not None:
            groups[0].constant_current = biases[0] + current.numpy()
        if projection is not None:  # one unit more, always 1, carries the biases
            first = b2.NeuronGroup(len(projection) + 1, "s : 1\nquery : 1", clock=clock)
            first.s = np.append(projection.numpy(), 1.0)
            by_source = np.vstack([weights[0].T, biases[0]])
            model = "w : 1\nconstant_current_post = w * s_pre : 1 (summed)"
            up = b2.Synapses(first, groups[0], model, clock=b2.Clock(dt=tick_steps * b2.ms))
            up.connect()
            up.w = by_source.ravel()
            down = b2.Synapses(groups[0], first, "w : 1", on_pre="query_post += w", clock=clock)
            down.connect()
            down.w = by_source.T.ravel()
            made += [first, up, down]
        b2.Network(*made).run(steps * b2.ms, namespace={})
        started = time.perf_counter()
        b2.device.build(directory=folder, compile=True, run=False)
        compiling, simulating, whole = time.perf_counter() - started, [], []
        for _ in range(repeats):
            started = time.perf_counter()
            b2.device.run(folder, with_output=False)
            whole.append(time.perf_counter() - started)
            simulating.append(float(b2.device._last_run_time))
        spikes = [np.bincount(np.asarray(m.i), minlength=len(b)) for m, b in zip(monitors, biases, strict=True)]
    finally:
        b2.device.reinit()
        b2.set_device("runtime")
        place.cleanup()
    return {"compiling": compiling, "simulating": simulating, "whole_program": whole, "spikes": spikes}


def against_brian(config: RunConfig, network: Network, batch: Batch, repeats: int) -> dict[str, Any]:
    """Seconds a sample over a free phase: without s¹ on either side, and with it; see the head."""
    backend = make_backend(config)
    assert isinstance(backend, SpikingBackend)
    projection = backend.free(network, batch).rates.projection.flatten(1).double()
    currents = projection @ network.weights[0].double().T
    exact, some = current_network(network, currents[:1])
    expected = replace(backend, dtype=torch.float64).free(exact, some, record=True)
    single, texts = current_network(network, currents.float())
    tasks: dict[str, Any] = {
        "above_s1": lambda: backend.free(single, texts),
        "all": lambda: backend.free(network, batch),
    }
    seconds = alternately(tasks, repeats)
    found: dict[str, Any] = {"texts": len(batch), "backend_seconds_a_batch": seconds}
    for name, given in (("above_s1", {"current": currents[0]}), ("all", {"projection": projection[0]})):
        theirs = brian(network, backend.free_steps, backend.tick_steps, repeats, **{**NOTHING, **given})
        for index, spikes in enumerate(theirs.pop("spikes"), start=2):
            if not np.array_equal(spikes, expected.trace[f"spikes_s{index}"].sum(0)[0].numpy()):
                raise RunError(f"Brian2 is not the same network: spike counts of s{index} differ")
        mine = float(np.median(seconds[name])) / len(batch)
        found[name] = {
            "seconds": theirs,
            "backend_seconds_a_sample": mine,
            "ratio": float(np.median(theirs["simulating"])) / mine,
            "ratio_with_its_start": float(np.median(theirs["whole_program"])) / mine,
        }
    return {**found, "ratio_to_brian2": found["all"]["ratio"], "ratio_to_brian2_above_s1": found["above_s1"]["ratio"]}


def trainer_of(name: str, data: Dataset, preset: str, seed: int) -> Trainer:
    """One of ``KINDS``, at initialisation."""
    backend, settings = KINDS[name]
    config = with_precision(configure("imdb", backend, preset, seed=seed, **settings), data)
    return Trainer(config, data, make_backend(config))


def against_dense(data: Dataset, preset: str, weights: dict[str, Path], seed: int, repeats: int) -> dict[str, Any]:
    """Seconds of training batches; ``weights`` by the name of the kind (none: at initialisation)."""
    trainers = {name: trainer_of(name, data, preset, seed) for name in weights or KINDS}
    for name, trainer in trainers.items():
        trainer.rates = dict.fromkeys(trainer.rates, 0.0)
        for parameter, tensor in load_file(weights[name]).items() if weights else ():
            trainer.parameters[parameter].copy_(tensor)
    seconds = alternately({name: trainer.train_batch for name, trainer in trainers.items()}, repeats)
    ratios = {
        RATIOS[name]: float(np.median(np.divide(seconds[name], seconds["dense"])))
        for name in trainers
        if name in RATIOS and "dense" in trainers
    }
    return {"seconds": seconds, "seconds_median": medians(seconds), **ratios}


def over_epochs(data: Dataset, preset: str, seed: int, epochs: int) -> dict[str, Any]:
    """Seconds of the first ``epochs``, the kinds a batch each in turn; each learns as it does in a run."""
    trainers = {name: trainer_of(name, data, preset, seed) for name in KINDS}
    batches = epochs * trainers["dense"].batches
    seconds = alternately({name: trainer.train_batch for name, trainer in trainers.items()}, batches, warm=0)
    tenths = {name: [float(part.sum()) for part in np.array_split(times, 10)] for name, times in seconds.items()}
    ratios = {RATIOS[name]: sum(tenths[name]) / sum(tenths["dense"]) for name in RATIOS}
    median = {RATIOS[name]: float(np.median(np.divide(seconds[name], seconds["dense"]))) for name in RATIOS}
    return {"batches": batches, "seconds_of_tenths": tenths, **ratios, "median": median}


def kinds_of(run: Path) -> list[str]:
    """Which of ``KINDS`` a run folder has the weights for."""
    backend = config_of(run).backend
    if isinstance(backend, DenseBackend):
        return ["dense"]
    return ["sigma-delta"] if isinstance(backend, SigmaDeltaBackend) else ["if, count", "if, as in the preset"]


@torch.no_grad()
def main(
    json_file: JsonFile,
    preset: str = "paper-small",
    run: tuple[Path, ...] = (),
    epoch: bool = False,
    epochs: int = 1,
    texts: int | None = None,
    repeats: int = 5,
    seed: int = 0,
    brian2: bool = True,
    step_loop: bool = True,
) -> None:
    """Time all three on IMDB.

    Args:
        json_file: Where the figures go.
        preset: paper-small, paper, imdb or imdb-small.
        run: Finished run folders, whose weights are taken too.
        epoch: Time the first epoch too, minutes.
        epochs: How many of the first epochs that is.
        texts: Texts in a batch of the step loop and of Brian2's comparison; default: as in the preset.
        repeats: How often each is timed; the median counts.
        seed: Seed of weights and texts.
        brian2: Compile and time Brian2.
        step_loop: Time the step loop, minutes at full size.
    """
    keep_freed_memory()
    reporter = Reporter()
    config = configure("imdb", "spiking", preset, seed=seed, neuron="if", rule="count")
    data = load_dataset(config.data, reporter.status)
    shape, texts = shape_of(config, data), texts or config.learning.batch
    network = config.network.create(shape, seed)
    result: dict[str, Any] = {"format": FORMAT, "command": command(), "environment": environment()}
    result |= {"settings": config.computed(), "texts": texts, "repeats": repeats}

    def keep(name: str, found: dict[str, Any]) -> None:
        result[name] = found
        reporter.out.print(name, found)
        write_json(json_file, result)

    if repeats:
        keep("initial", against_dense(data, preset, {}, seed, repeats))
    if run:
        weights = {kind: path / "checkpoint" / "model.safetensors" for path in run for kind in kinds_of(path)}
        keep("trained", {"runs": [path.name for path in run], **against_dense(data, preset, weights, seed, repeats)})
    if epoch:
        keep("epoch", over_epochs(data, preset, seed, epochs))
    batch = random_batch(config, data, texts)
    if brian2:
        keep("brian2", against_brian(config, network, batch, repeats))
    if step_loop:
        keep("step_loop", against_step_loop(config, network, batch, repeats))


if __name__ == "__main__":
    tyro.cli(main)
