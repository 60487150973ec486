"""The tasks of a sheet with their items read, halved, flagged and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from depthscope.advise.decision.compare import Matter
from depthscope.advise.decision.flags import flagged, proposed
from depthscope.advise.decision.sheet import Sheet, TaskEntry
from depthscope.advise.decision.verdicts import needed
from depthscope.errors import BadInput, UnknownName
from depthscope.materials.tasks import Task, load_tasks
from depthscope.results.decision import Said, TaskLine


def matters(sheet: Sheet) -> tuple[Matter, ...]:
    """Every task of the sheet; the task inside takes the sheet's name.

    Raises:
        BadInput: for a file that `load_tasks` refuses, a task of another type than the sheet says, several tasks
        where
            none is picked, or a must-pass item that is not there. UnknownName: for a task that the file does not
            hold.
    """
    largest = max(task.volume for task in sheet.tasks)
    return tuple(_matter(sheet, entry, largest) for entry in sheet.tasks)


def _matter(sheet: Sheet, entry: TaskEntry, largest: float) -> Matter:
    task = _loaded(sheet, entry)
    flags = {item.id: flagged(item.prompt, item.answers[0]) for item in task.items}
    math = frozenset(i for i, found in flags.items() if found.math or task.kind == "math")
    must = frozenset(entry.must_pass) | {item.id for item in task.items if item.must_pass}
    absent = sorted(must - set(flags))
    if absent:
        raise BadInput(
            f"{sheet.path.name}: must_pass of {entry.name!r} names {', '.join(absent)}; {entry.file.name} does not "
            "have; give ids of its items"
        )
    mark, because = proposed(task.kind, entry.volume, largest, "regulated" in sheet.risks, bool(must))
    line = TaskLine(
        entry.name, entry.owner, task.kind, entry.volume, entry.criticality, mark, because, entry.metric,
        entry.threshold,
        entry.allowed_drop, len(task.items), needed(entry.allowed_drop), len(math),
        sum(found.multi_hop for found in flags.values()), len(must), (entry.by,),
        hashlib.sha256(entry.file.read_bytes()).hexdigest()[:16],
    )  # fmt: skip
    choosing, judging = ({item.id for item in half.items} for half in task.halves(sheet.seed))
    return Matter(line, task, entry.by, frozenset(choosing), frozenset(judging), math, must)


def _loaded(sheet: Sheet, entry: TaskEntry) -> Task:
    found = {task.name: task for task in load_tasks(entry.file, sheet.min_items)}
    if entry.pick and entry.pick not in found:
        raise UnknownName(f"task in {entry.file.name}", entry.pick, found)
    if not entry.pick and len(found) > 1:
        raise BadInput(
            f"{entry.file.name} holds the tasks {', '.join(found)}; say with pick which one {entry.name!r} is"
        )
    task = found[entry.pick] if entry.pick else next(iter(found.values()))
    if task.kind != entry.type:
        raise BadInput(
            f"{sheet.path.name}: {entry.name!r} is a {entry.type}, its items in {entry.file.name} are {task.kind}"
        )
    return replace(task, name=entry.name)


def noticed(lines: Sequence[TaskLine]) -> tuple[Said, ...]:
    """What a person should confirm: flags, criticality, and files with too few items."""
    totals = {name: sum(getattr(line, name) for line in lines) for name in ("items", "math", "multi_hop")}
    said = [Said.of("sheet.flagged", **totals)]
    for line in lines:
        if line.proposed != line.criticality:
            slots = {"given": line.criticality, "proposed": line.proposed, "because": line.because}
            said.append(Said.of("sheet.criticality", task=line.name, **slots))
        if line.items < line.needed:
            slots = {"allowed": line.allowed_drop, "needed": line.needed, "items": line.items}
            said.append(Said.of("sheet.few", task=line.name, **slots))
    return tuple(said)
