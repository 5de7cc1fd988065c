"""The fuse, a circuit breaker for removals: what would remove far more than is expected waits for people instead."""
