"""The network as a scikit-learn classifier of texts: in memory, without a word, without a run folder."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from eqspike.build import configured, make_backend, refuse_idle
from eqspike_seq.config.examples import Texts
from eqspike_seq.config.section import flat
from eqspike_seq.config.settings import WHERE, RunConfig
from eqspike_seq.data.batches import batches_of
from eqspike_seq.data.corpus import Corpus, Split
from eqspike_seq.data.dataset import Dataset
from eqspike_seq.data.sizes import sizes
from eqspike_seq.data.tokens import tokenise
from eqspike_seq.errors import ConfigError, DataError
from eqspike_seq.learning.evaluation import evaluate
from eqspike_seq.learning.trainer import Trainer

GIVEN = ("backend", "neuron", "beta", "epochs", "seed")  # settings that are parameters
OF_RUNS = (
    *WHERE,
    "dataset",
    "checkpoint_every",
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

    After ``fit``: ``classes_`` (C,) sorted labels; ``network_`` the parameters; ``reading_`` the vocabulary and its
    vectors; ``config_`` all settings. The same texts, labels and integer give the same network on one machine.
    """

    def __init__(
        self,
        backend: str = "spiking",
        neuron: str = "sigma-delta",
        beta: float = 0.5,
        epochs: int | None = None,
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
                f"fit: got {', '.join(others)}, expected texts and labels only: every text counts alike. "
                "Leave it out; to give a text more weight, repeat it."
            )
        texts, labels = texts_of(X), column_or_1d(y, warn=True)
        check_classification_targets(labels)
        if len(texts) != len(labels):
            raise DataError(f"fit: got {len(texts)} texts and {len(labels)} labels, expected as many of each")
        classes, rows = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise DataError(f"fit: got {len(classes)} class, expected at least two, so that there is one to tell apart")
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

    def _rates(self, X: Iterable[str]) -> NDArray[np.float64]:
        """Output rates, (n, C)."""
        check_is_fitted(self)
        texts, seen = texts_of(X), _texts(self.config_)
        part = seen.sight.encode(texts, self.reading_, seen.tokeniser)
        gather = batches_of(self.config_, self.reading_.embeddings.table)
        backend = make_backend(self.config_)
        return evaluate(backend, self.network_, gather, part, self.config_.learning.batch).rates.astype(np.float64)

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
                f"settings: got {', '.join(both)}, which are parameters of their own. Give them as those."
            )
        if idle := sorted(set(OF_RUNS) & set(self.settings or {})):
            raise ConfigError(f"settings: got {', '.join(idle)}, which act with `eqspike run` only. Leave them out.")
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
