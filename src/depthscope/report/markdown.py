"""The decision report as Markdown: the same sentences and tables; whatever a model or a user wrote stays text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from depthscope.report.grids import Grid

if TYPE_CHECKING:
    from depthscope.report.decision import Page, Part

_SIGNS = re.compile(r"([\\`*_\[\]<>#|~&])")


def markdown(page: Page) -> str:
    """The whole page."""
    p = page.p
    blocks = [f"# {plain(page.title)}", plain(page.lead), f"## {p['first']}"]
    blocks.append("\n".join(f"- **{name}**: {plain(said)}" for name, said in page.headline))
    blocks += [f"## {p['comparison']}", *map(table, page.comparison), plain(p["reading"])]
    if page.meeting:
        blocks += [f"## {p['meeting']}", bullets(page.meeting)]
    blocks += [f"## {p['risks']}", bullets(page.risks) or p["no_risks"], f"## {p['steps']}"]
    for part in page.parts:
        blocks += _part(part, page)
    blocks += [f"## {p['origin']}", *map(table, page.origin)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def table(grid: Grid) -> str:
    """A table with its title."""
    heads = [plain(name) for _, name in grid.columns]
    lines = [heads, ["---"] * len(heads), *([plain(cell.shown) for cell in row] for row in grid.rows)]
    return f"**{plain(grid.title)}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bullets(said: Sequence[str]) -> str:
    """Sentences as a list."""
    return "\n".join(f"- {plain(one)}" for one in said)


def plain(text: str) -> str:
    """A text on one line in which no sign means anything to Markdown or HTML."""
    return _SIGNS.sub(r"\\\1", " ".join(text.split()))


def _part(part: Part, page: Page) -> list[str]:
    p = page.p
    blocks = [f"### {part.title}"]
    if part.state != "done":
        blocks.append(p["stopped"] if part.state == "stopped" else p["not_done"])
    blocks += [bullets(part.said), plain(part.box), *map(table, part.grids)]
    for lost in part.lost:
        said = f"- {plain(lost.version)}, {plain(lost.task)}, {plain(lost.item)}: {plain(lost.prompt)}"
        words = ((p["expected"], lost.expected), (p["before"], lost.before), (p["after"], lost.after))
        blocks.append("\n".join([said, *(f"  - {name}: {plain(text)}" for name, text in words)]))
    return [*blocks, plain(part.note)]
