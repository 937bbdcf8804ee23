"""The part of the optimizer that a kernel runs on every batch."""
