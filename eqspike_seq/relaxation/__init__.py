"""Phases: what a backend is, the dense one, batches by length."""
