"""How time, memory and requests to Redis grow with batches, records, models and kernels."""
