"""Benchmark metrics and their intervals."""
