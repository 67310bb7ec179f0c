"""Single texts: sixteen of test in full detail, the worst mistakes, where HopAttn looks, and which patterns decided.

The margin of an answer is m = u_a − u_b, inputs of the output units of the two highest rates. Patterns reach it through
s¹ = Σ_j p_j x_j; what they add is measured against a text that says nothing, s¹ = 0, all that comes down from above
held. Layer by layer a change of inputs δu becomes δs = k δu, k = (σ(u) − σ(u − δu))/δu, the secant of σ between the two
(the rescale rule of DeepLIFT, Shrikumar et al. 2017), so that nothing is lost where σ is flat:

    e_j = Σ_rows p_j x_j · g,   g = w₂ᵀ k₂ w₃ᵀ k₃ … wₙᵀ(1_a − 1_b),     Σ_j e_j = m − m(s¹ = 0)
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eqspike_seq.config.examples import Texts
from eqspike_seq.config.settings import FORMAT, RunConfig
from eqspike_seq.data.batches import Batches
from eqspike_seq.data.dataset import Dataset
from eqspike_seq.data.patterns import NGrams, spread
from eqspike_seq.data.tokens import tokenise
from eqspike_seq.errors import DivergenceError
from eqspike_seq.learning.evaluation import Evaluation
from eqspike_seq.model.attention import hopattn_and_weights
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network, sigma
from eqspike_seq.model.packing import Packed
from eqspike_seq.model.token_layer import dense_layer
from eqspike_seq.phases import RELAXED
from eqspike_seq.relaxation.equilibrium import Backend, Equilibrium
from eqspike_seq.relaxation.stack import above
from eqspike_seq.runs.samples import received

SAMPLES = 16
MISTAKES = 20
MOST_WORDS = 2000  # of a text


class Relaxed(NamedTuple):
    """The examples ``rows`` of a split at their free equilibrium."""

    rows: NDArray[np.int64]
    batch: Batch
    free: Equilibrium


@torch.no_grad()
def samples(
    config: RunConfig, backend: Backend, network: Network, gather: Batches, dataset: Dataset, test: Evaluation
) -> dict[str, NDArray[Any]]:
    """What ``samples.npz`` holds: fixed test texts through all three phases, attention at the end of the free one, and
    the mistakes of ``test`` that the network was most confident of.

    Raises DivergenceError where a number is not finite.
    """
    part, beta = dataset.test, config.learning.beta
    rows = np.sort(np.random.default_rng(0).permutation(len(part))[:SAMPLES])
    batch = gather(part, rows)
    free = backend.free(network, batch, record=True)
    plus, minus = backend.nudge(network, batch, free, (beta, -beta), record=True)
    arrays: dict[str, NDArray[Any]] = {
        "format": np.array(FORMAT),
        "rows": rows,
        "labels": part.labels[rows],
        "reading_steps": np.array(free.reading_steps),
    }
    arrays |= _words(config, network, gather, dataset, Relaxed(rows, batch, free))
    for phase, found in zip(RELAXED, (free, plus, minus), strict=True):
        arrays[f"{phase}_outputs"] = found.outputs.cpu().numpy()
        for name, values in found.trace.items():
            arrays[f"{phase}_{name}"] = values.cpu().numpy()
    if len(wrong := test.mistakes(MISTAKES)):
        batch = gather(part, wrong)
        relaxed = Relaxed(wrong, batch, backend.free(network, batch))
        arrays |= mistakes(_words(config, network, gather, dataset, relaxed), test, wrong)
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DivergenceError(f"training diverged: {name} of test texts is not finite. Lower --learning-rate.")
    return arrays


def mistakes(words: dict[str, NDArray[Any]], test: Evaluation, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """The wrong answers ``rows`` with the ``words`` of their texts; of the attention what each word gets in all."""
    found: dict[str, NDArray[Any]] = {"rows": rows, "labels": test.labels[rows], "outputs": test.rates[rows]}
    found |= {name: words[name] for name in ("tokens", "mask")}
    if "attention" in words:
        found["attention"] = np.zeros(words["mask"].shape, dtype=np.float16)
        for text, mask in enumerate(words["mask"]):
            found["attention"][text, mask] = received(words, text)[1]
    return {f"mistakes_{name}": array for name, array in found.items()}


def _words(
    config: RunConfig, network: Network, gather: Batches, dataset: Dataset, relaxed: Relaxed
) -> dict[str, NDArray[Any]]:
    """Words, which of their places hold one, which rows ask, and the attention of these, of test examples."""
    rows, batch, free = relaxed
    if dataset.grams is not None and isinstance(config.data, Texts):
        texts = [tokenise(dataset.test_texts[row], config.data.tokeniser)[:MOST_WORDS] for row in rows]
        assert batch.ids is not None
        shares = shares_of(network, batch, free)[:, 0].cpu().numpy()
        return in_words(dataset.grams, texts, batch.ids[:, 0].cpu().numpy(), shares)
    words = dataset.words()
    ids = gather.ids(dataset.test, rows).reshape(len(rows), -1)
    mask = batch.mask.flatten(1).cpu().numpy()
    found = {"tokens": np.array([[words[i] for i in text] for text in ids]), "mask": mask, "asks": mask}
    if network.shape.attention:
        found["attention"] = attention_of(network, batch, free).cpu().numpy().astype(np.float16)
    return found


def shares_of(network: Network, batch: Batch, free: Equilibrium) -> Tensor:
    """p = softmax(q Kᵀ/√d) at an equilibrium, (B, P, R, N), of a token layer (B, 1, R, M)."""
    layer = dense_layer(network, batch, network.dtype)
    _, query = layer.looped(free.rates)
    return hopattn_and_weights(layer.scored(query), layer.inputs.patterns, layer.inputs.bias, layer.full)[1]


def attention_of(network: Network, batch: Batch, free: Equilibrium) -> Tensor:
    """p of token queries at an equilibrium, (B, N, N).

    Of pairs (B, 2N, 2N): both texts end to end as queries and as patterns; 0 where there is no such projection.
    """
    shares = shares_of(network, batch, free)
    if network.shape.compared:
        shares = Packed.of(network.shape, batch).unpacked(shares, batch.mask)
    count, sides, tokens = batch.mask.shape
    whole = shares.new_zeros(count, sides, tokens, sides, tokens)
    for place, (query, key) in enumerate(network.shape.projections):
        whole[:, query, :, key] = shares[:, place]
    return whole.flatten(3).flatten(1, 2)


def in_words(
    grams: NGrams, texts: list[list[str]], ids: NDArray[np.int64], shares: NDArray[Any]
) -> dict[str, NDArray[Any]]:
    """The words of ``texts``, and the share that each pooling query gives to each word, (B, Q, words), from the
    ``shares`` (B, Q, N) of the patterns ``ids`` (B, N)."""
    longest = max(1, *map(len, texts))
    mask = np.array([[place < len(text) for place in range(longest)] for text in texts])
    found = np.zeros((len(texts), shares.shape[1], longest), dtype=np.float16)
    for row, text in enumerate(texts):
        words = np.array([grams.words.get(word, 0) for word in text], dtype=np.int64)
        found[row, :, : len(text)] = spread(grams, words, ids[row], shares[row])
    return {
        "tokens": np.array([[*text, *[""] * (longest - len(text))] for text in texts]),
        "mask": mask,
        "asks": np.ones(shares.shape[:2], dtype=bool),
        "attention": found,
    }


def evidence(network: Network, batch: Batch, free: Equilibrium) -> Tensor:
    """e (B, N) of the patterns of a batch at the end of a free phase, of a network with pooling queries."""
    shares = shares_of(network, batch, free)[:, 0]
    inputs = dense_layer(network, batch, network.dtype).inputs
    found = (inputs.patterns if inputs.values is None else inputs.values)[:, 0]
    change = (shares @ found).flatten(1)
    level, slopes = torch.zeros_like(change), list[Tensor]()  # level: of the layer below, of a text that says nothing
    rates = tuple(layer.to(network.dtype) for layer in free.rates.layers)  # Brian2 counts in float64
    for index, weight in enumerate(network.weights[:-1]):
        moved = change @ weight.T
        before = level @ weight.T + above(network, rates, index)
        level, change = sigma(before), sigma(before + moved) - sigma(before)
        slopes.append(torch.where(moved == 0, 0.0, change / moved))
    first, second = free.outputs[-1].topk(2).indices.unbind(1)  # what spiking units have sent may be a tie
    back = network.weights[-1][first] - network.weights[-1][second]
    for weight, slope in zip(reversed(network.weights[:-1]), reversed(slopes), strict=True):
        back = (back * slope) @ weight
    return torch.einsum("bqn,bqd,bnd->bn", shares, back.unflatten(1, (shares.shape[1], -1)), found)
