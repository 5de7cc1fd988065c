"""An alert's way: feature log -> Evidently -> alert -> retrain request."""
