"""From phases to parameters: estimators, the trainer, a run."""
