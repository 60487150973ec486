"""Problems: prompts with one answer and a level of difficulty, made here or read from a file.

Each window is a prompt and its answer as ids. `about` holds the level, where the answer starts, its length, and how
many ids after it (`stop`) only tell whether the model would have stopped: behind P tokens the positions
P - 1 .. P - 2 + n predict n answer tokens.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from depthscope.errors import BadInput, EmptyMaterial
from depthscope.materials.continuation import continued
from depthscope.materials.edges import edges
from depthscope.materials.graded import TASKS, Problem
from depthscope.materials.plain_ids import plain_ids
from depthscope.materials.rows import rows
from depthscope.materials.window import Window, Windows
from depthscope.ranges import at_least, check_ranges
from depthscope.runtime.model import Model

TRIES = 20
"""Draws per wanted problem before a level counts as used up: easy levels have few different problems."""


@dataclass(frozen=True)
class Problems:
    """Problems of several levels, the same number of each where there are enough, no prompt twice.

    Args:
        source: "arithmetic", "hops", "brackets", or a file of JSON lines. levels: which; empty means all.
        per_level: the most problems a level. shots: solved examples before a problem that is made here.
        columns: names of the prompt's, the answer's and the level's column of a file. template: what is read for a
            prompt; {} is the prompt.
        reach: answer tokens read; what is left of a longer answer is cut, and whether it is answered is not known.
        longest: prompts of more tokens are left out.
    """

    source: str = "arithmetic"
    levels: tuple[int, ...] = ()
    per_level: int = 60
    shots: int = 2
    columns: str = "prompt,answer,level"
    template: str = "{}"
    reach: int = 16
    longest: int = 512

    def __post_init__(self) -> None:
        check_ranges(self, per_level=at_least(1), reach=at_least(1), longest=at_least(1), shots=at_least(0))
        if len(self.columns.split(",")) != 3 or "{}" not in self.template:
            raise BadInput(
                f"columns={self.columns!r}, template={self.template!r}; give three names with commas between them "
                "(prompt, answer, level), and a template with {} where the prompt stands"
            )

    @property
    def name(self) -> str:
        """The name of the material."""
        return "problems"

    def windows(self, model: Model, seed: int) -> Windows:
        """Problems level by level; each is its own document.

        Raises:
            BadInput: for rows without text or level, or a level that does not exist. EmptyMaterial: where no problem
                can be used. Refused: where the tokenizer drops the space before an answer.
        """
        name, found = self.problems(seed)
        before, _, words = edges(model.tokenizer, "auto", model.config.model_type)
        usable = min(
            self.longest, (getattr(model.config, "max_position_embeddings", None) or 10**9) - self.reach
        )
        kept: list[Window] = []
        taken: dict[int, int] = defaultdict(int)
        for problem in found:
            if taken[problem.level] < self.per_level:
                window = self._window(len(kept), problem, model, before)
                if window.about["start"] <= usable:
                    kept.append(window)
                    taken[problem.level] += 1
        if not kept:
            raise EmptyMaterial(f"no problem of {name} fits {model.name}: all prompts exceed {usable} tokens")
        return Windows(tuple(kept), f"{name}, {len(kept)} of {len(found)} problems", words, 0)

    def problems(self, seed: int) -> tuple[str, list[Problem]]:
        """Where problems came from, and the problems in seeded order, levels ascending."""
        if self.source in TASKS:
            return f"generated {self.source}", list(self._made(seed))
        name, found = _read(self.source, self.columns.split(","), self.template)
        levels = self._chosen(tuple(sorted({p.level for p in found})))
        order = np.random.default_rng(seed).permutation(len(found))
        return name, [found[k] for level in levels for k in order if found[k].level == level]

    def _chosen(self, there: Sequence[int]) -> tuple[int, ...]:
        unknown = sorted(set(self.levels) - set(there))
        if unknown:
            raise BadInput(
                f"levels={list(self.levels)}: {self.source} has no level {unknown}; it has {list(there)}"
            )
        return tuple(sorted(set(self.levels))) or tuple(there)

    def _made(self, seed: int) -> Iterator[Problem]:
        task = TASKS[self.source]
        for level in self._chosen(task.levels):
            draw = np.random.default_rng([seed, level])
            seen: set[str] = set()
            for _ in range(self.per_level * TRIES):
                problem = task.make(level, self.shots, draw)
                if problem.prompt not in seen and len(seen) < self.per_level:
                    seen.add(problem.prompt)
                    yield problem

    def _window(self, index: int, problem: Problem, model: Model, before: list[int]) -> Window:
        prompt, whole = continued(model.tokenizer, problem.prompt, problem.answer)
        answer = whole[: self.reach]
        stop = [] if len(whole) > self.reach or self.source not in TASKS else _line_end(model, problem)
        start = len(before) + len(prompt)
        about = {
            "level": problem.level,
            "start": start,
            "length": len(answer),
            "whole": len(whole),
            "stop": len(stop),
            "splits": [start - 1],
        }
        marks = tuple(range(start - 1, start - 1 + len(answer) + len(stop)))
        document = problem.document or f"problem-{index:05d}"
        return Window(index, document, (*before, *prompt, *answer, *stop), marks, about)


def _line_end(model: Model, problem: Problem) -> list[int]:
    """The id of the line's end where it is one of its own: an answer that goes on, such as 6 in 64, is no answer."""
    said = f"{problem.prompt} {problem.answer}"
    without, joined = (plain_ids(model.tokenizer, text) for text in (said, f"{said}\n"))
    fits = joined[: len(without)] == without and len(joined) == len(without) + 1
    return [int(joined[-1])] if fits else []


def _read(source: str, columns: Sequence[str], template: str) -> tuple[str, list[Problem]]:
    """Where rows came from, and the problems of a file, no prompt twice."""
    columns = [column.strip() for column in columns]
    name, found = rows(source, "", columns)
    problems: dict[str, Problem] = {}
    for number, row in enumerate(found, start=1):
        asked, answer, level = (row[column] for column in columns)
        wrong = [c for c, text in zip(columns, (asked, answer), strict=False) if not str(text).strip()]
        graded = re.search(r"-?\d+", str(level))
        if wrong or graded is None:
            raise BadInput(
                f"{name} row {number} has no text in {', '.join(wrong) or 'its level'} ({columns[2]}={level!r}); every "
                "problem needs a prompt, an answer and a whole number as its level"
            )
        text = template.replace("{}", str(asked)).rstrip()
        problems.setdefault(text, Problem(text, str(answer).strip(), int(graded[0]), f"row-{number:05d}"))
    return name, list(problems.values())
