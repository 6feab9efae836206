"""Fovea beside other attention engines; docs/benchmarks.md."""
