"""Ablations: the paper's tables and the choices of our own, as a matrix of small cells over several seeds."""
