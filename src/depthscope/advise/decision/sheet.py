"""The task sheet: what is asked of the model, how much it matters, what it costs, and which alternatives there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from depthscope.advise.decision.reader import Reader, opened
from depthscope.errors import BadInput, UnknownName
from depthscope.results.decision import STEPS

WAYS = ("generation", "likelihood")
TYPES = ("choice", "short_answer", "generation", "math")
CRITICALITIES = ("A", "B", "C")
"""A stops the line, B degrades the service, C is nice to have."""
KINDS = ("sibling", "pruned", "quantised")
RISKS = ("arithmetic", "dates", "codes", "multi_step", "regulated", "chat", "tools")
"""What a user can say of the work beforehand; each brings its note."""
DROP: Mapping[str, float] = {"A": 0.01, "B": 0.02, "C": 0.02}
"""Allowed drop by criticality where the sheet names none: one point for what stops the line, else two."""
LADDER = (5.0, 10.0, 15.0, 20.0, 25.0, 30.0)
"""Shares of the layers that the ladder takes away, in percent."""


@dataclass(frozen=True)
class TaskEntry:
    """One task: see docs/how-to/decide.md for each field.

    Args:
        file: made absolute. pick: the task's name in the file, where the file holds several. by: what decides a
        choice,
            what the model writes or the likelihood of the options; all else is decided by what it writes.
    """

    name: str
    file: Path
    owner: str
    type: str
    volume: float
    criticality: str
    metric: str
    threshold: float | None
    allowed_drop: float
    must_pass: tuple[str, ...]
    pick: str = ""
    by: str = "generation"


@dataclass(frozen=True)
class Alternative:
    """Another model that could do the work: a smaller sibling, a pruned folder, or a quantised one."""

    name: str
    kind: Literal["sibling", "pruned", "quantised"]
    model: str
    revision: str | None
    dtype: str | None
    price_per_1k_tokens: float | None
    quantised_after_pruning: bool = False


@dataclass(frozen=True)
class Prices:
    """What computing costs: by the hour of the machine that was measured, or by the token as a vendor bills it."""

    currency: str = ""
    per_hour: float | None = None
    per_1k_tokens: float | None = None


@dataclass(frozen=True)
class Sheet:
    """The whole configuration.

    Args:
        text: calibration text, "" for the packaged sample. tokens: of it. stop_after: last step, 1 to 8.
        minutes: no further model is measured after that many, 0 for no limit. ladder: percent of layers.
        prompts: read in the depth diagnosis. healing_tokens: of a retraining to be priced, 0 for none.
        chat: prompts go through the chat template. min_items: the fewest a task may have. repeats: of timings.
    """

    path: Path
    title: str
    model: str
    revision: str | None
    dtype: str | None
    device: str | None
    seed: int
    text: str
    tokens: int
    stop_after: int
    minutes: float
    ladder: tuple[float, ...]
    prompts: int
    healing_tokens: float
    chat: bool
    min_items: int
    repeats: int
    tasks: tuple[TaskEntry, ...]
    alternatives: tuple[Alternative, ...] = ()
    prices: Prices = field(default_factory=Prices)
    risks: tuple[str, ...] = ()


def load_sheet(path: str | Path) -> Sheet:
    """Read and check a task sheet.

    Raises:
        BadInput: for a file that is missing or no TOML, a value out of its range, a task file that is not there, two
            tasks or models of one name, or no task. UnknownName: for an entry or a word that is not known.
    """
    file = Path(path)
    read = opened(file)
    tasks = tuple(_task(entry, file.parent) for entry in read.tables("tasks"))
    if not tasks:
        raise BadInput(f"{file.name} names no task; add at least one [[tasks]] with a name and a file")
    risks, others = (
        read.table("risks"),
        tuple(_alternative(entry, file.parent) for entry in read.tables("alternatives")),
    )
    flagged = tuple(name for name in RISKS if risks.truth(name))
    risks.done()
    sheet = Sheet(
        path=file,
        model=_place(read.text("model"), file.parent),
        title=read.text("title", file.stem),
        revision=read.text("revision", "") or None,
        dtype=read.text("dtype", "") or None,
        device=read.text("device", "") or None,
        seed=read.whole("seed", 0),
        text=_place(read.text("text", ""), file.parent),
        tokens=read.whole("tokens", 32768, low=1),
        stop_after=_step(read),
        minutes=read.number("minutes", 0.0),
        ladder=tuple(sorted(read.numbers("ladder", LADDER, 0.1, 90.0))),
        prompts=read.whole("prompts", 8, low=1),
        healing_tokens=read.number("healing_tokens", 0.0),
        chat=read.truth("chat"),
        min_items=read.whole("min_items", 100, low=4),
        repeats=read.whole("repeats", 10, low=3),
        tasks=tasks,
        alternatives=others,
        prices=_prices(read.table("prices")),
        risks=flagged,
    )
    read.done()
    _distinct(file.name, "task", [task.name for task in tasks])
    _distinct(file.name, "model", [sheet.model, *(one.name for one in others)])
    return sheet


def _task(read: Reader, folder: Path) -> TaskEntry:
    criticality = read.choice("criticality", CRITICALITIES, "B")
    name, file = read.text("name"), folder / read.text("file")
    if not file.is_file():
        raise BadInput(f"{read.place} ({name}): there is no file {file}; give a path as seen from the sheet")
    threshold = read.maybe("threshold", 0.0, 1.0)
    entry = TaskEntry(
        name, file.resolve(), read.text("owner", ""), read.choice("type", TYPES), read.number("volume_per_month",
        0.0),
        criticality, read.choice("metric", ("accuracy",), "accuracy"), threshold,
        read.number("allowed_drop", DROP[criticality], 0.0, 0.99), read.texts("must_pass"), read.text("pick", ""),
        read.choice("by", WAYS, "generation"),
    )  # fmt: skip
    if entry.allowed_drop == 0:
        raise read.wrong(
            "allowed_drop", 0, "no number of items can show that nothing is lost; give 0.01 or more"
        )
    if entry.by == "likelihood" and entry.type != "choice":
        raise read.wrong("by", entry.by, f"a {entry.type} has no options; it is judged by generation")
    read.done()
    return entry


def _alternative(read: Reader, folder: Path) -> Alternative:
    found = Alternative(
        read.text("name"), cast(Any, read.choice("kind", KINDS)), _place(read.text("model"), folder),
        read.text("revision", "") or None, read.text("dtype", "") or None, read.maybe("price_per_1k_tokens"),
        read.truth("quantised_after_pruning"),
    )  # fmt: skip
    read.done()
    return found


def _prices(read: Reader) -> Prices:
    found = Prices(read.text("currency", ""), read.maybe("per_gpu_hour"), read.maybe("per_1k_tokens"))
    read.done()
    if (found.per_hour is None) == (found.per_1k_tokens is None) and read.values:
        raise BadInput(f"{read.place}: give per_gpu_hour or per_1k_tokens, one of the two")
    if read.values and not found.currency:
        raise BadInput(f"{read.place} has no currency; write it as a code, such as EUR or JPY")
    return found


def step_number(asked: str) -> int:
    """The number of a step from its number or its name.

    Raises:
        UnknownName: for another word. BadInput: for a number that is no step.
    """
    if asked.lstrip("-").isdigit():
        if not 1 <= int(asked) <= len(STEPS):
            raise BadInput(f"there is no step {asked}; steps go from 1 to {len(STEPS)}")
        return int(asked)
    if asked not in STEPS:
        raise UnknownName("step", asked, STEPS)
    return STEPS.index(asked) + 1


def _step(read: Reader) -> int:
    found = read.values.get("stop_after")
    read.asked.add("stop_after")
    if isinstance(found, str):
        return step_number(found)
    return read.whole("stop_after", len(STEPS), low=1, high=float(len(STEPS)))


def _place(name: str, folder: Path) -> str:
    """A path as seen from the sheet where one is there; a name (hub id, embedded model) as it is."""
    beside = folder / name
    return str(beside.resolve()) if name and beside.exists() else name


def _distinct(sheet: str, kind: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(f"{sheet} has two entries of one {kind} name, {', '.join(twice)}; names must differ")
