"""Text to vectors: the embedders, and a cache between runs."""
