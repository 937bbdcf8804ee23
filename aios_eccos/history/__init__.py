"""What happened before: past queries, their embeddings, and what each model did with them."""
