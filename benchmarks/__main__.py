"""`python -m benchmarks [NAME ...] [--model NAME] [--dtype TYPE] [--out FILE]`; `--help` lists the names."""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import asdict
from pathlib import Path

import torch

import depthscope as ds
from benchmarks.cases import CASES
from benchmarks.heads import head_memory
from benchmarks.lenses import step_memory
from benchmarks.paired import ASKED, PAIRS
from benchmarks.predictor import written
from benchmarks.processes import loading, memory

NAMES = (*CASES, "loading", "memory", "step_memory", "head_memory", "written")


def main() -> None:
    """Measure, print, and write JSON where asked."""
    asked = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    asked.add_argument("names", nargs="*", default=list(NAMES), help=", ".join(NAMES))
    asked.add_argument("--model", default="smollm2-135m")
    asked.add_argument("--dtype", default="float32")
    asked.add_argument("--large", default="gemma3-270m", help="the model of the large vocabulary in `memory`")
    asked.add_argument("--out", type=Path)
    asked.add_argument("--pairs", type=int, default=PAIRS, help="pairs of runs a ratio")
    given = asked.parse_args()
    ASKED[0] = given.pairs
    found: dict[str, list[dict[str, object]]] = {}
    model = ds.load(given.model, dtype=given.dtype) if set(given.names) & set(CASES) else None
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {torch.get_num_threads()} threads, torch {torch.__version__}, {given.dtype}")
    for name in given.names:
        if name in CASES and model is not None:
            measured = CASES[name](model)
        elif name == "loading":
            measured = [loading(given.model)]
        elif name == "head_memory":
            measured = [head_memory(given.model)]
        elif name == "written":
            measured = [written(given.model)]
        elif name == "step_memory":
            measured = [step_memory(given.model), step_memory(given.large)]
        else:
            measured = [memory(given.model), memory(given.large)]
        for each in measured:
            print(each.line(), flush=True)
        found[name] = [asdict(each) for each in measured]
    if given.out:
        about = {"threads": torch.get_num_threads(), "torch": torch.__version__}
        about |= {"dtype": given.dtype, "model": given.model}
        kept = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else {}
        given.out.write_text(
            json.dumps({**kept, "machine": about, **found}, indent=2) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
