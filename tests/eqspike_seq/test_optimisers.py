"""Optimisers of our own, against their equations."""

import numpy as np
import pytest
import torch

from eqspike.build import configure, make_backend
from eqspike_seq.data.dataset import load_dataset
from eqspike_seq.errors import RunError
from eqspike_seq.learning.optimisers import MEMORY, make_optimizer
from eqspike_seq.learning.trainer import Trainer


def stepped(gradients: list[np.ndarray], scale: float = 1.0) -> np.ndarray:
    """A layer of zeros after a step of rate 0.5 along each of ``gradients``, times ``scale``."""
    weight = torch.zeros(gradients[0].shape, dtype=torch.float64)
    optimizer = make_optimizer("normalised-sgd", [{"params": [weight], "lr": 0.5}])
    for gradient in gradients:
        weight.grad = scale * torch.from_numpy(gradient)
        optimizer.step()
    return weight.numpy()


def test_normalised_steps_are_in_root_mean_squares_of_earlier_gradients() -> None:
    rng = np.random.default_rng(0)
    gradients = [size * rng.normal(size=(3, 4)) for size in (1.0, 5.0, 0.2, 3.0)]
    expected = np.zeros((3, 4))
    for step in range(1, 4):
        shares = MEMORY ** np.arange(step - 1, -1, -1)
        mean = sum(w * (g**2).mean() for w, g in zip(shares, gradients[:step], strict=True)) / shares.sum()
        expected -= 0.5 * gradients[step] / np.sqrt(mean)
    np.testing.assert_allclose(stepped(gradients), expected, rtol=1e-5)
    np.testing.assert_allclose(stepped(gradients, 1e-3), expected, rtol=1e-4)  # whatever the units of the gradient
    assert not stepped(gradients[:1]).any()  # nothing is known of its size yet
    assert not stepped([np.zeros((2, 2))] * 3).any()


@torch.no_grad()
def test_normalised_sgd_goes_on_from_a_checkpoint_as_if_nothing_had_happened() -> None:
    config = configure("mini", "dense", limit=96, batch=32, epochs=2, optimizer="normalised-sgd")
    data = load_dataset(config.data)
    whole, other = (Trainer(config, data, make_backend(config)) for _ in range(2))
    for _ in range(4):
        whole.train_batch()
    saved = whole.checkpoint()
    copies = {name: tensor.clone() for name, tensor in saved.model.items()}
    kept = {name: tensor.clone() for name, tensor in saved.optimizer.items()}
    assert {name.rsplit(".")[-1] for name in kept} == {"step", "square"}
    assert all(tensor.shape == () for tensor in kept.values())
    whole.train_batch()
    other.restore(type(saved)(copies, dict(kept), saved.state))
    other.train_batch()
    assert all(torch.equal(tensor, other.parameters[name]) for name, tensor in whole.parameters.items())
    with pytest.raises(RunError, match=r"w2\.square"):
        other.restore(type(saved)(copies, {**kept, "w2.square": torch.tensor(-1.0)}, saved.state))
