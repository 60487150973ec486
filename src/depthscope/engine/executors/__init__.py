"""Where shards run. The seam is one function: shards go out, outcomes come back in any order."""
