"""What a run records: `metrics.json`, the tables in memory that it keeps, and no path of this machine."""
