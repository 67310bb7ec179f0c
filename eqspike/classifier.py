"""The network as a scikit-learn classifier of texts: in memory, without a word, without a run folder."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from analysis.energy import DIGITAL, part_of
from eqspike.build import configured, make_backend, refuse_idle
from eqspike.prediction import Predictor
from eqspike_seq.config.examples import Texts
from eqspike_seq.config.section import flat
from eqspike_seq.config.settings import WHERE, RunConfig
from eqspike_seq.data.batches import batches_of
from eqspike_seq.data.corpus import Corpus, Split
from eqspike_seq.data.dataset import Dataset
from eqspike_seq.data.embeddings import Embeddings
from eqspike_seq.data.sight import Reading
from eqspike_seq.data.sizes import sizes
from eqspike_seq.data.tokens import tokenise
from eqspike_seq.errors import ConfigError, DataError, RunError
from eqspike_seq.files import read_json
from eqspike_seq.learning.evaluation import Evaluation, evaluate
from eqspike_seq.learning.trainer import Trainer
from eqspike_seq.runs.archive import opened, pack
from eqspike_seq.runs.vocabulary import as_file
from eqspike_seq.runs.weights import VECTORS, WEIGHTS
from neuromorphic.pricing import Joules, read_table

GIVEN = ("backend", "neuron", "beta", "epochs", "seed")  # settings that are parameters
OF_RUNS = (
    *WHERE,
    "dataset",
    "checkpoint_every",
    "device_model",
    "start",
    "text_column",
    "label_column",
    "strict",
    "class_names",
    "limit",
    "shuffle_words",
    "patience",  # nothing is held out for validation
)  # no other's


class EqSpikeClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classify texts by Equilibrium Propagation, on spiking neurons or dense rates.

    ``backend`` "spiking" or "dense"; ``neuron`` what spikes ("sigma-delta", "if", "lif", "bernoulli"); ``beta`` β, the
    influence factor of the nudges; ``epochs`` passes over the texts, None: 5 to 100, more over few of them;
    ``random_state`` an integer, a RandomState or None (other weights each time); ``settings`` any other setting of
    ``eqspike run`` by its name, as {"hidden": (32,)}. What is not set follows from the texts (``data.sizes``).

    >>> texts = ["what a lovely day", "oh dear", "lovely, lovely", "dear me, oh no"] * 10
    >>> model = EqSpikeClassifier(epochs=5).fit(texts, ["good", "bad", "good", "bad"] * 10)
    >>> model.predict(["a lovely thing", "oh no"])
    array(['good', 'bad'], dtype='<U4')
    >>> (why,) = model.explain(["a lovely thing"])  # words and n-grams with their shares of the evidence
    >>> why[0][0]
    'lovely'
    >>> round(1e6 * model.energy(texts, "loihi").value)  # microjoules an inference
    4

    After ``fit``: ``classes_`` (C,) sorted labels; ``network_`` the parameters; ``reading_`` the vocabulary and its
    vectors; ``config_`` all settings. The same texts, labels and integer give the same network on one machine.
    """

    def __init__(
        self,
        backend: str = "spiking",
        neuron: str = "sigma-delta",
        beta: float = 0.5,
        epochs: float | None = None,
        random_state: Any = 0,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.backend = backend
        self.neuron = neuron
        self.beta = beta
        self.epochs = epochs
        self.random_state = random_state
        self.settings = settings

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags

    def fit(self, X: Iterable[str], y: Any, **others: Any) -> "EqSpikeClassifier":
        """Train on texts and their labels (n,). Raises DataError, ConfigError; DivergenceError if it does not hold.

        Every text counts alike: ``others``, such as ``sample_weight``, are refused by name.
        """
        if others:
            raise ConfigError(
                f"fit: got {', '.join(others)}, expected texts and labels only, since all texts have the same weight. "
                "Leave it out; to give a text more weight, repeat it."
            )
        texts, labels = texts_of(X), column_or_1d(y, warn=True)
        check_classification_targets(labels)
        if len(texts) != len(labels):
            raise DataError(f"fit: got {len(texts)} texts and {len(labels)} labels, expected the same number of both")
        classes, rows = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise DataError(f"fit: got {len(classes)} class, expected at least two")
        split, none = Split(texts, rows.astype(np.int64)), Split([], np.zeros(0, dtype=np.int64))
        names = tuple(str(label) for label in classes)
        config = self._configured(texts, len(classes))
        seen = _texts(config)
        corpus = Corpus("texts", names, split, none, none)
        read = seen.sight.read(corpus, seen.tokeniser, seen.embeddings, None)
        train, empty = read.encoded["train"], read.encoded["test"]
        data = Dataset("texts", names, False, "given", read.embeddings, train, empty, empty, [], {}, ratios=read.ratios)
        trainer = Trainer(config, data, make_backend(config))
        with torch.no_grad():
            while trainer.step < trainer.total:
                trainer.train_batch()
        self.classes_, self.config_ = classes, config
        learnt = replace(read.embeddings, table=trainer.gather.table.cpu().numpy())
        self.network_, self.reading_ = trainer.network, replace(read, embeddings=learnt)
        return self

    def predict(self, X: Iterable[str]) -> NDArray[Any]:
        """The class of the largest output rate of each text, (n,)."""
        check_is_fitted(self)
        return np.asarray(self.classes_[self._rates(X).argmax(1)])

    def predict_proba(self, X: Iterable[str]) -> NDArray[np.float64]:
        """Output rates r of the free phase, normalised, (n, C): p = r / Σ r; 1/C each where no output fires.

        They rank the classes as the network does. Training draws rates, not logarithms, towards the labels, so they
        are no calibrated probabilities; CalibratedClassifierCV makes such of them.
        """
        rates = self._rates(X)
        total = rates.sum(1, keepdims=True)
        return np.where(total > 0, rates / np.where(total > 0, total, 1.0), 1 / rates.shape[1])

    def explain(self, X: Iterable[str]) -> list[tuple[tuple[str, float], ...]]:
        """Of each text its words and n-grams with their shares of the evidence, those that decided most first.

        Above 0 is what speaks for the answer, below 0 what speaks against it. Raises ConfigError for a network whose
        tokens ask.
        """
        check_is_fitted(self)
        reading = self.reading_
        if reading.grams is None:
            raise ConfigError("explain: got a network of tokens, expected one of pooling queries, which is the default")
        names, table = reading.names(), torch.from_numpy(reading.embeddings.table)
        classes = tuple(map(str, self.classes_))
        asked = Predictor(
            *(self.config_, classes, names, reading.grams.words, table, self.network_, make_backend(self.config_)),
            single=None,
            grams=reading.grams,
        )
        return [asked.predict(text, explain=True).patterns for text in texts_of(X)]

    def energy(self, X: Iterable[str], hardware: str = DIGITAL) -> Joules:
        """Joules of an inference, mean over texts, with their range, on a cost table: its name, or its TOML file.

        Raises ConfigError where there is no such table.
        """
        return Joules(**part_of(self._evaluated(X).ledger, read_table(hardware))["joules"])

    def save(self, path: Path | str) -> None:
        """Write the network, its vocabulary and its settings as a zip, which ``load`` and `eqspike predict` open.

        Nothing in it is run when it is read. Raises RunError where it cannot be written.
        """
        check_is_fitted(self)
        embeddings = self.reading_.embeddings
        names, labels = tuple(map(str, self.classes_)), self.classes_.tolist()
        vocabulary = as_file(["", *self.reading_.names()], names, labels=labels)
        table = save({"vectors": torch.from_numpy(embeddings.table)})
        weights = save({name: tensor.contiguous() for name, tensor in self.network_.named()})
        files = {"config.toml": self.config_.to_toml(), "vocabulary.json": vocabulary, VECTORS: table, WEIGHTS: weights}
        pack(files, Path(path))

    @classmethod
    def load(cls, path: Path | str) -> "EqSpikeClassifier":
        """The classifier that was saved there, or that of a run on texts: its folder, a zip, or a model's name.

        It answers as before. ``fit`` trains another of the same settings. Raises RunError or ConfigError.
        """
        folder = opened(Path(path))
        found = Predictor.open(folder, many=False)
        config, labels = found.config, read_json(folder / "vocabulary.json").get("labels")
        if found.data.inputs > 1:
            raise ConfigError(f"load: {path} is a run on pairs of texts, expected one on single texts")
        named = (*GIVEN, *OF_RUNS, "preset")
        kept = {name: value for name, value in flat(config).items() if name not in named and value is not None}
        model = cls(config.backend.name, epochs=config.learning.epochs, random_state=config.run.seed, settings=kept)
        model.set_params(beta=config.learning.beta, neuron=flat(config.backend).get("neuron", "sigma-delta"))
        model.classes_ = np.array(found.classes if labels is None else labels)
        if len(model.classes_) != len(found.classes):
            raise RunError(f"load: {path} has {len(model.classes_)} labels, expected {len(found.classes)}")
        embeddings = Embeddings(found.table.numpy(), found.index, "", str(path))
        model.config_, model.network_ = config, found.network
        model.reading_ = Reading(embeddings, {}, {}, grams=found.grams)
        return model

    def _rates(self, X: Iterable[str]) -> NDArray[np.float64]:
        """Output rates, (n, C)."""
        return self._evaluated(X).rates.astype(np.float64)

    def _evaluated(self, X: Iterable[str]) -> Evaluation:
        check_is_fitted(self)
        texts, seen = texts_of(X), _texts(self.config_)
        part = seen.sight.encode(texts, self.reading_, seen.tokeniser)
        gather = batches_of(self.config_, self.reading_.embeddings.table)
        backend = make_backend(self.config_)
        return evaluate(backend, self.network_, gather, part, self.config_.learning.batch)

    def _configured(self, texts: list[str], classes: int) -> RunConfig:
        """Those of the preset ``mini``, what follows from the texts, ``settings``, the parameters."""
        tokeniser = (self.settings or {}).get("tokeniser", Texts.tokeniser)
        lengths = [len(tokenise(text, tokeniser)) for text in texts]
        if not any(lengths):
            raise DataError(f"fit: none of the {len(texts)} texts holds a word; expected words, numbers or emoji")
        network = (self.settings or {}).get("network", "pooling")
        chosen = {"network": network, "tokeniser": tokeniser, **(self.settings or {})}
        chosen = {**sizes(lengths, classes, len(texts), network=network), **chosen}
        if both := sorted(set(GIVEN) & set(self.settings or {})):
            raise ConfigError(
                f"settings: got {', '.join(both)}, which are parameters of the classifier. Pass them directly."
            )
        if idle := sorted(set(OF_RUNS) & set(self.settings or {})):
            raise ConfigError(f"settings: got {', '.join(idle)}, which apply to `eqspike run` only. Leave them out.")
        if self.epochs is not None:
            chosen["epochs"] = self.epochs
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        chosen |= {"neuron": self.neuron, "beta": self.beta, "seed": seed}
        if self.backend not in ("dense", "spiking"):
            raise ConfigError(f"backend: got {self.backend!r}, expected 'spiking' or 'dense'")
        config = configured("mini", self.backend, "", chosen)
        given = dict(self.settings or {}) | ({"neuron": self.neuron} if self.neuron != "sigma-delta" else {})
        refuse_idle(flat(config), given)
        return config


def _texts(config: RunConfig) -> Texts:
    """How the network sees texts."""
    assert isinstance(config.data, Texts)
    return config.data


def texts_of(X: Iterable[str]) -> list[str]:
    """``X`` as a list. Raises DataError where it is not a collection of strings, or is empty."""
    if isinstance(X, str):
        raise DataError("X: got one string, expected a list of texts. Put it into a list.")
    texts = list(X)
    if not texts:
        raise DataError("X: got no text, expected at least one")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"X: got {type(text).__name__} in row {row}, expected a string in each row")
    return [str(text) for text in texts]
