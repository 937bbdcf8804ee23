"""Whether the routing is worth it: replay over recorded answers, baselines and metrics."""
