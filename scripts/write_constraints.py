"""Writes constraints.txt: the installed versions of everything that the package and its dev extra need.

Run it in an environment where the tests pass: `.venv/bin/python scripts/write_constraints.py`.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
HEADER = "# Versions that passed the tests together; written by scripts/write_constraints.py.\n"


def closure(name: str, extras: frozenset[str]) -> dict[str, str]:
    """Names and versions of `name`'s installed requirements, direct and indirect, `name` itself left out."""
    found: dict[str, str] = {}
    todo = [(name, extras)]
    while todo:
        current, wanted = todo.pop()
        for text in importlib.metadata.requires(current) or []:
            need = Requirement(text)
            key = canonicalize_name(need.name)
            applies = need.marker is None or any(need.marker.evaluate({"extra": e}) for e in wanted | {""})
            if applies and key not in found:
                found[key] = importlib.metadata.version(key).split("+")[0]
                todo.append((key, frozenset(need.extras)))
    return found


if __name__ == "__main__":
    pins = sorted(closure("depthscope", frozenset({"dev"})).items())
    lines = [f"{name}=={version}\n" for name, version in pins]
    (ROOT / "constraints.txt").write_text(HEADER + "".join(lines), encoding="utf-8")
    print(f"constraints.txt: {len(lines)} versions")
