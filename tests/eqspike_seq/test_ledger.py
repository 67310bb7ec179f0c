"""The ledger against counts by hand, spike by spike."""

import json

import pytest
import torch

from eqspike_seq.errors import RunError
from eqspike_seq.learning.cost import update_ledger
from eqspike_seq.ledger import KINDS, Ledger
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network, Shape
from eqspike_seq.phases import RELAXED, Phase
from eqspike_seq.relaxation.dense import DenseBackend
from neuromorphic.activity import woken
from neuromorphic.attention.gated import Gated
from neuromorphic.attention.winners import GatedWinners
from neuromorphic.change_code import SigmaDeltaBackend
from neuromorphic.plasticity import EqSpike
from neuromorphic.rate_code import SpikingBackend
from tests.conftest import make_batch, make_network

THREE = Shape(1, 1, (1,), 1, projections=(), attention=False)  # a pixel, a hidden neuron, an output


def three_neurons() -> tuple[Network, Batch]:
    network = Network.create(THREE, torch.Generator().manual_seed(0))
    network.weights[0].fill_(1.3)
    network.weights[1].fill_(0.9)
    return network, Batch(torch.full((1, 1, 1, 1), 0.7), torch.ones(1, 1, 1, dtype=torch.bool), torch.zeros(1).long())


def counts(ledger: Ledger, layer: str, phase: str = "free") -> dict[str, int]:
    """The kinds that are not 0."""
    return {kind: value for kind, value in ledger.counts[layer][phase].items() if value}


@pytest.mark.parametrize("rule", ["membrane", "eqspike"])
def test_three_neurons_spike_by_spike(rule: str) -> None:
    network, batch = three_neurons()
    steps = 20
    learning = {"rule": EqSpike()} if rule == "eqspike" else {}
    backend = SpikingBackend(steps, steps, 10, 5, **learning)
    free = backend.free(network, batch, record=True)
    (nudge,) = backend.nudge(network, batch, free, (0.5,), record=True)
    for found, phase in ((free, "free"), (nudge, "nudge+")):
        ledger = found.ledger
        pixel = ledger.counts["s1"][phase]["spikes"]
        assert pixel == pytest.approx(0.7 * steps, abs=1)
        hidden, output = (int(found.trace[f"spikes_{name}"].sum()) for name in ("s2", "s3"))
        assert hidden > 0 and output > 0
        words, learns = (2, True) if rule == "eqspike" and phase == "nudge+" else (1, False)
        # a spike of each goes to one neuron; that of the output down to the hidden one, that of the hidden one only up
        for layer, spikes, updates in (("s1", pixel, steps), ("s2", hidden, steps), ("s3", output, steps)):
            expected = {
                "spikes": spikes,
                "synaptic_events": spikes,
                "accumulates": spikes,
                "neuron_updates": updates,
                "state_reads": spikes + words * updates,
                "state_writes": spikes + words * updates,
                "weight_reads": spikes,
            }
            if learns:  # the hidden neuron's spikes also reach the synapse below, from the pixel
                learnt = 2 * spikes if layer == "s2" else spikes
                expected |= dict.fromkeys(("multiply_accumulates", "plasticity_reads", "plasticity_writes"), learnt)
            assert counts(ledger, layer, phase) == expected, (layer, phase)
    assert counts(free.ledger, "input") == {"io_bytes": 2, "state_writes": 1}
    assert free.ledger.steps == {"free": steps} and free.ledger.samples == {"free": 1}
    assert free.ledger.synapses == {"w2": 1, "w3": 2}


def test_a_phase_has_one_name_in_code_and_files() -> None:
    assert [Phase.of(beta) for beta in (0.1, -0.1)] == ["nudge+", "nudge-"] == list(RELAXED[1:])
    assert json.loads(json.dumps({Phase.PLUS: 1})) == {"nudge+": 1} and f"{Phase.MINUS}_outputs" == "nudge-_outputs"


def test_three_neurons_that_send_changes() -> None:
    network, batch = three_neurons()
    found = SigmaDeltaBackend(free_steps=12, threshold=(0.25,), projection_threshold=0.25).free(
        network, batch, record=True
    )
    sent = [
        found.trace["spikes_s1"][:, 0],
        *(found.trace[f"spikes_{name}"][:, 0].abs().sum(1) for name in ("s2", "s3")),
    ]
    assert int(sent[0].sum()) == 3  # 0.7 in quarters
    taken = 1 + max(step + 1 for step in range(len(sent[0])) if any(int(layer[step]) for layer in sent))
    taken = min(taken, len(sent[0]))
    awake_output = sum(step == 0 or bool(sent[1][step - 1]) for step in range(taken))
    awake_hidden = sum(step == 0 or bool(sent[0][step]) or bool(sent[2][step]) for step in range(taken))
    for layer, spikes, awake in (
        ("s1", 3, 1),
        ("s2", int(sent[1].sum()), awake_hidden),
        ("s3", int(sent[2].sum()), awake_output),
    ):
        row = found.ledger.counts[layer]["free"]
        assert row["synaptic_events"] == row["weight_reads"] == row["accumulates"] == spikes
        assert (row["neuron_updates"], row["idle_updates"]) == (awake, taken - awake)
        assert row["state_reads"] == row["state_writes"] == spikes + 2 * awake
    assert found.ledger.steps == {"free": taken}


def test_neurons_wake_by_what_their_neighbours_send() -> None:
    """Hidden s² hears s¹ and s³ in the same step, s³ hears s² and s⁴ of the step before."""
    sent = [torch.tensor(row).unsqueeze(1) for row in ([5, 0, 0, 0], [0, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0])]
    awake = woken(sent, torch.tensor([4]))
    assert [int(n) for n in awake] == [2, 2, 2]  # s²: steps 0, 2; s³: steps 0, 2; s⁴: steps 0, 2
    assert [int(n) for n in woken(sent, torch.tensor([2]))] == [
        1,
        1,
        1,
    ]  # not what comes after the end


def test_dense_sweeps_of_one_text() -> None:
    """2 real tokens of 3, D = 2, 3-2 units above; every figure by hand."""
    network = Network.create(Shape(3, 2, (3,), 2), torch.Generator().manual_seed(3))
    x = torch.randn(1, 1, 3, 2, generator=torch.Generator().manual_seed(4))
    x[0, 0, 2] = 0
    batch = Batch(x, torch.tensor([[[True, True, False]]]), torch.tensor([1]))
    found = DenseBackend(free_steps=7, tolerance=0.0).free(network, batch)
    taken = int(found.steps)
    assert counts(found.ledger, "input") == {"io_bytes": 4 * 2 + 1, "lookup_reads": 4}
    assert counts(found.ledger, "hopattn") == {
        "multiply_accumulates": taken * (2 * 2 * 2 + 2 * 2 * 2),
        "exponentials": taken * 4,
        "divisions": taken * 4,
        "pattern_reads": taken * 8,  # 2 patterns of 2 components, for the scores and to mix
        "pattern_writes": 4,
        "state_reads": taken * 4,
    }
    assert counts(found.ledger, "w1") == {
        "multiply_accumulates": 2 * 2 * 2,
        "weight_reads": 4,
        "state_reads": 4,
        "state_writes": 4,
    }
    assert counts(found.ledger, "s1") == {"neuron_updates": taken * 4, "state_writes": taken * 4}
    assert counts(found.ledger, "s2") == {
        "multiply_accumulates": taken * 2 * 4 * 3,
        "weight_reads": taken * 2 * 4 * 3,
        "neuron_updates": taken * 3 * 3,  # three rounds above s1 for each look at it
        "state_reads": taken * (4 + 3 * 3),
        "state_writes": taken * 3 * 3,
    }
    assert counts(found.ledger, "s3") == {
        "multiply_accumulates": taken * 3 * 2 * 3 * 2,
        "weight_reads": taken * 3 * 2 * 3 * 2,
        "neuron_updates": taken * 3 * 2,
        "state_reads": taken * 3 * (3 + 2),
        "state_writes": taken * 3 * 2,
    }
    plus, minus = DenseBackend(free_steps=7, nudge_steps=5, tolerance=0.0).nudge(network, batch, found, (0.1, -0.1))
    assert int(plus.steps) == int(minus.steps)
    still = 1  # in the first sweep only what is above s1 has anything to do
    swept = int(plus.steps) + 1  # the sweep from which both nudges start is counted once
    assert counts(minus.ledger, "s1", "nudge-")["neuron_updates"] == (swept - 1 - still) * 4
    for nudge in (plus, minus):
        assert int(nudge.events[-1]) == nudge.ledger.total("multiply_accumulates")
    assert counts(plus.ledger, "s1", "nudge+")["neuron_updates"] == (swept - still) * 4
    assert counts(plus.ledger, "hopattn", "nudge+")["exponentials"] == (swept - still) * 4
    assert counts(plus.ledger, "s2", "nudge+")["multiply_accumulates"] == (swept - still) * 2 * 4 * 3
    assert counts(plus.ledger, "s3", "nudge+")["multiply_accumulates"] == swept * 3 * 2 * 3 * 2


def test_a_weight_with_a_copy_and_a_pattern_stored_twice_are_two_synapses() -> None:
    """Q = 2, D = 2, 3-2 units, 5 patterns in all of which 4 differ: each copy of w₂, w₃ and X gathers for itself."""
    plain, exact, once = (
        Shape(2, 2, (3,), 2, pooling=True, learnt=True, feedback=rule)  # type: ignore[arg-type]
        for rule in ("plain", "exact", None)
    )
    mask = torch.tensor([[[True, True, False]], [[True, True, True]]])
    ours, sided, single = (update_ledger(shape, mask, Ledger(), None, patterns=4) for shape in (plain, exact, once))
    for name, pairs, biases in (("2", 2 * 4 * 3, 2 * 3), ("3", 2 * 3 * 2, 2 * 2)):
        both = {"multiply_accumulates": 2 * pairs, "plasticity_reads": pairs, "plasticity_writes": pairs}
        assert counts(ours, f"v{name}", "update") == both and f"v{name}" not in single.counts
        assert counts(sided, f"v{name}", "update") == {**both, "multiply_accumulates": pairs}
        for ledger, products in ((ours, 2 * pairs), (single, 2 * pairs), (sided, pairs)):
            found = counts(ledger, f"w{name}", "update")
            assert found["multiply_accumulates"] == products and found["plasticity_writes"] == pairs + biases
    seen, own = 2 * (2 * 2 + 2 * 3) * 2, (2 + 3) * 2
    for ledger, copies, products in ((single, 1, seen), (ours, 2, 2 * seen), (sided, 2, seen)):
        found = counts(ledger, "X", "update")
        assert found["plasticity_writes"] == copies * own and found["multiply_accumulates"] == products
    stepped = [update_ledger(shape, mask, Ledger(), "adam", patterns=4) for shape in (plain, once)]
    read = [
        {name: counts(each, name, "update")["optimiser_reads"] for name in each.counts if name != "input"}
        for each in stepped
    ]
    assert read[0] == {**read[1], "v2": 4 * 4 * 3, "v3": 4 * 3 * 2, "X": 2 * read[1]["X"]}
    loaded = [DenseBackend(1).free(*stored(shape)).ledger for shape in (plain, once)]
    assert counts(loaded[0], "input", "free")["lookup_reads"] == 2 * counts(loaded[1], "input", "free")["lookup_reads"]
    writes = [counts(each, "hopattn", "free")["pattern_writes"] for each in loaded]
    assert writes == [2 * 5 * 2, 5 * 2]


def stored(shape: Shape) -> tuple[Network, Batch]:
    """Two texts of 2 and 3 patterns, D = 2."""
    mask, x = torch.tensor([[[True, True, False]], [[True, True, True]]]), torch.ones(2, 1, 3, 2)
    return Network.create(shape, torch.Generator()), Batch(x, mask, torch.zeros(2).long(), values=x)


def test_what_an_update_takes() -> None:
    """Two texts of 2 and 3 tokens, D = 2, 3-2 units: contrasts per text, the optimiser once."""
    shape = Shape(3, 2, (3,), 2)
    mask = torch.tensor([[[True, True, False]], [[True, True, True]]])
    ledger = update_ledger(shape, mask, Ledger(), "adam")
    assert counts(ledger, "input", "update") == {"io_bytes": 2}
    assert counts(ledger, "w1", "update") == {
        "multiply_accumulates": (4 + 6) * 2 + 6 * 4,
        "divisions": 2 * 4,
        "plasticity_reads": 2 * 4,
        "plasticity_writes": 2 * 4,
        "optimiser_reads": 4 * 4,
        "optimiser_writes": 4 * 4,
    }
    weights2 = 6 * 3 + 3  # with biases
    assert counts(ledger, "w2", "update") == {
        "accumulates": 2 * 3,
        "multiply_accumulates": 2 * (4 + 6) * 3 + 6 * weights2,
        "divisions": 2 * weights2,
        "plasticity_reads": (4 + 6) * 3 + 2 * 3,
        "plasticity_writes": (4 + 6) * 3 + 2 * 3,
        "optimiser_reads": 4 * weights2,
        "optimiser_writes": 4 * weights2,
    }
    with_backpropagation = update_ledger(shape, mask, Ledger(), "sgd", bptt_steps=2).counts["w2"]["update"]
    assert with_backpropagation["multiply_accumulates"] == weights2  # SGD's; the sweeps are rows of their own
    unrolled = update_ledger(shape, mask, Ledger(), "sgd", bptt_steps=2).counts["s2"]["update"]
    swept = 2 * 2 * (4 + 6) * 3  # two sweeps, both directions
    assert unrolled["multiply_accumulates"] == 3 * swept and unrolled["weight_reads"] == 2 * swept
    assert unrolled["plasticity_writes"] == swept
    learnt = Ledger()
    learnt.add("s2", "nudge+", plasticity_writes=5)  # synapses that learnt at each event hold their gradient already
    assert update_ledger(shape, mask, learnt, "sgd").counts["w2"]["update"]["plasticity_writes"] == 2 * 3


def test_hopattn_in_change_coded_networks_by_rows_and_readings() -> None:
    network, batch = make_network(dtype=torch.float32), make_batch(dtype=torch.float32)
    patterns = batch.mask[:, 0].sum(1)
    every = SigmaDeltaBackend().free(network, batch).ledger.counts["hopattn"]["free"]
    assert every["multiply_accumulates"] == 2 * every["exponentials"] * 4  # D = 4
    # each reading computes all rows of a text
    readings = every["divisions"] // 4
    assert every["exponentials"] >= readings and every["pattern_writes"] == 4 * int(patterns.sum())
    never = SigmaDeltaBackend(circuit=Gated(attention_threshold=1e6)).free(network, batch).ledger
    once = never.counts["hopattn"]["free"]  # every row exactly once
    assert once["exponentials"] == int((patterns**2).sum()) and once["divisions"] == 4 * int(patterns.sum())
    assert once["pattern_reads"] == 2 * 4 * int(patterns.sum()) == once["state_reads"] * 2


def test_totals_are_sums_of_parts_and_texts_add_up() -> None:
    network, batch = make_network(dtype=torch.float32), make_batch(dtype=torch.float32)
    for backend in (DenseBackend(), SpikingBackend(), SigmaDeltaBackend(circuit=GatedWinners(query_threshold=0.5))):
        whole = backend.free(network, batch).ledger  # type: ignore[attr-defined]
        for kind in KINDS:
            assert whole.total(kind) == sum(row["free"][kind] for row in whole.counts.values())
        if not isinstance(backend, DenseBackend):
            assert whole.total("payload_bits") == 16 * whole.total("graded_events")
            sent = ("s1", "s2", "s3", "s4")
            reached = sum(whole.counts[name]["free"]["synaptic_events"] for name in sent)
            fetched = sum(whole.counts[name]["free"]["weight_reads"] for name in sent)
            assert fetched == reached and whole.counts["w1"]["free"]["weight_reads"] == len(batch) * 4**2


def test_ledgers_of_different_networks_do_not_add_up() -> None:
    one = DenseBackend().free(make_network(dtype=torch.float32), make_batch(dtype=torch.float32)).ledger
    other = DenseBackend().free(make_network((3,), dtype=torch.float32), make_batch(dtype=torch.float32)).ledger
    with pytest.raises(RunError, match="different networks"):
        one += other


def test_padding_that_is_not_masked_is_computed() -> None:
    """3 rows and 3 patterns each, though only 2 and 3 tokens are real."""
    mask = torch.tensor([[[True, True, False]], [[True, True, True]]])
    batch = Batch(torch.randn(2, 1, 3, 2), mask, torch.tensor([0, 1]))
    network = Network.create(Shape(3, 2, (3,), 2, masked=False), torch.Generator().manual_seed(0))
    once = Gated(attention_threshold=1e6)
    for backend in (DenseBackend(free_steps=1), SigmaDeltaBackend(free_steps=1, circuit=once)):
        row = backend.free(network, batch).ledger.counts["hopattn"]["free"]
        assert row["exponentials"] == 2 * 9 and row["pattern_writes"] == 2 * 3 * 2
