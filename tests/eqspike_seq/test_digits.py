"""The embedded digits: fixed splits of real images, and networks that learn them in seconds."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn import datasets

from eqspike.build import configure, make_backend
from eqspike_seq.data.batches import Batches
from eqspike_seq.data.dataset import load_dataset, shape_of, split
from eqspike_seq.data.images import load_digits
from eqspike_seq.errors import ConfigError
from eqspike_seq.learning.evaluation import evaluate
from eqspike_seq.learning.trainer import Trainer


def test_every_image_is_in_one_split_and_splits_are_by_class() -> None:
    whole = load_digits()
    corpus = split(whole)
    assert corpus.validation is not None
    parts = (corpus.train, corpus.validation, corpus.test)
    assert sum(map(len, parts)) + corpus.counts["train_texts_dropped_as_in_test"] == 1797
    assert len({text for part in parts for text in part.texts}) == sum(len(set(part.texts)) for part in parts)
    for part, share in ((whole.test, 0.2), (corpus.validation, 0.08)):
        counts = np.bincount(part.labels, minlength=10)
        assert np.abs(counts - share * 179.7).max() < 4
    assert load_digits().test.texts == whole.test.texts and load_digits(seed=1).test.texts != whole.test.texts


def test_pixels_reach_the_network_as_they_are() -> None:
    config = configure("digits", "spiking")
    data = load_dataset(config.data)
    shape = shape_of(config, data)
    assert shape.clamped and shape.sizes == (64, *config.network.hidden, 10)
    rows = np.arange(20)
    found = Batches.of(config, data)(data.test, rows).x.view(20, 64)
    images, labels = datasets.load_digits(return_X_y=True)
    known = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    sixteenths = (found * 16).round().double().numpy()
    np.testing.assert_allclose(found.numpy(), sixteenths / 16, atol=1 / 255)
    assert [known[image.tobytes()] for image in sixteenths] == data.test.labels[rows].tolist()


@pytest.mark.parametrize("flags", [{"tokens": 64}, {"attention": True}, {"embeddings": "random"}])
def test_settings_of_texts_are_refused(flags: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigError, match=f"--{next(iter(flags))} .*acts with texts only|--attention: acts with texts only"
    ):
        configure("digits", "dense", **flags)


@pytest.mark.parametrize("neuron", ["if", "sigma-delta"])
def test_spikes_learn_real_digits(neuron: str) -> None:
    """Half the preset's epochs."""
    config = configure("digits", "spiking", neuron=neuron, epochs=10)
    trainer = Trainer(config, load_dataset(config.data), make_backend(config))
    with torch.no_grad():
        while trainer.step < trainer.total:
            trainer.train_batch()
    found = evaluate(trainer.backend, trainer.network, trainer.gather, trainer.dataset.validation, 500)
    assert found.accuracy > 0.95
