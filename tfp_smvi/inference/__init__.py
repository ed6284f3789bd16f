"""Log-normalizers and posteriors of log densities; no network is needed."""
