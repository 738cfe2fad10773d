"""Rules over a record: what is wrong, where, the evidence, what to do. No torch."""
