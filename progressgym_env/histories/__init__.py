"""Histories: sequences of centuries with a model each, and what was measured of them."""
