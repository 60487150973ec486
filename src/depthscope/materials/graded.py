"""Graded tasks: generators of problems whose difficulty is a number that the generator sets.

All prompts of one task are equally long: what a harder problem has more, the examples before it or its padding have
less. So length tells nothing of the level. Answers are one digit, one letter or one bracket.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

LETTERS = "ABCDEFGHJKLMNPRSTVWXYZ"
PLACES = 8
"""Places in the map of `hops`."""
BRACKETS = ("()", "[]", "{}")


@dataclass(frozen=True)
class Problem:
    """A prompt, the answer that follows it after a space, how hard it is, and the name of its row in a file."""

    prompt: str
    answer: str
    level: int
    document: str = ""


@dataclass(frozen=True)
class Task:
    """One generator: the levels it has, and what makes one prompt of a level behind a number of solved examples."""

    levels: tuple[int, ...]
    make: Callable[[int, int, np.random.Generator], Problem]


def arithmetic(level: int, shots: int, draw: np.random.Generator) -> Problem:
    """A chain of `level` one-digit operands, added and taken away, whose running total stays within 0 .. 9.

    Behind solved chains: all prompts hold the same number of operands, split at random over the examples.
    """
    low, high = TASKS["arithmetic"].levels[0], TASKS["arithmetic"].levels[-1]
    solved = [_chain(size, draw) for size in _sizes(level, shots, low, high, draw)]
    asked, total = _chain(level, draw)
    lines = [f"{chain} {result}\n" for chain, result in solved]
    return Problem("".join(lines) + asked, str(total), level)


def hops(level: int, shots: int, draw: np.random.Generator) -> Problem:
    """A map of places in one ring, given as steps in random order, and the place `level` steps from another.

    Behind solved questions on the same map. The level stands in the prompt as a digit, so length does not change.
    """
    ring = [LETTERS[k] for k in draw.permutation(len(LETTERS))[:PLACES]]
    steps = [f"{ring[k]} to {ring[(k + 1) % PLACES]}." for k in draw.permutation(PLACES)]
    starts = draw.permutation(PLACES)
    asked = [*draw.choice(TASKS["hops"].levels, shots).tolist(), level]
    questions = [
        (f"Go {n} from {ring[starts[k % PLACES]]}:", ring[(starts[k % PLACES] + n) % PLACES])
        for k, n in enumerate(asked)
    ]
    lines = [f"{question} {place}\n" for question, place in questions[:-1]]
    question, place = questions[-1]
    return Problem(" ".join(steps) + "\n" + "".join(lines) + question, place, level)


def brackets(level: int, shots: int, draw: np.random.Generator) -> Problem:
    """A row of brackets that ends inside a nest of depth `level`, all of which but the outermost is closed again.

    The answer closes the outermost one. Closed pairs stand before the nest, so every row has as many brackets.
    """
    deepest = TASKS["brackets"].levels[-1]
    solved = [_row(int(n), deepest, draw) for n in draw.choice(TASKS["brackets"].levels, shots)]
    row, last = _row(level, deepest, draw)
    return Problem("".join(f"{a} {b}\n" for a, b in solved) + row, last, level)


TASKS: Mapping[str, Task] = {
    "arithmetic": Task(tuple(range(2, 9)), arithmetic),
    "hops": Task(tuple(range(1, 6)), hops),
    "brackets": Task(tuple(range(1, 7)), brackets),
}
"""Name -> generator."""


def _chain(operands: int, draw: np.random.Generator) -> tuple[str, int]:
    total = int(draw.integers(1, 10))
    said = [str(total)]
    for _ in range(operands - 1):
        change = int(draw.choice([c for c in range(-total, 10 - total) if c]))
        said += ["+" if change > 0 else "-", str(abs(change))]
        total += change
    return " ".join(said) + " =", total


def _sizes(level: int, shots: int, low: int, high: int, draw: np.random.Generator) -> list[int]:
    """Operands of each example, low .. high, that with `level` make the same total for every level."""
    if not shots:
        return []
    middle = min((low + high) // 2, high - -(-(high - low) // shots))
    left = max(middle, low) * shots + high - level
    sizes = [low] * shots
    for _ in range(left - low * shots):
        sizes[int(draw.choice([k for k, size in enumerate(sizes) if size < high]))] += 1
    return sizes


def _row(level: int, pairs: int, draw: np.random.Generator) -> tuple[str, str]:
    kinds = [BRACKETS[k] for k in draw.integers(0, len(BRACKETS), pairs)]
    nest = kinds[pairs - level :]
    closed = [character for kind in kinds[: pairs - level] for character in kind]
    opened, shut = [kind[0] for kind in nest], [kind[1] for kind in reversed(nest)]
    return " ".join([*closed, *opened, *shut[:-1]]), shut[-1]
