"""People's side over HTTP: reports, leases, verdicts, appeals."""
