"""Labels, what people or the platform say of posts: they come in here, and leave for whoever else learns from them."""
