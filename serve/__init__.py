"""A post's way: request -> language and links -> variants -> policy -> ledger -> reply. Ray Serve under it."""
