"""Who should answer: the least-cost assignment of waiting calls under floors and limits."""
