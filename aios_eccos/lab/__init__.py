"""Measuring: evaluate, studies, benchmarks, demo, importers. It drives floor, decide and serve."""
