"""The paper's algorithm written out, which benchmarks measure against."""

import pytest
import torch

from benchmarks import literal
from eqspike_seq.relaxation.dense import DenseBackend
from tests.conftest import make_batch, make_network


@pytest.mark.parametrize("shape", [{}, {"attention": False}, {"masked": False}])
def test_literal_phases_end_where_the_dense_backend_does(shape: dict) -> None:
    network, batch = make_network(**shape), make_batch()
    dense = DenseBackend(free_steps=400, nudge_steps=400, tolerance=1e-13, dtype=torch.float64)
    truth = dense.free(network, batch)
    free = literal.free(network, batch.x, batch.mask, 300)
    nudged = literal.nudge(network, batch.x, batch.mask, batch.labels, free, 0.5, 300)
    (there,) = dense.nudge(network, batch, truth, (0.5,))
    for mine, theirs in ((free, truth.rates), (nudged, there.rates)):
        torch.testing.assert_close(mine.projection, theirs.projection, atol=1e-8, rtol=0)
        for a, b in zip(mine.layers, theirs.layers, strict=True):
            torch.testing.assert_close(a, b, atol=1e-8, rtol=0)
