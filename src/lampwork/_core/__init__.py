"""The leaf that every pillar stands on: errors, names, seeds, ranks, time. No torch."""
