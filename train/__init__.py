"""A label's way: labelled stream -> Ray Data -> Ray Train -> evaluation on a holdout -> gate -> MLflow."""
