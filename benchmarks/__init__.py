"""Benchmarks: playing agents on challenges, and speed measurements."""
