"""Checkpoints of the networks' own releases under our names, by concatenation and reshape, bit for bit."""
