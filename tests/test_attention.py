import math

import pytest
import torch

from eqspike_seq.attention import hopattn, hopattn_change, key_bias, potential, weights


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


@pytest.mark.parametrize("size", [1e-9, 1e-3, 1.0, 30.0, 300.0])
def test_change_equals_the_difference_of_two_retrievals(size: float) -> None:
    query, patterns, change = random(2, 5, 4), random(2, 6, 4, seed=1), size * random(2, 5, 4, seed=2)
    found = hopattn_change(change[:, None, None], patterns[:, None], weights(query, patterns, None)[:, None])[:, 0, 0]
    expected = hopattn(query + change, patterns) - hopattn(query, patterns)
    torch.testing.assert_close(found, expected, atol=1e-13, rtol=1e-5 if size < 1e-6 else 1e-9)


def test_change_keeps_its_precision_in_bf16_where_a_difference_drowns() -> None:
    query, patterns = random(1, 64, 32), random(1, 64, 32, seed=1)
    change = 1e-4 * random(1, 64, 32, seed=2)
    truth = hopattn(query + change, patterns) - hopattn(query, patterns)

    def error(found: torch.Tensor) -> float:
        return float((found.double() - truth).norm() / truth.norm())

    low = [t.bfloat16() for t in (query, patterns, change)]
    p = weights(query, patterns, None).bfloat16()
    assert error(hopattn_change(low[2][:, None, None], low[1][:, None], p[:, None])[:, 0, 0]) < 0.03
    assert error(hopattn(low[0] + low[2], low[1]) - hopattn(low[0], low[1])) > 0.5


def test_one_text_without_a_leading_axis_is_one_text_however_many_rows_it_has() -> None:
    generator = torch.Generator().manual_seed(3)
    queries, patterns = torch.randn(20, 4, generator=generator), torch.randn(9, 4, generator=generator)
    torch.testing.assert_close(hopattn(queries, patterns), hopattn(queries[None], patterns[None])[0])
