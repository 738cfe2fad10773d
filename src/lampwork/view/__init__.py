"""Pictures and pages from a record: figures, one HTML file, the terminal. No torch."""
