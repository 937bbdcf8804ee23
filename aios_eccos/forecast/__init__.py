"""What each model would do with a query, and what that costs."""
