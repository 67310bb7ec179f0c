"""Equilibrium Propagation on sequences: what is learnt, on dense rates; the rooms above it build on this one."""
