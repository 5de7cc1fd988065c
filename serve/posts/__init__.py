"""A post's way: from the request to the decision."""
