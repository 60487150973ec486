"""Writes the numbers of a finished run into docs/numbers/<model>.json and into the tables of the documentation.

    python scripts/write_numbers.py runs/demo    # read a run, write its JSON, refresh the tables
    python scripts/write_numbers.py runs/demo --name demo-ridge    # the same under another name
    python scripts/write_numbers.py runs/demo --only logit_lens,layer_skip    # these analyses alone
    python scripts/write_numbers.py --compare runs/a runs/b --name a-b    # two runs side by side
    python scripts/write_numbers.py --seeds runs/a-0 runs/a-1 runs/b-0 --name a-b    # architectures over seeds
    python scripts/write_numbers.py              # refresh the tables from the JSON that is there

A page asks for numbers between two comments; what stands there is replaced. `MODEL` is the name of a JSON file.

    <!-- numbers: MODEL run -->                              where the numbers come from
    <!-- numbers: MODEL laws -->                             the verification table
    <!-- numbers: MODEL curves ANALYSIS NAME NAME ... -->    a row for each state or layer
    <!-- numbers: MODEL curves ANALYSIS NAME[mode=wei] -->   one label of a further axis (or of several: NAME[a=1][b=2])
    <!-- numbers: MODEL curves ANALYSIS "NAME[mode=two words]" -->    quoted where a label has a space
    <!-- numbers: MODEL grid ANALYSIS NAME -->               a row and a column for the labels of two axes of any kind
    <!-- numbers: MODEL grid ANALYSIS NAME NAME ... -->      a row for each label of their one axis
    <!-- numbers: MODEL halves ANALYSIS NAME ... -->         means over the layers (states) of each half
    <!-- numbers: MODEL largest ANALYSIS NAME ... -->        the five largest cells of each
    <!-- numbers: MODEL scalars ANALYSIS NAME ... -->        single numbers
    <!-- numbers: MODEL cell ANALYSIS NAME[state=3] -->      one number, within a sentence
    <!-- numbers: MODEL texts ANALYSIS 0 -->                 what was written after the first prompt
    <!-- numbers: families -->                               the architectures
    <!-- end numbers -->
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from number_tables import DIGITS, KINDS, Numbers, families, laws, origin, table, texts

from depthscope.report.written import passages_of
from depthscope.results.measurement import COLUMNS, Measurement
from depthscope.results.result import Result
from depthscope.store.run import Run, open_run

ROOT = Path(__file__).parent.parent
PAGES, NUMBERS = ROOT / "docs", ROOT / "docs" / "numbers"
PROMPTS = 6
"""So many prompts of a run that writes are kept, in its order."""
BLOCK = re.compile(r"(?<!`)(<!-- numbers: ([^>]+?) -->)(\s*).*?(\s*)(<!-- end numbers -->)", re.DOTALL)
ABSENT = "`make demo`, then `python scripts/write_numbers.py runs/demo`, writes the numbers here."


def numbers_of(run: Run) -> dict[str, Any]:
    """Everything a page may show of a run: where it comes from, and every measurement to four digits."""
    said = run.manifest
    kept = ("depthscope", "command", "seed", "threads", "versions", "timings", "refused", "non_finite")
    verified = [{**law, "worst": _rounded(law["worst"])} for law in said["verification"]]
    about = {"model": said["model"], "data": said["data"], **{k: said[k] for k in kept if k in said}}
    return {**about, "verification": verified, "analyses": _results(run)}


def _results(run: Mapping[str, Result]) -> dict[str, Any]:
    return {
        name: {
            "parameters": dict(result.parameters),
            "measurements": {n: _stored(m) for n, m in result.findings.measurements.items()},
            **_texts(result),
        }
        for name, result in run.items()
    }


def _texts(result: Result) -> dict[str, Any]:
    """What was written after the first prompts, where the result holds texts."""
    if "written" not in result.findings.examples:
        return {}
    passages = passages_of(result.findings.examples["written"])[:PROMPTS]
    return {
        "written": [
            {
                "pair": k, "own": found.own, "other": found.other, "prompt": found.prompt, "done": row.name,
                "text": row.text, "towards_other": _rounded(row.leaning),
            }
            for k, found in enumerate(passages)
            for row in found.rows
        ]
    }  # fmt: skip


def numbers_of_comparison(runs: list[Run], seeds: bool) -> dict[str, Any]:
    """What a page may show of runs compared; the head is that of the first run."""
    from comparison_numbers import compared

    asked = ["depthscope", "compare", *(["--seeds"] if seeds else []), *(str(run.path) for run in runs)]
    return numbers_of(runs[0]) | {"command": shlex.join(asked), "analyses": _results(compared(runs, seeds))}


def _stored(found: Measurement) -> dict[str, Any]:
    axes = {axis: np.asarray(labels).tolist() for axis, labels in found.axes.items()}
    words = {"unit": found.unit, "note": found.note, "missing": found.missing, "axes": axes}
    return words | {
        part: _compact(getattr(found, part)) for part in COLUMNS if getattr(found, part) is not None
    }


def _compact(array: np.ndarray) -> Any:  # noqa: ANN401  (a number, or lists of numbers)
    """Nested lists of rounded numbers; a count that is everywhere the same is one number."""
    if array.size and array.dtype.kind == "i" and (array == array.flat[0]).all():
        return int(array.flat[0])
    return _rounded(array.tolist())


def _rounded(value: Any) -> Any:  # noqa: ANN401  (a number, or lists of numbers)
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    if value is None or isinstance(value, int):
        return value
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None


def json_text(numbers: Numbers) -> str:
    """JSON with one line a curve or a row of a map, so that a change of one curve is a change of one line."""
    return _written(numbers, "\n") + "\n"


def _written(value: Any, newline: str) -> str:  # noqa: ANN401  (anything that JSON has a form for)
    if isinstance(value, Mapping) and value:
        parts = (f"{json.dumps(key)}: {_written(one, newline + ' ')}" for key, one in value.items())
        return f"{{{newline} {f',{newline} '.join(parts)}{newline}}}"
    if isinstance(value, list) and value and isinstance(value[0], list | Mapping):
        return f"[{newline} {f',{newline} '.join(_written(one, newline + ' ') for one in value)}{newline}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def stored() -> dict[str, Numbers]:
    """The committed numbers by the name of their file."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(NUMBERS.glob("*.json"))
    }


def refreshed(text: str, numbers: Mapping[str, Numbers], page: Path) -> str:
    """A page's text with everything between its markers written anew.

    Raises:
        ValueError: for a marker that asks for something unknown.
    """

    def block(found: re.Match[str]) -> str:
        opening, asked, before, after, closing = found.groups()
        try:
            content = rendered(shlex.split(asked), numbers, page)
        except (KeyError, ValueError) as error:
            raise ValueError(f"{page.name}: cannot write {asked!r}: {error}") from error
        gap = "\n\n" if "\n" in before + after else ""
        return f"{opening}{gap}{content}{gap if content else ''}{closing}"

    return BLOCK.sub(block, text)


def rendered(asked: list[str], numbers: Mapping[str, Numbers], page: Path) -> str:
    """What stands between one pair of markers."""
    if asked == ["families"]:
        return families()
    model, kind, *rest = asked
    if kind not in KINDS:
        raise ValueError(f"the kinds are {', '.join(KINDS)}")
    if model not in numbers:
        return ABSENT if kind == "run" else ""
    if kind == "run":
        return origin(numbers[model], f"{_to_docs(page)}numbers/{model}.json")
    if kind == "texts":
        return texts(numbers[model], *rest)
    return laws(numbers[model]) if kind == "laws" else table(numbers[model], kind, *rest)


def _to_docs(page: Path) -> str:
    """The way from a page's folder to docs/."""
    return "../" * (len(page.relative_to(PAGES).parts) - 1) if page.is_relative_to(PAGES) else "docs/"


def main() -> None:
    """Write the JSON of the run that is named, then refresh every page."""
    parser = argparse.ArgumentParser(description="Write a run's numbers into the documentation.")
    parser.add_argument(
        "run", nargs="?", type=Path, help="a finished run folder; without it pages are refreshed"
    )
    parser.add_argument("--name", default="", help="name of the JSON file; default: the model's")
    parser.add_argument("--only", default="", help="analyses that are kept, commas between; default: all")
    parser.add_argument("--compare", nargs="+", type=Path, help="runs to set side by side")
    parser.add_argument(
        "--seeds", nargs="+", type=Path, help="runs of architectures trained from several seeds"
    )
    given = parser.parse_args()
    asked = [given.run] if given.run else given.seeds or given.compare or []
    runs = [open_run(path) for path in asked]
    unfinished = [str(run.path) for run in runs if not run.complete]
    if unfinished:
        parser.error(f"{unfinished} are not finished; give the command that made them again, then this one")
    if runs:
        name = given.name or Path(str(runs[0].manifest["model"]["name"])).name
        found = numbers_of(runs[0]) if given.run else numbers_of_comparison(runs, bool(given.seeds))
        only = given.only.split(",") if given.only else list(found["analyses"])
        found["analyses"] = {analysis: found["analyses"][analysis] for analysis in only}
        NUMBERS.mkdir(exist_ok=True)
        (NUMBERS / f"{name}.json").write_text(json_text(found), encoding="utf-8")
        print(f"docs/numbers/{name}.json")
    numbers = stored()
    for page in (ROOT / "README.md", *sorted(PAGES.rglob("*.md"))):
        before = page.read_text(encoding="utf-8")
        after = refreshed(before, numbers, page)
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(page.relative_to(ROOT))


if __name__ == "__main__":
    main()
