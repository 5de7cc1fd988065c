"""What runs, and who is champion: the cluster, the proxy, the Serve config, promotion and rollback."""
