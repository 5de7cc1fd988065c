"""Where things are kept: the ledger (SQL, the one truth) and the lake (Parquet, derived from it)."""
