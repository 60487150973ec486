"""A task sheet with three small task files, written into a folder; and what changes in it, for wrong inputs."""

from __future__ import annotations

import json
from pathlib import Path

SHEET = """title = "Tiny"
model = "tiny-llama"
min_items = 4
tokens = 512
repeats = 3
prompts = 4
ladder = [10]

[prices]
currency = "EUR"
per_gpu_hour = 2.0

[[tasks]]
name = "sorting"
file = "sorting.jsonl"
type = "choice"
volume_per_month = 1000

[[tasks]]
name = "sums"
file = "sums.jsonl"
type = "math"
criticality = "A"
volume_per_month = 10
must_pass = ["3"]
"""


def write(folder: Path, text: str = SHEET, **files: list[dict[str, object]]) -> Path:
    """The sheet in a folder with its task files."""
    options = ["late", "paid", "nice"]
    sorting: list[dict[str, object]] = [
        {
            "task": "sorting",
            "kind": "choice",
            "id": str(k),
            "prompt": f"Mail {k}:",
            "options": options,
            "answer": "late",
        }
        for k in range(6)
    ]
    sums: list[dict[str, object]] = [
        {"task": "sums", "kind": "math", "id": str(k), "prompt": f"{k} + 2 =", "answer": k + 2, "length": 3}
        for k in range(6)
    ]
    for name, rows in ({"sorting": sorting, "sums": sums} | files).items():
        (folder / f"{name}.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
        )
    path = folder / "sheet.toml"
    path.write_text(text, encoding="utf-8")
    return path
