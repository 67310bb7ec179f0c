"""Digits (Alpaydin & Kaynak 1998): 1,797 handwritten digits of 8 × 8 grey values, which come with scikit-learn.

They are the test part of the UCI set "Optical Recognition of Handwritten Digits"; a fifth of them is test here.
"""

import numpy as np

from eqspike_seq.data.corpus import Corpus, Split, image_of

BRIGHTEST = 16
TEST_SHARE = 0.2


def load_digits(seed: int = 0) -> Corpus:
    """The data set; training and test are cut by class, the same for every run unless another ``seed`` is asked for.

    An image is kept as mnist's are: characters, row by row, whose codes are grey values of 0 … 255.
    """
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    found = datasets.load_digits()
    grey = np.rint(found.data * (255 / BRIGHTEST)).astype(np.uint8)
    train, test = train_test_split(np.arange(len(grey)), test_size=TEST_SHARE, stratify=found.target, random_state=seed)

    def split(rows: np.ndarray) -> Split:  # type: ignore[type-arg]
        rows = np.sort(rows)
        texts = [image_of(image) for image in grey[rows]]
        return Split(texts, found.target[rows].astype(np.int64))

    return Corpus(
        "digits", tuple("0123456789"), split(train), split(test), source="comes with scikit-learn", images=True
    )
