"""The one error tree: every message says what was got, what was expected and what to do."""


class EqspikeError(ValueError):
    """A mistake in what eqspike was given; the command line prints it and exits with code 2."""


class DataError(EqspikeError):
    """Data that is missing, corrupt or not of the expected form."""


class ConfigError(EqspikeError):
    """A setting that is unknown, out of range or contradicts another."""


class RunError(EqspikeError):
    """A run folder that cannot be written, read or resumed."""


class DivergenceError(RunError):
    """Training whose numbers are no longer finite; its last checkpoint is kept."""


class NumericalError(DivergenceError):
    """The same where weights and losses before it were ordinary: a fault of the arithmetic, not of the settings."""
