"""Two ways to one number, on random networks of every kind: ledgers and spikes, precisions, exports and chips of few
bits, joules and constants."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from benchmarks.quantised import quantised
from eqspike_seq.devices.chip import Chip, like_fan_in
from eqspike_seq.devices.device_model import DeviceModel
from eqspike_seq.devices.imperfections import Bits, Range
from eqspike_seq.ledger import KINDS, Ledger
from eqspike_seq.model.batch import Batch, Lookup
from eqspike_seq.model.network import Network
from eqspike_seq.phases import RELAXED
from eqspike_seq.relaxation.dense import DenseBackend
from eqspike_seq.runs.weights import read_weights
from neuromorphic.change_code import SigmaDeltaBackend
from neuromorphic.pricing import Constant, price, read_table, total
from neuromorphic.rate_code import SpikingBackend
from tests.conftest import make_batch, make_network
from tests.eqspike_seq.test_pooling import pooling, texts
from tests.eqspike_seq.test_token_layer import SHAPE, network_of
from tests.eqspike_seq.test_token_layer import texts as pairs

few = settings(max_examples=5, derandomize=True, database=None, deadline=None)
sizes = st.lists(st.integers(1, 9), min_size=1, max_size=3)
BACKENDS = {
    "rates": SpikingBackend(30, 30, window=20, tick_steps=10, dtype=torch.float64),
    "changes": SigmaDeltaBackend(12, 8, nudge_threshold=1e-3, projection_nudge_threshold=1e-3, dtype=torch.float64),
}


def random_network(kind: str, hidden: list[int], seed: int, gain: float = 2.0) -> tuple[Network, Batch]:
    """A network of that kind with random layers, and texts of different lengths for it."""
    if kind == "tokens":
        network, batch = make_network(tuple(hidden), seed=seed), make_batch(seed=seed)
    elif kind == "pooling":
        made = pooling()
        shape = replace(made.shape, hidden=tuple(hidden))
        network, batch = Network.create(shape, torch.Generator().manual_seed(seed)), texts(seed=seed).whole()
    else:
        network, batch = network_of(replace(SHAPE, hidden=tuple(hidden))), pairs()
    return grown(network, gain), batch


def grown(network: Network, gain: float) -> Network:
    """With larger weights, so that more is sent."""
    network = network.to(torch.float64)
    for weight in network.weights:
        weight.mul_(gain)
    return network


def reached_below(network: Network, batch: Batch) -> torch.Tensor:
    """What a spike of s² reaches below in each text, (B,): s¹ of all queries, or the token layer's sums."""
    shape = network.shape
    if shape.pooling:
        return torch.full((len(batch),), shape.rows * shape.dim)
    if shape.compared:
        return torch.full((len(batch),), len(shape.projections) * shape.compared)
    return batch.mask.sum((1, 2)) * shape.dim


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("tokens", "rates"),
        ("pooling", "rates"),
        ("tokens", "changes"),
        ("pooling", "changes"),
        ("token layer", "rates"),
        ("token layer", "changes"),
    ],
)
def test_ledgers_are_counts_of_the_recorded_spikes(kind: str, code: str) -> None:
    """Of every layer above s¹ in all three phases: spikes, and the synapses that they reach."""

    @few
    @given(sizes, st.integers(0, 99))
    def tried(hidden: list[int], seed: int) -> None:
        network, batch = random_network(kind, hidden, seed)
        backend, above = BACKENDS[code], [*network.shape.sizes[2:], 0]
        free = backend.free(network, batch, record=True)
        found = (free, *backend.nudge(network, batch, free, (0.5, -0.5), record=True))
        for phase, end in zip(RELAXED, found, strict=True):
            below = reached_below(network, batch)
            for index, upper in enumerate(above):
                layer = f"s{index + 2}"
                sent = end.trace[f"spikes_{layer}"].double().abs().sum((0, 2))  # (B,)
                counted = end.ledger.counts[layer][phase]
                if index < len(above) - 1 or code == "rates":  # the output of a change code sends graded events
                    assert counted["spikes"] == int(sent.sum()), (layer, phase)
                    assert counted["synaptic_events"] == int((sent * (below + upper)).sum()), (layer, phase)
                below = torch.full((len(batch),), network.shape.sizes[index + 1])

    tried()


@pytest.mark.parametrize("kind", ["tokens", "pooling", "token layer"])
def test_precisions_agree_within_their_tolerances(kind: str) -> None:
    """Rates at the fixed point: float32 within 1e-4 of float64, bfloat16 products within 0.05 of float32."""

    @few
    @given(sizes, st.integers(0, 99))
    def tried(hidden: list[int], seed: int) -> None:
        network, batch = random_network(kind, hidden, seed, gain=1.0)
        exact = DenseBackend(60, tolerance=1e-9, dtype=torch.float64).free(network, batch)
        single = replace(batch, x=batch.x.float())
        low = {
            dtype: DenseBackend(60, tolerance=1e-6, dtype=dtype).free(network.to(torch.float32), single)
            for dtype in (torch.float32, torch.bfloat16)
        }
        for layer, mine in enumerate(low[torch.float32].rates.layers):
            torch.testing.assert_close(mine.double(), exact.rates.layers[layer], atol=1e-4, rtol=0)
            torch.testing.assert_close(low[torch.bfloat16].rates.layers[layer].float(), mine, atol=0.05, rtol=0)

    tried()


@pytest.mark.parametrize("kind", ["tokens", "pooling", "token layer"])
def test_an_export_of_few_bits_answers_as_a_chip_of_as_many(kind: str, tmp_path: Path) -> None:
    """Weights rounded and written to a file, and the same weights on a device whose range they fill."""

    @few
    @given(sizes, st.integers(0, 99), st.sampled_from([3, 5, 8]))
    def tried(hidden: list[int], seed: int, bits: int) -> None:
        made, batch = random_network(kind, hidden, seed)
        network, generator = made.to(torch.float32), torch.Generator().manual_seed(seed)
        lookup = texts(seed=seed)
        column = torch.randn(len(lookup.table), generator=generator)  # every component has these values in some order
        table = torch.stack(
            [column[torch.randperm(len(column), generator=generator)] for _ in range(made.shape.dim)], 1
        )
        limit = float(column.abs().max() * like_fan_in(table)[0] ** 0.5)
        about = {"label": "modelled", "source": "this test"}
        device = DeviceModel(
            name="few", title="Few bits", range=Range(limit=limit, **about), bits=Bits(bits=bits, **about)
        )
        for name, array in network.named():
            if name[0] in "wq":
                array.mul_(device.limit(array.shape[-1]) / array.abs().max())
        exported = {name: quantised(tensor, bits) for name, tensor in network.named()}
        save_file(exported, tmp_path / "weights.safetensors")
        written = Network.of(network.shape, read_weights(tmp_path / "weights.safetensors"))
        vectors = torch.stack([quantised(component, bits) for component in table.unbind(1)], 1)
        before = network.weights[0].clone()
        Chip(device, dict(network.named()) | {"X": table}, 0)
        assert not torch.equal(network.weights[0], before)
        answers = []
        for each, patterns in ((written, vectors), (network, table)):
            seen = batch
            if kind == "pooling":
                seen = Lookup(patterns, lookup.ids, lookup.labels, counts=lookup.counts.float()).whole()
            answers.append(DenseBackend(60, tolerance=1e-6).free(each, replace(seen, x=seen.x.float())).outputs[-1])
        torch.testing.assert_close(answers[0], answers[1], atol=1e-5, rtol=0)

    tried()


@few
@given(
    st.dictionaries(st.sampled_from(KINDS), st.integers(0, 10**9), min_size=1),
    st.floats(1e-3, 1e3),
    st.sampled_from(["horowitz-45nm-fp32", "loihi", "crossbar", "spinnaker2"]),
)
def test_joules_are_linear_in_constants_and_in_counts(counts: dict[str, int], factor: float, name: str) -> None:
    table = read_table(name)
    ledger, twice = (Ledger(samples={"free": 1}, steps={"free": n}) for n in (1, 2))
    ledger.add("s2", "free", **counts)
    twice.add("s2", "free", **{kind: 2 * count for kind, count in counts.items()})

    def times(constant: Constant) -> Constant:
        return constant.model_copy(update={end: factor * getattr(constant, end) for end in ("low", "value", "high")})

    static = table.static and table.static.model_copy(update={"power": times(table.static.power)})
    dearer = table.model_copy(
        update={"prices": {kind: times(constant) for kind, constant in table.prices.items()}, "static": static}
    )
    plain, scaled, double = (total(price(*pair)) for pair in ((ledger, table), (ledger, dearer), (twice, table)))
    for end in ("low", "value", "high"):
        assert getattr(scaled, end) == pytest.approx(factor * getattr(plain, end), rel=1e-9)
        assert getattr(double, end) == pytest.approx(2 * getattr(plain, end), rel=1e-9)
