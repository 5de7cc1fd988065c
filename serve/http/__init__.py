"""What every route stands on: bodies within bounds, admission, errors, what a request passes before a route sees it."""
