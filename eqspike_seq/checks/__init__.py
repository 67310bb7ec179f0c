"""Gradients and convergence, measured."""
