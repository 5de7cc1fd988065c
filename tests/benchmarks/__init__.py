"""What costs what. Each benchmark ends in one line of JSON."""
