"""Measures the figures of the README: ``python -m tools.benchmarks [NAME ...]``."""
