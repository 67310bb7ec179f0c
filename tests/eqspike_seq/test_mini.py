from collections import Counter

import numpy as np
import pytest

from eqspike_seq.data.mini import BAD, FORMS, GOOD, SIZES, load_mini, write_reviews
from eqspike_seq.data.tokens import tokenise


def test_sizes_balance_and_no_text_twice() -> None:
    corpus = load_mini()
    assert corpus.validation is not None and corpus.synthetic
    parts = {"train": corpus.train, "validation": corpus.validation, "test": corpus.test}
    texts = [text for part in parts.values() for text in part.texts]
    assert len(set(texts)) == len(texts) == sum(SIZES.values())
    for name, part in parts.items():
        assert len(part) == SIZES[name] and part.labels.sum() == SIZES[name] // 2
    assert max(len(tokenise(text, "ascii")) for text in texts) <= 40


def test_the_seed_decides() -> None:
    assert load_mini(0).train.texts == load_mini(0).train.texts != load_mini(1).train.texts


def test_forms_occur_in_their_shares() -> None:
    forms = Counter(review.form for reviews in write_reviews(0).values() for review in reviews)
    for form, (share, _) in FORMS.items():
        assert forms[form] / 3000 == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("form", ["hope", "turn", "instead"])
def test_swapping_the_adjectives_turns_the_label_and_keeps_the_bag(form: str) -> None:
    good, bad = set(GOOD), set(BAD)
    for review in write_reviews(0)["test"]:
        if review.form != form:
            continue
        words = tokenise(review.text, "ascii")
        places = [i for i, word in enumerate(words) if word in good | bad]
        first, second = places
        assert (words[second] in good) == (review.label == 1) and (words[first] in good) == (review.label == 0)
        template = FORMS[form][1].replace("{other}", "A").replace("{same}", "B")
        assert template.index("A") < template.index("B")  # so the swapped text is this form with the other label


def test_a_bag_of_words_cannot_decide_it() -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    corpus = load_mini()
    bags = CountVectorizer(analyzer=lambda text: tokenise(text, "ascii")).fit(corpus.train.texts)
    model = LogisticRegression(max_iter=2000).fit(bags.transform(corpus.train.texts), corpus.train.labels)
    accuracy = model.score(bags.transform(corpus.test.texts), corpus.test.labels)
    assert accuracy < 0.84
    decided = np.array([r.form in ("hope", "turn", "instead") for r in write_reviews(0)["test"]])
    right = model.predict(bags.transform(corpus.test.texts)) == corpus.test.labels
    assert abs(right[decided].mean() - 0.5) < 0.12 and right[~decided].mean() > 0.75
