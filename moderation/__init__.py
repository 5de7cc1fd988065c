"""The ground floor: what serving, training and drift detection share. Knows no Ray."""
