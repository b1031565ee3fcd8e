"""Algorithms for 3x3 convolutions besides XLA's own, and the choice among them for a device."""
