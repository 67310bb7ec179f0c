"""The token layer: its equations written out, EP against backpropagation, its loop, its ledger, and whole runs."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from eqspike.build import configure, make_backend, run
from eqspike.prediction import Predictor
from eqspike_seq.checks.bptt import SETTLED, against_bptt, compare, over_betas
from eqspike_seq.errors import ConfigError
from eqspike_seq.learning.cost import update_ledger
from eqspike_seq.learning.estimators import BPTT, ByLength, ThreePhase
from eqspike_seq.ledger import Ledger, dense_ledger
from eqspike_seq.model.attention import weights
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network, Shape, State
from eqspike_seq.model.packing import Packed
from eqspike_seq.model.token_layer import dense_layer
from eqspike_seq.phases import Phase
from eqspike_seq.progress import Reporter
from eqspike_seq.relaxation.dense import DenseBackend
from eqspike_seq.relaxation.loop import loop_gain, loop_of

TEXTS, PLACES, DIM, UNITS = 6, 7, 5, 6
SHAPE = Shape(PLACES, DIM, (8,), 3, projections=((1, 0), (0, 1)), learnt=True, temperature=2.0, compared=UNITS)


def network_of(shape: Shape = SHAPE) -> Network:
    network = Network.create(shape, torch.Generator().manual_seed(1), recall=1.0).to(torch.float64)
    for _, tensor in network.named():
        tensor.mul_(1.3)
    return network


def texts() -> Batch:
    """Pairs of texts of 1 to 7 words, words that come again, one text without any."""
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(12, DIM, generator=generator, dtype=torch.float64)
    table[0] = 0
    ids = torch.randint(1, 12, (TEXTS, 2, PLACES), generator=generator)
    for row in range(TEXTS):
        ids[row, 0, PLACES - row :] = 0
        ids[row, 1, 1 + row :] = 0
    ids[3, 1] = 0
    labels = torch.randint(0, 3, (TEXTS,), generator=generator)
    return Batch(table[ids], ids > 0, labels, ids=ids)


@pytest.fixture
def batch() -> Batch:
    return texts()


def written_out(network: Network, batch: Batch, row: int, steps: int = 500) -> dict[str, Tensor]:
    """The fixed point of one example, token by token, in loops: an independent reference."""
    shape, tau = network.shape, network.shape.temperature
    (w_x, b_x, w_a), w_1 = network.tokens, network.asking[0]
    (w_2, w_3), (b_2, b_3) = network.weights, network.biases

    def sigma(u: Tensor) -> Tensor:
        return (u / 2).clip(0, 1)

    texts = [batch.x[row, side][batch.mask[row, side]] for side in (0, 1)]
    compared = [
        [torch.full((UNITS,), 0.5, dtype=torch.float64) for _ in texts[query]] for query, _ in shape.projections
    ]
    s2, s3 = torch.full((8,), 0.5, dtype=torch.float64), torch.full((3,), 0.5, dtype=torch.float64)
    for _ in range(steps):
        sums = []
        for place, (query, key) in enumerate(shape.projections):
            back = w_2[:, place * UNITS : (place + 1) * UNITS].T @ s2
            for number, word in enumerate(texts[query]):
                asked = word @ w_1 + word * (w_a.T @ compared[place][number]) / tau
                found = torch.zeros(DIM, dtype=torch.float64)
                if len(texts[key]):
                    found = torch.softmax(texts[key] @ asked / math.sqrt(DIM), 0) @ texts[key]
                heard = w_x @ word + b_x + w_a @ (word * found) + back / (tau * math.sqrt(len(texts[query])))
                compared[place][number] = sigma(heard)
            total = sum(compared[place], torch.zeros(UNITS, dtype=torch.float64))
            sums.append(total / math.sqrt(max(1, len(texts[query]))))
        s3 = sigma(w_3 @ s2 + b_3)
        s2 = sigma(w_2 @ torch.cat(sums) + w_3.T @ s3 + b_2)
    return {"s2": s2, "s3": s3, "sums": torch.cat(sums)}


def test_the_free_state_is_that_of_the_equations(batch: Batch) -> None:
    network = network_of()
    free = SETTLED.free(network, batch).rates
    for row in range(TEXTS):
        expected = written_out(network, batch, row)
        torch.testing.assert_close(free.layers[0][row], expected["s2"], rtol=0, atol=1e-9)
        torch.testing.assert_close(free.layers[1][row], expected["s3"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("uniform", [False, True])
def test_the_free_state_is_stationary_in_phi(batch: Batch, uniform: bool) -> None:
    """Where σ is not clipped ∂φ/∂s^c = τ σ⁻¹(s^c), and ∂φ/∂s² = σ⁻¹(s²)."""
    network = network_of(replace(SHAPE, uniform=uniform))
    free = SETTLED.free(network, batch).rates
    compared, layers = free.projection.clone().requires_grad_(), [s.clone().requires_grad_() for s in free.layers]
    layer = dense_layer(network, batch, torch.float64)
    with torch.enable_grad():
        value = layer.phi(State(compared, tuple(layers))).sum()
        slopes = torch.autograd.grad(value, [compared, layers[0]])
    for slope, state, tau in zip(slopes, (free.projection, free.layers[0]), (SHAPE.temperature, 1.0), strict=True):
        inside = (state > 0) & (state < 1)
        assert inside.sum() > 20
        torch.testing.assert_close(slope[inside], 2 * tau * state[inside], rtol=0, atol=1e-8)


@pytest.mark.parametrize("projections", [((1, 0), (0, 1)), ((0, 0),), ((1, 0),), ((0, 1), (0, 0))])
def test_tokens_in_one_row_look_at_their_texts_and_at_nothing_else(
    batch: Batch, projections: tuple[tuple[int, int], ...]
) -> None:
    shape = replace(SHAPE, projections=projections)
    layer = dense_layer(network_of(shape), batch, torch.float64)
    inputs, query = layer.inputs, layer.inputs.drive
    shares = weights(query, inputs.patterns, inputs.bias)
    whole = Packed.of(shape, batch).unpacked(shares, batch.mask)
    assert inputs.rows is not None
    for row in range(TEXTS):
        asked = [batch.x[row, query][batch.mask[row, query]] for query, _ in projections]
        torch.testing.assert_close(
            inputs.drive[row, 0][inputs.rows[row, 0, :, 0]], torch.cat(asked) @ network_of().asking[0]
        )
        for place, (words, (query_text, key)) in enumerate(zip(asked, projections, strict=True)):
            keys = batch.x[row, key][batch.mask[row, key]]
            expected = torch.softmax(words @ network_of().asking[0] @ keys.T / math.sqrt(DIM), 1)
            found = whole[row, place, batch.mask[row, query_text]][:, batch.mask[row, key]]
            torch.testing.assert_close(found, expected)
            summed = torch.randn(inputs.drive.shape[2], UNITS, dtype=torch.float64)
            first = sum(len(part) for part in asked[:place])
            mine = summed[first : first + len(words)].sum(0) / math.sqrt(max(1, len(words)))
            torch.testing.assert_close((layer.sums[row] @ summed)[place], mine)


@pytest.mark.parametrize(
    "kind",
    [{}, {"projections": ((0, 0),)}, {"projections": ((0, 1), (0, 0))}, {"uniform": True}],
    ids=["pair", "single", "twice", "uniform"],
)
def test_ep_is_backpropagation_in_every_parameter_and_its_error_falls_as_beta_squared(
    batch: Batch, kind: dict[str, Any]
) -> None:
    network = network_of(replace(SHAPE, **kind))
    found = over_betas(network, batch)
    learnt = {*dict(network.named()), "X"} - ({"w1"} if "uniform" in kind else set())
    assert found.texts >= 3 and {name for name, each in found.cosine.items() if each[0] is not None} == learnt
    for name in learnt:
        errors = found.relative_rmse[name]
        cosines = [each for each in found.cosine[name] if each is not None]
        assert len(cosines) == len(found.betas) and min(cosines[2:]) > 0.999999, name
        logs = np.log([error for error in errors if error is not None])
        assert np.polyfit(np.log(found.betas), logs, 1)[0] == pytest.approx(2, abs=0.05), name


def test_ep_is_backpropagation_step_by_step(batch: Batch) -> None:
    found, curves = against_bptt(network_of(), batch, 1e-3, steps=12)
    assert {each.parameter for each in found} == {"w1", "wx", "bx", "wa", "w2", "b2", "w3", "b3", "X"}
    for name, curve in curves.items():
        known = [each for each in curve.cosine if each is not None]
        assert len(known) >= 9 and min(known) > 0.999999, name


def test_a_product_estimator_agrees_with_autograd_through_the_sweeps(batch: Batch) -> None:
    """The bucketed estimators, as training calls them."""
    network, backend = network_of(), DenseBackend(2000, 2000, 1e-12, torch.float64)
    ep = ByLength(ThreePhase(1e-3))(backend, network, batch).gradients
    truth = ByLength(BPTT(200))(backend, network, batch).gradients
    for each in compare(ep, truth):
        assert each.cosine is not None and each.cosine > 0.99999, each


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_low_precision_keeps_the_gradient(batch: Batch, dtype: torch.dtype) -> None:
    network = network_of()
    truth = ThreePhase(0.1)(SETTLED, network, batch).gradients
    backend = DenseBackend(200, 200, 1e-2 if dtype == torch.bfloat16 else 1e-5, dtype)
    found = ThreePhase(0.1)(backend, network.to(torch.float32), batch.to(torch.float32)).gradients
    for each in compare(found, truth):
        assert each.cosine is not None and each.cosine > (0.998 if dtype == torch.bfloat16 else 0.999999), each


def test_a_text_does_not_depend_on_its_batch_or_padding(batch: Batch) -> None:
    network = network_of()
    whole = SETTLED.free(network, batch).rates.output
    for row in range(TEXTS):
        places = max(1, int(batch.mask[row].sum(1).max()))
        alone = SETTLED.free(network.first(places), batch.take(slice(row, row + 1), places)).rates.output
        torch.testing.assert_close(alone[0], whole[row], rtol=0, atol=1e-9)


def test_the_loop_gain_is_the_largest_eigenvalue_of_its_matrix(batch: Batch) -> None:
    network = network_of()
    free = SETTLED.free(network, batch).rates
    layer = dense_layer(network, batch, torch.float64)
    gains = loop_gain(layer, free)
    w_a, tau = network.tokens[2], network.shape.temperature
    for row in range(TEXTS):
        largest = 0.0
        for place, (query, key) in enumerate(SHAPE.projections):
            keys = batch.x[row, key][batch.mask[row, key]]
            for number in range(int(batch.mask[row, query].sum())):
                before = int(batch.mask[row, SHAPE.queries[:place]].sum())  # tokens of the projections before
                compared = free.projection[row, 0, before + number]
                word = batch.x[row, query, number]
                asked, gated = word @ network.asking[0] + word * (w_a.T @ compared) / tau, w_a * word
                p = torch.softmax(keys @ asked / math.sqrt(DIM), 0)
                spread = keys.T @ (torch.diag(p) - torch.outer(p, p)) @ keys / math.sqrt(DIM)
                inside = torch.diag(((compared > 0) & (compared < 1)).double())
                matrix = 0.5 * inside @ gated @ spread @ gated.T @ inside / tau
                largest = max(largest, float(torch.linalg.eigvalsh(matrix)[-1]))
        assert float(gains[row]) == pytest.approx(largest, rel=0.02, abs=1e-9)
    assert not bool(loop_of(network, batch).apart.any())


def test_the_temperature_weakens_what_comes_back_and_nothing_else(batch: Batch) -> None:
    """With w_a = 0 and w₂ᵀ s² cut off by τ → ∞ nothing moves; the forward path stays as it is."""
    weak = network_of(replace(SHAPE, temperature=1e6))
    layer = dense_layer(weak, batch, torch.float64)
    zeros, ones = (torch.full((TEXTS, 8), value, dtype=torch.float64) for value in (0.0, 1.0))
    before = torch.rand_like(layer.rest(TEXTS).projection)
    torch.testing.assert_close(layer.free(zeros, 0 * before), layer.free(ones, before), rtol=0, atol=1e-5)


def test_the_ledger_of_a_sweep_is_that_of_a_count_by_hand() -> None:
    """One pair of 3 and 2 words, D = 5, H_c = 6, H₂ = 8, C = 3; 4 sweeps."""
    mask = torch.tensor([[[True] * 3 + [False] * 4, [True] * 2 + [False] * 5]])
    found = dense_ledger(SHAPE, mask, torch.tensor([4]), Phase.FREE)
    counts = {layer: phases[Phase.FREE] for layer, phases in found.counts.items()}
    tokens, pairs = 5, 2 * 3 + 3 * 2
    assert counts["sc"]["multiply_accumulates"] == 4 * 2 * tokens * UNITS * DIM
    assert counts["sc"]["weight_reads"] == 4 * 2 * UNITS * DIM  # once down, once up, for all tokens
    assert counts["sc"]["neuron_updates"] == 4 * tokens * UNITS
    assert counts["hopattn"]["multiply_accumulates"] == 4 * 2 * (pairs + tokens) * DIM  # and x∘r, x∘(w_aᵀ s^c)
    assert counts["s2"]["multiply_accumulates"] == 4 * 2 * 2 * UNITS * 8  # w₂ reads two sums, up and down
    assert counts["w1"]["multiply_accumulates"] == tokens * DIM * DIM
    assert counts["w1"]["weight_reads"] == DIM * DIM
    assert counts["wx"]["multiply_accumulates"] == tokens * DIM * UNITS
    assert counts["input"]["lookup_reads"] == tokens * DIM
    learnt = update_ledger(SHAPE, mask, Ledger(), "adam", patterns=4)
    kinds = {layer: phases[Phase.UPDATE] for layer, phases in learnt.counts.items()}
    assert kinds["wx"]["optimiser_reads"] == 4 * UNITS * DIM
    assert kinds["wa"]["plasticity_writes"] == UNITS * DIM
    assert kinds["bx"]["accumulates"] == UNITS
    assert kinds["w2"]["multiply_accumulates"] == 2 * 2 * UNITS * 8 + 6 * (2 * UNITS * 8 + 8)
    assert kinds["X"]["multiply_accumulates"] == 2 * pairs * DIM + tokens * DIM * (DIM + 3 * UNITS + 2) + 2 * DIM * 4


def pairs_file(path: Path, number: int = 1200) -> Path:
    """Whether both texts name the same doing, whoever does it."""
    rng = np.random.default_rng(0)
    doings = "sleeps eats runs sings reads waits jumps talks cooks paints swims writes".split()
    who, where = "man woman child dog cat girl boy nurse".split(), "here there outside inside upstairs today".split()
    rows = ["claim,evidence,label"]
    for i in range(number):
        doing, other = rng.choice(doings, 2, replace=False)
        first = f"a {rng.choice(who)} {doing} {rng.choice(where)}"
        second = f"the {rng.choice(who)} {doing if i % 2 else other} {rng.choice(where)}"
        rows.append(f"{first},{second},{'yes' if i % 2 else 'no'}")
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_run_learns_what_no_bag_of_words_can(tmp_path: Path) -> None:
    """Whether two texts name the same doing: each word by itself says nothing."""
    file = pairs_file(tmp_path / "pairs.csv")
    config = configure(str(file), text_column=("claim", "evidence"), seed=0, out=tmp_path / "run")
    assert config.network.name == "token-layer"
    found = run(config, Reporter(quiet=True))
    assert found["test_accuracy"] > 0.9
    predictor = Predictor.open(tmp_path / "run")
    assert predictor.predict("a man sleeps here", "the girl sleeps there").label == "yes"
    assert predictor.predict("a man sleeps here", "the girl waits there").label == "no"
    saved = json.loads((tmp_path / "run" / "ledger.json").read_text())
    assert {"sc", "wx", "hopattn"} <= set(saved["inference"]["counts"])


def test_single_texts_may_have_a_token_layer(tmp_path: Path) -> None:
    config = configure(
        "mini",
        network="token-layer",
        limit=60,
        epochs=1,
        out=tmp_path / "run",
        compared=8,
        dim=8,
        learning_rate=(1e-3,),
    )
    assert config.network.shape(9, 8, 2).projections == ((0, 0),)
    run(config, Reporter(quiet=True))
    assert (tmp_path / "run" / "result.json").is_file()


def test_what_a_token_layer_does_not_go_with_is_said() -> None:
    with pytest.raises(ConfigError, match="--backend brian2: it has no token layer. Take --network tokens, or"):
        configure("snli", "brian2", network="token-layer", preset="snli")
    for flag, got, known in (("circuit", "wta", "clocked"), ("rule", "trace", "count or membrane")):
        with pytest.raises(ConfigError, match=f"--{flag} {got}: a token layer with --neuron lif has {known}"):
            configure("snli", "spiking", neuron="lif", **{flag: got})
    with pytest.raises(ConfigError, match="--projections: got ab ab, expected one or more, each once"):
        configure("snli", projections=("ab", "ab"))
    assert make_backend(configure("snli")).name == "dense"
