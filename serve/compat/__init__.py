"""Routes for clients of other moderation services: OpenAI's moderations, and Perspective."""
