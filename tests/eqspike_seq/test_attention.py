import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eqspike_seq.model.attention import (
    Retrieval,
    hopattn,
    hopattn_and_weights,
    hopattn_change,
    key_bias,
    potential,
    weights,
    weights_change,
)


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_is_softmax_of_scaled_dot_products_written_out() -> None:
    query, patterns = random(1, 3), random(4, 3, seed=1)
    scores = [sum(query[0, i] * patterns[j, i] for i in range(3)) / math.sqrt(3) for j in range(4)]
    total = sum(math.exp(s) for s in scores)
    expected = sum(math.exp(s) / total * patterns[j] for j, s in enumerate(scores))
    torch.testing.assert_close(hopattn(query, patterns)[0], expected)


def test_is_the_gradient_of_its_potential_and_its_jacobian_is_symmetric_psd() -> None:
    patterns, query = random(6, 4, seed=1), random(4)
    gradient = torch.func.grad(lambda q: potential(q[None], patterns)[0])(query)
    torch.testing.assert_close(gradient, hopattn(query[None], patterns)[0])
    jacobian = torch.func.jacrev(lambda q: hopattn(q[None], patterns)[0])(query)
    torch.testing.assert_close(jacobian, jacobian.T)
    assert torch.linalg.eigvalsh(jacobian).min() > -1e-12


def test_padding_gets_no_weight_and_a_text_of_padding_no_nan() -> None:
    mask = torch.tensor([[True, True, False], [False, False, False]])
    patterns = random(2, 3, 4) * mask.unsqueeze(-1)
    found = weights(random(2, 3, 4, seed=1), patterns, key_bias(mask, torch.float64))
    assert (found[0, :, 2] == 0).all()
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 3, dtype=torch.float64))
    assert torch.isfinite(found).all()


def retrieval(query: torch.Tensor, patterns: torch.Tensor, dtype: torch.dtype, top: int = 0) -> Retrieval:
    """What rows (R, D) find among patterns (N, D), of one text, kept in ``dtype``."""
    found, shares = hopattn_and_weights(query[None, None], patterns[None, None], None, dtype, top)
    return Retrieval.of(query[None, None], patterns[None, None].to(dtype), None, shares, found, top)


def changed(change: torch.Tensor, start: Retrieval) -> torch.Tensor:
    """``hopattn_change`` of rows (R, D)."""
    return hopattn_change(change[None, None, None].to(start.patterns.dtype), start)[0, 0, 0]


@pytest.mark.parametrize("size", [1e-9, 1e-3, 1.0, 30.0, 300.0])
def test_change_equals_the_difference_of_two_retrievals(size: float) -> None:
    query, patterns, change = random(5, 4), random(6, 4, seed=1), size * random(5, 4, seed=2)
    found = changed(change, retrieval(query, patterns, torch.float64))
    expected = hopattn(query + change, patterns) - hopattn(query, patterns)
    torch.testing.assert_close(found, expected, atol=1e-13, rtol=1e-5 if size < 1e-6 else 1e-9)


def test_change_keeps_its_precision_in_bf16_where_a_difference_drowns() -> None:
    query, patterns = random(64, 32), random(64, 32, seed=1)
    change = 1e-4 * random(64, 32, seed=2)
    truth = hopattn(query + change, patterns) - hopattn(query, patterns)

    def error(found: torch.Tensor) -> float:
        return float((found.double() - truth).norm() / truth.norm())

    low = [t.bfloat16() for t in (query, patterns, change)]
    assert error(changed(change, retrieval(query, patterns, torch.bfloat16))) < 0.03
    assert error(hopattn(low[0] + low[2], low[1]) - hopattn(low[0], low[1])) > 0.5


# With √N times the unit vectors as patterns, N a power of 4, scores are the queries themselves: a* and δa are chosen.
EPS = {torch.bfloat16: 2.0**-8, torch.float32: 2.0**-23, torch.float64: 2.0**-52}
Rows = tuple[list[list[float]], list[list[float]]]
DTYPES = pytest.mark.parametrize("dtype", EPS, ids=str)


def of_scores(scores: list[list[float]], change: list[list[float]], dtype: torch.dtype, top: int = 0) -> torch.Tensor:
    """δp of rows with scores a* and changes δa, (R, N)."""
    patterns = math.sqrt(len(scores[0])) * torch.eye(len(scores[0]))
    full = torch.promote_types(dtype, torch.float32)
    start = retrieval(torch.tensor(scores, dtype=dtype).to(full), patterns.to(full), dtype, top)
    return weights_change(torch.tensor(change, dtype=dtype)[None, None], start)[0, 0]


def truth(scores: list[list[float]], change: list[list[float]], dtype: torch.dtype) -> torch.Tensor:
    """softmax(a* + δa) − softmax(a*) in float64, of the numbers as ``dtype`` has them."""
    a, moved = (torch.tensor(x, dtype=dtype).double() for x in (scores, change))
    a -= a.amax(-1, keepdim=True)
    moved -= moved.amax(-1, keepdim=True)
    return torch.softmax(a + moved, -1) - torch.softmax(a, -1)


@DTYPES
@pytest.mark.parametrize("fall", [-2.0, -8.0, -18.0, -40.0, -1000.0])
def test_the_dominant_pattern_may_fall(fall: float, dtype: torch.dtype) -> None:
    """A share that is rounded to 1 falls: 1 + Σ p (e^δa − 1) is 0 or less where shares add up to more than 1."""
    scores, change = [[0.0, -9.0, -30.0, -30.0]], [[fall, 0.0, 0.0, 0.0]]
    found = of_scores(scores, change, dtype)
    torch.testing.assert_close(found.double(), truth(scores, change, dtype), atol=4 * EPS[dtype], rtol=0)


@DTYPES
def test_a_pattern_whose_share_is_0_can_come_back(dtype: torch.dtype) -> None:
    scores, change = [[0.0, -1.0, -2000.0, -2000.0]], [[0.0, 0.0, 2000.0, 1984.0]]
    found = of_scores(scores, change, dtype)
    torch.testing.assert_close(found.double(), truth(scores, change, dtype), atol=4 * EPS[dtype], rtol=0)
    assert found[0, 2] > 0.4


@DTYPES
def test_patterns_that_a_row_does_not_look_at_stay_away_whatever_they_gain(dtype: torch.dtype) -> None:
    found = of_scores([[2.0, 1.0, 0.0, -1.0]], [[0.0, 0.0, 100.0, 3.0]], dtype, top=2)
    assert (found == 0).all()


@st.composite
def rows(draw: st.DrawFn) -> tuple[list[list[float]], list[list[float]]]:
    """Scores a* and changes δa of some rows of 16 patterns, each row of its own size, some numbers exactly 0."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = st.sampled_from([1e-6, 1e-3, 0.1, 1.0, 3.0, 10.0, 30.0, 100.0, 1e4])
    both = []
    for _ in range(2):
        scale = np.array(draw(st.lists(sizes, min_size=4, max_size=4)))[:, None]
        common = np.array(draw(st.lists(sizes, min_size=4, max_size=4)))[:, None]
        both.append(
            scale * rng.standard_normal((4, 16)) * (rng.random((4, 16)) < 0.8) + common * rng.choice([-1, 0, 1])
        )
    return both[0].tolist(), both[1].tolist()


@DTYPES
@given(rows=rows())
@settings(max_examples=200, deadline=None)
def test_no_shares_and_no_finite_change_give_anything_but_the_softmax(dtype: torch.dtype, rows: Rows) -> None:
    """The error is some roundings of how far the changes of the scores lie apart where the shares are.

    Where a pattern gains much, two softmaxes are subtracted, in float32 at least: a rounding of a share there.
    """
    found, expected = of_scores(*rows, dtype).double(), truth(*rows, dtype)
    assert found.isfinite().all()
    a, change = (torch.tensor(x, dtype=dtype).double() for x in rows)
    p = torch.softmax(a, -1)
    mean = (p * change).sum(-1, keepdim=True)
    apart = (p * (change - mean).abs()).sum(-1, keepdim=True) + EPS[dtype] * mean.abs()
    scale = apart.clamp(max=1) + expected.abs().amax(-1, keepdim=True)
    gains = (change - mean).amax(-1, keepdim=True) > 1.5
    rounding = EPS[torch.promote_types(dtype, torch.float32)] * torch.maximum(p, expected + p) * gains
    several = 6 if dtype == torch.bfloat16 else 64  # the scores themselves, of up to 100, are rounded in float32 or 64
    assert ((found - expected).abs() <= several * (EPS[dtype] * scale + rounding / 4) + 1e-15).all()


@DTYPES
@given(rows=rows())
@settings(max_examples=50, deadline=None)
def test_a_row_does_not_depend_on_what_else_is_in_its_batch(dtype: torch.dtype, rows: Rows) -> None:
    whole = of_scores(*rows, dtype)
    for place, (scores, change) in enumerate(zip(*rows, strict=True)):
        assert torch.equal(whole[place : place + 1], of_scores([scores], [change], dtype))


def test_one_text_without_a_leading_axis_is_one_text_however_many_rows_it_has() -> None:
    generator = torch.Generator().manual_seed(3)
    queries, patterns = torch.randn(20, 4, generator=generator), torch.randn(9, 4, generator=generator)
    torch.testing.assert_close(hopattn(queries, patterns), hopattn(queries[None], patterns[None])[0])
