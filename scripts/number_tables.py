"""The tables that documentation pages show of committed numbers; see write_numbers.py for what a page may ask."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from depthscope.registry import FAMILIES
from depthscope.results.measurement import COLUMNS, Measurement

LABEL = re.compile(r"\[(?P<axis>\w+)=(?P<label>[\w .+-]+)\]")
NAME = re.compile(r"^(?P<name>\w+)(?P<labels>(?:\[\w+=[\w .+-]+\])*)$")
DIGITS, TOP, GAP = 4, 5, "–"
DEEP = ("state", "layer")
Numbers = Mapping[str, Any]


def table(numbers: Numbers, kind: str, analysis: str, *names: str) -> str:
    """The table of one kind over some measurements of an analysis."""
    chosen = {LABEL.sub(r" \g<label>", name): _found(numbers, analysis, name) for name in names}
    return TABLES[kind](chosen)


def _found(numbers: Numbers, analysis: str, asked: str) -> Measurement:
    parsed = NAME.match(asked)
    if parsed is None:
        raise ValueError(f"{asked!r} is not NAME or NAME[axis=label]...")
    kept = numbers["analyses"][analysis]["measurements"][parsed["name"]]
    axes = {axis: np.asarray(labels) for axis, labels in kept["axes"].items()}
    parts = {part: np.asarray(kept[part], np.float64) for part in COLUMNS if part in kept}
    parts |= {part: np.asarray(np.nan_to_num(parts[part])) for part in ("n", "n_items") if part in parts}
    words = {word: kept[word] for word in ("unit", "note", "missing")}
    whole = Measurement(parsed["name"], axes, **parts, **words)  # pyright: ignore[reportArgumentType]
    asked_labels = {found["axis"]: found["label"] for found in LABEL.finditer(parsed["labels"])}
    return whole.select(**{axis: _label(v, axes.get(axis)) for axis, v in asked_labels.items()})


def _label(text: str, labels: np.ndarray | None) -> int | float | str:
    """A label as its axis holds it: a whole number, a number with a point, or a word (such as a bucket `1`)."""
    if labels is not None and labels.dtype.kind == "U":
        return text
    if text.isdigit():
        return int(text)
    return float(text) if re.fullmatch(r"-?\d+\.\d+", text) else text


def origin(numbers: Numbers, link: str) -> str:
    """One paragraph: model, number format, text, command."""
    model, data = numbers["model"], numbers["data"]
    if "hash" not in data:  # a study that makes what it measures
        return (
            f"{model['name'].capitalize()} ({data['source']}), seed {numbers['seed']}, depthscope "
            f"{numbers['depthscope']}: `{numbers['command']}`. In brackets are 95 % intervals. "
            f"[All numbers as JSON]({link})."
        )
    return (
        f"`{model['name']}` ({model['revision']}, weights `{model['weights_hash'][:12]}`) in {model['dtype']}, "
        f"{data['tokens']:,} tokens in {data['windows']} windows of {data['documents']} documents "
        f"({data['source']}, hash `{data['hash'][:12]}`), seed {numbers['seed']}, depthscope "
        f"{numbers['depthscope']}: `{numbers['command']}`. In brackets are 95 % intervals over {data['units']}. "
        f"[All numbers as JSON]({link})."
    )


def laws(numbers: Numbers) -> str:
    """The verification table of the run."""
    rows = [
        [str(v["law"]), v["title"], v["status"], _number(v["worst"]), _number(v["tolerance"]), v["reason"]]
        for v in numbers["verification"]
    ]
    return _table(["law", "says", "status", "worst error", "tolerance", "reason"], rows)


def curves(found: Mapping[str, Measurement]) -> str:
    """A row for each label of the depth axis; a further axis of few labels gives a column each."""
    columns = {name: one for asked, m in found.items() for name, one in _flat(asked, m).items()}
    axes = {(axis, tuple(labels)) for m in columns.values() for axis, labels in m.axes.items()}
    if len(axes) != 1:
        raise ValueError(f"{', '.join(columns)} have different axes; give each its own table")
    ((axis, labels),) = axes
    head = [axis, *(_titled(name, m) for name, m in columns.items())]
    rows = [[str(label), *(_cell(m, (k,)) for m in columns.values())] for k, label in enumerate(labels)]
    return f"{_table(head, rows)}\n\n{_counts(columns)}".rstrip()


def halves(found: Mapping[str, Measurement]) -> str:
    """Means over the labels of each half, the first and the last label left out: they are special in most models."""
    rows: list[list[str]] = []
    for name, m in ((n, one) for asked, whole in found.items() for n, one in _flat(asked, whole).items()):
        last = len(m.value) - 1
        inner, middle = np.arange(1, last), (last + 1) / 2
        first, second = m.value[inner[inner < middle]], m.value[inner[inner >= middle]]
        values = [f(half) for half in (first, second) for f in (np.nanmean, np.nanmedian)]
        rows.append([_titled(name, m), *(_number(float(v)) for v in values)])
    half = ("first half, mean", "first half, median", "second half, mean", "second half, median")
    return _table(["over depth, ends left out", *half], rows)


def grid(found: Mapping[str, Measurement]) -> str:
    """A row for each label of the first axis, without those that have no value.

    Of one measurement a column for each label of its second axis; of several over that one axis a column each.
    """
    first = next(iter(found.values()))
    axis, *further = first.axes
    if further:
        columns = {f"{further[0]} {v}": first.select(**{further[0]: v}) for v in first.axes[further[0]]}
        head = list(columns)
    else:
        columns, head = dict(found), [_titled(name, m) for name, m in found.items()]
    rows = [
        [f"{label}", *(_cell(m, (k,)) for m in columns.values())]
        for k, label in enumerate(first.axes[axis])
        if any(np.isfinite(m.value[k]) for m in columns.values())
    ]
    return f"{_table([axis.replace('_', ' '), *head], rows)}\n\n{_counts(columns)}".rstrip()


def largest(found: Mapping[str, Measurement]) -> str:
    """The largest cells of each measurement; where two axes are layers, the diagonal is left out."""
    rows: list[list[str]] = []
    for name, m in found.items():
        grid = np.meshgrid(*m.axes.values(), indexing="ij")
        value = np.where(grid[0] == grid[1], np.nan, m.value) if "later_layer" in m.axes else m.value
        order = np.argsort(np.nan_to_num(-value, nan=np.inf).ravel(), kind="stable")[
            : min(TOP, int(np.isfinite(value).sum()))
        ]
        for place in (tuple(int(i) for i in np.unravel_index(k, m.value.shape)) for k in order):
            where = ", ".join(
                f"{a.replace('_', ' ')} {m.axes[a][i]}" for a, i in zip(m.axes, place, strict=True)
            )
            rows.append([f"`{name}`", where, _cell(m, place), *_counted(m, place)])
    return _table(["measurement", "where", "value", "n", "n_items"], rows)


def scalars(found: Mapping[str, Measurement]) -> str:
    """One row a number."""
    rows = [[f"`{name}`", _cell(m, ()), m.unit, *_counted(m, ())] for name, m in found.items()]
    return _table(["measurement", "value", "unit", "n", "n_items"], rows)


def cell(found: Mapping[str, Measurement]) -> str:
    """One number with its interval."""
    (one,) = found.values()
    return _cell(one, ())


def families() -> str:
    """The architectures that are declared, from their literals."""
    head = ["family", "`model_type`", "what it is", "reads", "left padding", "laws refused"]
    rows: list[list[str]] = []
    for name in FAMILIES:
        family = FAMILIES[name]
        title = FAMILIES.docstring(name).partition("\n")[0].rstrip(".")
        refused = "; ".join(f"{law}: {reason}" for law, reason in family.refusals.items())
        left = "exact" if family.left_padding else "not offered"
        types = ", ".join(f"`{kind}`" for kind in family.model_types)
        rows.append(
            [f"`{name}`", types, title, "images" if family.reads == "image" else "text", left, refused]
        )
    return _table(head, rows)


TABLES: Mapping[str, Callable[[Mapping[str, Measurement]], str]] = {
    "curves": curves, "grid": grid, "halves": halves, "largest": largest, "scalars": scalars, "cell": cell,
}  # fmt: skip
KINDS = ("run", "laws", "texts", *TABLES)


def texts(numbers: Numbers, analysis: str, pair: str) -> str:
    """What was written after one prompt, a row for each change; model text stands as text, whatever it holds."""
    rows = [row for row in numbers["analyses"][analysis]["written"] if row["pair"] == int(pair)]
    first = rows[0]
    said = f"Prompt (B, `{first['own']}`; A is `{first['other']}`): {_quoted(first['prompt'])}"
    body = [[row["done"], _quoted(row["text"]), _number(row["towards_other"])] for row in rows]
    return f"{said}\n\n{_table(['what was done', 'what was written', 'share for A'], body)}"


def _quoted(text: str) -> str:
    """Text that can be neither markup nor the end of a cell."""
    return "".join(char if char.isalnum() or char in " ,;:" else f"&#{ord(char)};" for char in text)


def _flat(asked: str, m: Measurement) -> dict[str, Measurement]:
    """Curves over depth: the measurement itself, or one for each label of its further axis."""
    further = [axis for axis in m.axes if axis not in DEEP]
    if not further:
        return {asked: m}
    (axis,) = further
    return {f"{asked} {label}": m.select(**{axis: label}) for label in m.axes[axis]}


def _titled(name: str, m: Measurement) -> str:
    """`name` label (unit); numbers without a unit have none."""
    plain, _, label = name.partition(" ")
    return f"`{plain}`{f' {label}' if label else ''}{'' if m.unit == '1' else f' ({m.unit})'}"


def _cell(m: Measurement, place: tuple[int, ...]) -> str:
    if np.isnan(m.value[place]):
        return GAP
    bounds = () if m.low is None or m.high is None else (float(m.low[place]), float(m.high[place]))
    interval = (
        f" [{_number(bounds[0])}, {_number(bounds[1])}]" if bounds and np.isfinite(bounds).all() else ""
    )
    return _number(float(m.value[place])) + interval


def _counted(m: Measurement, place: tuple[int, ...]) -> list[str]:
    return [GAP if (c := getattr(m, part)) is None else f"{int(c[place]):,}" for part in ("n", "n_items")]


def _counts(columns: Mapping[str, Measurement]) -> str:
    """One line with the counts behind the columns."""
    said: dict[str, list[str]] = {}
    for name, m in columns.items():
        spans = [f"{part} = {_span(c)}" for part in ("n", "n_items") if (c := getattr(m, part)) is not None]
        if spans:
            said.setdefault(", ".join(spans), []).append(_titled(name, m).partition(" (")[0])
    if sum(map(len, said.values())) == len(columns) and len(said) == 1:
        return f"{next(iter(said))} for every column."
    return "; ".join(f"{counts} for {', '.join(names)}" for counts, names in said.items()) + (
        "." if said else ""
    )


def _span(counts: np.ndarray) -> str:
    there = counts[counts > 0] if (counts > 0).any() else counts
    low, high = int(there.min()), int(there.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _number(value: float | None) -> str:
    """Four digits as they stand in the JSON."""
    if value is None or not np.isfinite(value):
        return GAP
    if value == 0 or (abs(value) >= 1 and value == round(value) and abs(value) < 1e6):
        return f"{value:,.0f}"
    if not 1e-3 <= abs(value) < 1e6:
        return f"{value:.{DIGITS}g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.{DIGITS}g}".rstrip(".")


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
