"""Speed and memory as ratios measured in one run: `python -m benchmarks [name ...] [--dtype ...] [--out FILE]`."""

import os

# The same switches that the command line sets, for both sides of every pair.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
