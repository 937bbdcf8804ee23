"""Which model serves which call: one rule, one place for every reason, assignment under limits."""
