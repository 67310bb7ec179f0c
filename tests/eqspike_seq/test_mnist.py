"""MNIST: files in all their forms, and a network whose first layer is the pixels themselves."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from eqspike.build import configure, make_backend
from eqspike_seq.data.batches import Batches
from eqspike_seq.data.dataset import load_dataset, shape_of
from eqspike_seq.data.images import OFFICIAL, load_mnist
from eqspike_seq.errors import ConfigError, DataError
from eqspike_seq.learning.estimators import BPTT, ThreePhase
from eqspike_seq.model.batch import Batch
from eqspike_seq.model.projection import DenseProjection
from eqspike_seq.relaxation.dense import DenseBackend, sweep
from neuromorphic.change_code import SigmaDeltaBackend
from neuromorphic.rate_code import SpikingBackend
from tests.conftest import make_clamped

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (140, 28, 28), dtype=np.uint8)
LABELS = np.arange(140, dtype=np.uint8) % 10


def idx(array: np.ndarray) -> bytes:  # type: ignore[type-arg]
    return struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder: Path, zipped: bool) -> None:
    for source, array in zip(OFFICIAL, (IMAGES[:100], LABELS[:100], IMAGES[100:], LABELS[100:]), strict=True):
        name = source.file if zipped else source.file.removesuffix(".gz")
        (folder / name).write_bytes(gzip.compress(idx(array)) if zipped else idx(array))


def write_npz(folder: Path, **changes: np.ndarray) -> None:  # type: ignore[type-arg]
    arrays = {"x_train": IMAGES[:100], "y_train": LABELS[:100], "x_test": IMAGES[100:], "y_test": LABELS[100:]}
    np.savez(folder / "mnist.npz", **(arrays | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["npz", "idx", "idx.gz"])
def test_all_forms_hold_the_same(tmp_path: Path, form: str) -> None:
    write_npz(tmp_path) if form == "npz" else write_idx(tmp_path, form == "idx.gz")
    corpus = load_mnist(tmp_path)
    assert len(corpus.train) == 100 and len(corpus.test) == 40 and len(corpus.classes) == 10
    assert [ord(pixel) for pixel in corpus.test.texts[3]] == IMAGES[103].flatten().tolist()
    assert corpus.test.labels.tolist() == LABELS[100:].tolist()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"x_test": IMAGES[100:, :27]}, "(40, 27, 28)"),
        ({"y_test": LABELS[101:]}, "(39,)"),
        ({"y_train": LABELS[:100] + 5}, "row 5 has label 10"),
    ],
)
def test_arrays_that_will_not_do_are_named(tmp_path: Path, changes: dict[str, np.ndarray], says: str) -> None:  # type: ignore[type-arg]
    write_npz(tmp_path, **changes)
    with pytest.raises(DataError, match=says.replace("(", r"\(").replace(")", r"\)")):
        load_mnist(tmp_path)


@pytest.mark.parametrize("damage", [b"", b"\x00\x00\x08", b"\x00\x00\x08\x03" + b"\xff" * 12 + b"12", b"PK not idx"])
def test_damaged_idx_files_are_named(tmp_path: Path, damage: bytes) -> None:
    write_idx(tmp_path, zipped=False)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(damage)
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte is not an IDX file"):
        load_mnist(tmp_path)


def test_damaged_archives_are_named(tmp_path: Path) -> None:
    (tmp_path / "mnist.npz").write_bytes(b"PK\x03\x04 half")
    with pytest.raises(DataError, match=r"mnist\.npz"):
        load_mnist(tmp_path)
    (tmp_path / "mnist.npz").unlink()
    write_idx(tmp_path, zipped=True)
    whole = (tmp_path / OFFICIAL[0].file).read_bytes()
    (tmp_path / OFFICIAL[0].file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz cannot be read"):
        load_mnist(tmp_path)


def test_pixels_reach_the_network_as_they_are(tmp_path: Path) -> None:
    write_npz(tmp_path)
    config = configure("mnist", "dense", data_dir=tmp_path)
    data = load_dataset(config.data)
    batch = Batches.of(config, data)(data.test, np.arange(40))
    torch.testing.assert_close(batch.x.view(40, 28, 28), torch.from_numpy(IMAGES[100:]) / 255)
    shape = shape_of(config, data)
    assert shape.clamped and shape.sizes == (784, *config.network.hidden, 10)


@pytest.mark.parametrize(
    ("flags", "says"),
    [({"tokens": 100}, "--tokens"), ({"attention": True}, "--attention")],
)
def test_settings_that_do_not_fit_images_are_refused(flags: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        configure("mnist", "dense", **flags)


def test_dropped_pixels_go_dark_and_the_others_stay_where_they_are(tmp_path: Path) -> None:
    write_npz(tmp_path)
    config = configure("mnist", "dense", data_dir=tmp_path)
    data = load_dataset(config.data)
    gather, rows = Batches.of(config, data), np.arange(40)
    whole = gather(data.test, rows).x
    found = gather.lookup(data.test, rows, 0.3, np.random.default_rng(0)).whole().x
    assert ((found == whole) | (found == 0)).all()
    assert float((found == 0)[whole > 0].double().mean()) == pytest.approx(0.3, abs=0.02)


def test_ep_of_a_clamped_network_is_bptt() -> None:
    network, batch = make_clamped()
    exact = DenseBackend(500, 500, tolerance=1e-14, dtype=torch.float64)
    found, truth = ThreePhase(1e-3)(exact, network, batch).gradients, BPTT(60)(exact, network, batch).gradients
    assert set(found) == {"w2", "b2", "w3", "b3", "w4", "b4"} == set(truth)
    for name, value in truth.items():
        torch.testing.assert_close(found[name], value, atol=1e-7, rtol=1e-4)


def test_clamped_means_that_nothing_moves_the_input() -> None:
    network, batch = make_clamped()
    projection, state = DenseProjection.of(network, batch, torch.float64), network.rest(8)
    for _ in range(3):
        state = sweep(projection, state)
    torch.testing.assert_close(state.projection, batch.x)
    u = batch.x.flatten(1) @ network.weights[0].T + state.layers[1] @ network.weights[1] + network.biases[0]
    torch.testing.assert_close(sweep(projection, state).layers[0], (u / 2).clamp(0, 1), atol=1e-2, rtol=0)


@pytest.mark.parametrize("kind", ["if", "sigma-delta"])
def test_spiking_pixels_give_the_gradient_of_the_rates(kind: str) -> None:
    network, batch = make_clamped()
    exact = DenseBackend(500, 500, tolerance=1e-13, dtype=torch.float64)
    truth = ThreePhase(0.5)(exact, network, batch).gradients
    backend = (
        SpikingBackend(2000, 2000, 1600, dtype=torch.float64)
        if kind == "if"
        else SigmaDeltaBackend(40, 40, (0.01,), 0.01, nudge_threshold=1e-3, dtype=torch.float64)
    )
    found = ThreePhase(0.5)(backend, network, batch).gradients
    for name in ("w2", "w3", "w4"):
        assert torch.nn.functional.cosine_similarity(found[name].flatten(), truth[name].flatten(), 0) > 0.98, name


def test_ledger_counts_pixels_and_no_way_back_to_them() -> None:
    """Hand count: 6 pixels of ½ and ½, threshold ½, are one spike each, to 9 neurons; nothing comes down to them."""
    network, batch = make_clamped((9,))
    batch = Batch(torch.full_like(batch.x, 0.5), batch.mask, batch.labels)
    ledger = SigmaDeltaBackend(projection_threshold=0.5).free(network.to(torch.float32), _single(batch)).ledger
    assert ledger.synapses == {"w2": 8 * 6 * 9, "w3": 8 * 2 * 9 * 3}
    first, second = ledger.counts["s1"]["free"], ledger.counts["s2"]["free"]
    assert first["spikes"] == 8 * 6 and first["synaptic_events"] == 8 * 6 * 9 and first["multiply_accumulates"] == 0
    assert second["synaptic_events"] == 3 * second["spikes"]


def _single(batch: Batch) -> Batch:
    return Batch(batch.x.float(), batch.mask, batch.labels)


def test_real_digits_are_learnt(real_data: Path) -> None:
    """A few thousand real digits, one epoch: far above chance, spiking."""
    from eqspike_seq.learning.evaluation import evaluate
    from eqspike_seq.learning.trainer import Trainer

    config = configure("mnist", "spiking", neuron="sigma-delta", limit=4000, epochs=4, data_dir=real_data)
    trainer = Trainer(config, load_dataset(config.data), make_backend(config))
    with torch.no_grad():
        while trainer.step < trainer.total:
            trainer.train_batch()
    found = evaluate(trainer.backend, trainer.network, trainer.gather, trainer.dataset.validation, 500)
    assert found.accuracy > 0.8 and found.ledger.total("graded_events") == 0
