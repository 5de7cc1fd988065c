"""Statements of reasons: what a removal is, said to the public, and exported by day."""
