"""Makes the made-up run of tests/report/synthetic.py importable."""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = str(Path(__file__).parent.parent / "report")
if FOLDER not in sys.path:
    sys.path.insert(0, FOLDER)
