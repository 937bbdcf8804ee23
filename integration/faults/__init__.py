"""Faults put into a running router on purpose, and what its calls see of them."""
