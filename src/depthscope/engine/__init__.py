"""One pass: plans, shards, resumes, adds up."""
