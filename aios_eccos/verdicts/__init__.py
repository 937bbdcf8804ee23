"""Where a verdict on an answer comes from, and where it is counted."""
