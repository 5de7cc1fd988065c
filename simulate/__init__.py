"""A platform's days, played against a running service: posts, people and time. Knows HTTP and the `seawall` command."""
