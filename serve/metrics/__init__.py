"""What happened to posts, and what came of moderation: events in, online metrics out, over HTTP and to Prometheus."""
