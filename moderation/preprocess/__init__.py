"""THE preprocessing: serving and training both call it, so a model is fed the same way in both."""
