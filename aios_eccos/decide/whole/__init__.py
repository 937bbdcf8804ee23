"""The part of the optimizer that solves a large batch under its floors."""
