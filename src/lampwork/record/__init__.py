"""What a run leaves on disk: one SQLite file per rank, readable while it is written. No torch."""
