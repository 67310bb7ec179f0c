"""Training and testing on another device, of which there is none here: see ``tests.elsewhere``."""

from typing import Any

import numpy as np
import pytest
import torch

from eqspike.build import configure, make_backend
from eqspike_seq.data.dataset import load_dataset
from eqspike_seq.learning import trainer
from eqspike_seq.learning.evaluation import evaluate
from eqspike_seq.learning.trainer import Trainer
from tests.elsewhere import CUDA, Elsewhere

POOLING = {"network": "pooling", "embeddings": "random", "min_texts": 1, "dim": 8}


def trained(backend: str, settings: dict[str, Any]) -> tuple[dict[str, torch.Tensor], Any]:
    """Parameters and patterns after three batches, and what is found on validation."""
    config = configure("mini", backend, limit=60, batch=12, precision="float32", **settings)
    data = load_dataset(config.data)
    made = Trainer(config, data, make_backend(config))
    with torch.no_grad():
        for _ in range(3):
            made.train_batch()
        made.checkpoint()
        found = evaluate(made.backend, made.network, made.gather, data.validation, 12)
    learnt = {} if made.patterns is None else {"X": made.patterns.table}
    assert {tensor.device.type for tensor in made.parameters.values()} == {made.gather.table.device.type}
    return {name: tensor.cpu() for name, tensor in (made.parameters | learnt).items()}, found


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "pooling": ("dense", POOLING),
    "tokens": ("dense", {}),
    "sgd": ("dense", {"optimizer": "sgd", "learning_rate": (0.05,)}),
    "bptt": ("dense", {**POOLING, "estimator": "bptt", "bptt_steps": 2}),
    "changes": ("spiking", {**POOLING, "neuron": "sigma-delta"}),
    "rates": ("spiking", {**POOLING, "neuron": "if"}),
}


@pytest.mark.parametrize("case", CASES)
def test_another_device_learns_the_same(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, validation = trained(*CASES[case])
    monkeypatch.setattr(trainer, "torch_device", lambda _: CUDA)
    with Elsewhere():
        found, other = trained(*CASES[case])
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=1e-4, atol=1e-6, msg=name)
    np.testing.assert_allclose(other.rates, validation.rates, rtol=0, atol=1e-4)


def test_tensors_on_two_devices_are_refused() -> None:
    with Elsewhere():
        x = torch.zeros(3).to(CUDA)
        assert x.device == CUDA and (x + 1).device == CUDA and torch.ones(2, device=CUDA).device == CUDA
        x.add_(2)
        assert x.cpu().tolist() == [2, 2, 2] and float(x.sum()) == 6
        for wrong in (lambda: x + torch.ones(3), lambda: torch.rand(2, generator=torch.Generator(), device=CUDA)):
            with pytest.raises(TypeError):
                wrong()
        with pytest.raises((TypeError, RuntimeError)):
            x.numpy()
