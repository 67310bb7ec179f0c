"""The phases of Equilibrium Propagation, spelt alike in code and in every file of a run."""

from enum import StrEnum


class Phase(StrEnum):
    """Free, nudged by +β, nudged by −β; and in ledgers what learning from them takes."""

    FREE = "free"
    PLUS = "nudge+"
    MINUS = "nudge-"
    UPDATE = "update"

    @classmethod
    def of(cls, beta: float) -> "Phase":
        """The nudge of this β."""
        return cls.PLUS if beta > 0 else cls.MINUS


RELAXED = (Phase.FREE, Phase.PLUS, Phase.MINUS)  # those in which the network moves, in their order
