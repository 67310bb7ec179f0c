"""Train a spiking network on your own list of texts.

python examples/own_texts.py
"""

from sklearn.model_selection import cross_val_score

from eqspike import EqSpikeClassifier

PLACES = ("the kitchen", "the bathroom", "our bedroom", "the hall", "the balcony")
PROBLEMS = {
    "water": ("a tap drips in {}", "the pipe leaks in {}", "water runs down the wall of {}"),
    "power": ("the lamp is dark in {}", "no socket works in {}", "sparks come from the switch in {}"),
    "heat": ("the radiator stays cold in {}", "it is freezing in {}", "the heating rattles in {}"),
}
TEXTS = [text.format(place) for place in PLACES for texts in PROBLEMS.values() for text in texts]
LABELS = [label for _ in PLACES for label, texts in PROBLEMS.items() for _ in texts]


def main() -> None:
    model = EqSpikeClassifier(backend="spiking", epochs=12)
    accuracy = cross_val_score(model, TEXTS, LABELS, cv=3).mean()
    print(f"cross-validated accuracy: {accuracy:.0%}")
    model.fit(TEXTS, LABELS)
    text = "there is water on the floor, a pipe drips"
    print(f"{text}: {model.predict([text])[0]}")
    for label, share in zip(model.classes_, model.predict_proba([text])[0], strict=True):
        print(f"  {label} {share:.2f}")


if __name__ == "__main__":
    main()
