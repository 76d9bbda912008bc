"""What every job has in common: plan, shards, journal, run folder, progress."""
