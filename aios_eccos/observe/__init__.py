"""Why that model, what it cost and saved, and whether the floor holds."""
