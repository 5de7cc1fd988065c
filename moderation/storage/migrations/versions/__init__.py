"""The ledger's schema, step by step. A released step is never edited, and the only way down is a backup."""
