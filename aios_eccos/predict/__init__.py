"""What each model would do with a query: success, output length, money, and the floor's price."""
