"""Reading values off a running model."""
