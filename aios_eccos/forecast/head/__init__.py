"""The trained head: fitting, storing and re-fitting it."""
