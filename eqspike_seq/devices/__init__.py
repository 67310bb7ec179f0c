"""Imperfect hardware: what a synapse makes of the weights programmed into it and of the updates it is given."""
