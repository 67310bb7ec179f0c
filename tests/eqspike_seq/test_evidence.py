"""Evidence of patterns for an answer: it adds up to the margin, and is its gradient where σ is straight."""

import pytest
import torch
import torch.nn.functional as F

from eqspike_seq.learning.closeup import evidence
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.network import Network, Shape, sigma
from eqspike_seq.relaxation.dense import DenseBackend

PATTERNS, DIM, QUERIES = 9, 5, 3
RELAXED = DenseBackend(300, 10, 1e-12, dtype=torch.float64)


def made(hidden: tuple[int, ...], gain: float) -> tuple[Network, Batch]:
    """A network with pooling queries, and four texts of counted patterns; a large ``gain`` saturates units."""
    shape = Shape(QUERIES, DIM, hidden, 3, pooling=True)
    generator = torch.Generator().manual_seed(3)
    network = Network.create(shape, generator, gain=gain).to(torch.float64)
    x = torch.randn(4, 1, PATTERNS, DIM, generator=generator, dtype=torch.float64)
    mask = torch.arange(PATTERNS).view(1, 1, -1) < torch.tensor([9, 7, 4, 1]).view(-1, 1, 1)
    counts = torch.randint(1, 4, (4, 1, PATTERNS), generator=generator)
    ids = torch.arange(1, PATTERNS + 1).expand(4, 1, -1) * mask
    labels = torch.zeros(4, dtype=torch.int64)
    return network, Batch(x * mask.unsqueeze(-1), mask, labels, ids=ids, counts=counts * mask)


def margins(network: Network, s1: torch.Tensor, layers: tuple[torch.Tensor, ...], pair: torch.Tensor) -> torch.Tensor:
    """u_a − u_b of the output, layer by layer from s¹ (B, Q·D), with what comes down from ``layers`` held."""
    below = s1
    for index, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        u = F.linear(below, weight, bias)
        if index + 1 < len(layers):
            u = u + layers[index + 1] @ network.weights[index + 1]
        below = sigma(u)
    return u.gather(1, pair[:, :1]).squeeze(1) - u.gather(1, pair[:, 1:]).squeeze(1)


@pytest.mark.parametrize(("hidden", "gain"), [((8,), 1.0), ((8, 6), 1.0), ((8, 6), 30.0)])
def test_it_adds_up_to_the_margin_over_a_text_that_says_nothing(hidden: tuple[int, ...], gain: float) -> None:
    network, batch = made(hidden, gain)
    free = RELAXED.free(network, batch)
    found = evidence(network, batch, free)
    assert found.shape == (4, PATTERNS) and not found[~batch.mask[:, 0]].any()
    s1, pair = free.rates.projection.flatten(1), free.outputs[-1].topk(2).indices
    whole, nothing = (margins(network, s, free.rates.layers, pair) for s in (s1, torch.zeros_like(s1)))
    torch.testing.assert_close(found.sum(1), whole - nothing, rtol=1e-6, atol=1e-9)
    if gain > 1:
        flat = [(layer == 0) | (layer == 1) for layer in free.rates.layers[:-1]]
        assert any(bool(each.any()) for each in flat)  # where a gradient would vanish


def test_it_is_share_times_vector_times_gradient_where_nothing_saturates() -> None:
    network, batch = made((8, 6), 0.2)
    free = RELAXED.free(network, batch)
    layers, pair = free.rates.layers, free.outputs[-1].topk(2).indices
    s1 = free.rates.projection.flatten(1).clone().requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(margins(network, s1, layers, pair).sum(), s1)
    scores = torch.einsum(
        "bqd,bnd->bqn", network.asking + (layers[0] @ network.weights[0]).view(4, QUERIES, DIM), batch.x[:, 0]
    )
    shares = torch.softmax(scores / DIM**0.5 + batch.counts[:, 0].log().unsqueeze(1), -1)
    wanted = torch.einsum("bqn,bnd,bqd->bn", shares, batch.x[:, 0], slope.view(4, QUERIES, DIM))
    torch.testing.assert_close(evidence(network, batch, free), wanted, rtol=1e-6, atol=1e-9)
