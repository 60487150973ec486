"""Sequences that are worked through step by step: copy, parity and polynomial, with where each step stands.

A sequence is a task word, the inputs x_1 .. x_L, an end word, and the steps s_1 .. s_L with s_1 = x_1 and
s_t = F(s_{t-1}, x_t): copy says x_t, parity s + x mod 2, polynomial s x + 1 mod 11 (Cabannes et al. 2024, section 2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from depthscope.errors import BadInput, Refused, UnknownName
from depthscope.materials.edges import edges
from depthscope.materials.plain_ids import plain_ids
from depthscope.materials.window import Window, Windows
from depthscope.ranges import at_least, check_ranges
from depthscope.runtime.model import Model

TASKS = ("copy", "parity", "polynomial")
"""What sequences do."""
INPUTS: Mapping[str, tuple[int, int]] = {"copy": (1, 10), "parity": (0, 1), "polynomial": (1, 10)}
"""The smallest and the largest input of each task."""
MODULUS = 11
WORDS = (*map(str, range(MODULUS)), *TASKS, "=", ".")
"""The vocabulary of a network that is trained on such sequences: numbers, tasks, the end of the inputs, the end."""
EQUALS, STOP = WORDS.index("="), WORDS.index(".")
LETTERS = "ABCDEFGHIJK"
"""What stands for the numbers in text that a pretrained model reads."""


def steps_of(task: str, inputs: np.ndarray) -> np.ndarray:
    """The steps [sequence, L] of inputs [sequence, L].

    Raises:
        UnknownName: for an unknown task.
    """
    if task not in TASKS:
        raise UnknownName("task of iteration", task, TASKS)
    if task == "copy":
        return inputs.copy()
    if task == "parity":
        return np.cumsum(inputs, axis=1) % 2
    found = inputs.copy()
    for t in range(1, inputs.shape[1]):
        found[:, t] = (found[:, t - 1] * inputs[:, t] + 1) % MODULUS
    return found


def drawn(task: str, rows: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """Random inputs [sequence, L] of a task."""
    low, high = INPUTS.get(task, (0, 0))
    return rng.integers(low, high + 1, size=(rows, length))


def coded(task: str, inputs: np.ndarray, offset: int = 0) -> np.ndarray:
    """Ids [sequence, offset + 2 L + 3] in the vocabulary of WORDS: full stops, task, inputs, end, steps, full stop."""
    rows = len(inputs)
    ends = [
        np.full((rows, n), word)
        for n, word in ((offset, STOP), (1, WORDS.index(task)), (1, EQUALS), (1, STOP))
    ]
    return np.concatenate([ends[0], ends[1], inputs, ends[2], steps_of(task, inputs), ends[3]], axis=1)


@dataclass(frozen=True)
class IterationPrompts:
    """Sequences to work through, in the code of a network that was trained on them, or as text for any other one.

    Args:
        task: copy, parity or polynomial; "" is what the network was trained on, and copy for others.
        lengths: of the inputs. sequences: how many of each length.
        shots: worked examples before a text; a network that was trained on sequences needs none.
    """

    task: str = ""
    lengths: tuple[int, ...] = (4, 6, 8)
    sequences: int = 32
    shots: int = 3

    def __post_init__(self) -> None:
        if self.task and self.task not in TASKS:
            raise UnknownName("task of iteration", self.task, TASKS)
        check_ranges(self, lengths=at_least(2), sequences=at_least(2), shots=at_least(0))

    @property
    def name(self) -> str:
        """The name of the material."""
        return "iteration"

    def windows(self, model: Model, seed: int) -> Windows:
        """One window a sequence, its `about` with the places of inputs, end and steps; units are sequences.

        Raises:
            BadInput: for a length beyond what the model reads.
            Refused: where the tokenizer does not write each symbol as one token.
        """
        trained = trained_on(model)
        task = self.task or str(trained.get("task", "copy"))
        rng = np.random.default_rng([seed, TASKS.index(task)])
        written = _Code(task) if trained else _Text.of(model, task, self.shots)
        found: list[Window] = []
        for length in self.lengths:
            rows = drawn(task, self.sequences * (1 + written.shots), length, rng).reshape(
                self.sequences, -1, length
            )
            found += [written.window(len(found) + k, rows[k]) for k in range(len(rows))]
        _fitting(model, found)
        said = f"{task}, {self.sequences} sequences of {', '.join(map(str, self.lengths))} inputs"
        return Windows(tuple(found), said, written.words, 0)


def trained_on(model: Model) -> Mapping[str, Any]:
    """What a network that was trained on sequences says of itself (task, lengths), or nothing."""
    found = getattr(model.config, "iteration", None)
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class _Code:
    task: str
    shots: int = 0
    words: str = "nothing added"

    def window(self, index: int, rows: np.ndarray) -> Window:
        ids = coded(self.task, rows[-1:])[0]
        return _window(index, self.task, ids.tolist(), rows.shape[1], 1, STOP)


@dataclass(frozen=True)
class _Text:
    """Lines such as `A C B => A C B`, each symbol one token."""

    task: str
    shots: int
    words: str
    before: list[int]
    symbols: list[int]
    arrow: list[int]
    line: list[int]

    @classmethod
    def of(cls, model: Model, task: str, shots: int) -> _Text:
        if task == "polynomial":
            raise Refused(
                "polynomial is asked only of a network that was trained on it; ask other models for copy or parity"
            )
        before, _, words = edges(model.tokenizer, "auto", model.config.model_type)
        used = LETTERS if task == "copy" else LETTERS[:2]
        symbols = [_single(model, letter) for letter in used]
        encode = model.tokenizer.encode
        arrow, line = (encode(text, add_special_tokens=False) for text in (" =>", "\n"))
        return cls(task, shots, words, before, symbols, list(arrow), list(line))

    def window(self, index: int, rows: np.ndarray) -> Window:
        ids = list(self.before)
        for row in rows[:-1]:
            ids += [*self._said(row), *self.line]
        first = len(ids)
        ids += [*self._said(rows[-1]), *self.line]
        return _window(index, self.task, ids, rows.shape[1], first, self.line[0], arrow=len(self.arrow))

    def _said(self, row: np.ndarray) -> list[int]:
        spoken = [self.symbols[k] for k in row]
        steps = [self.symbols[k] for k in steps_of(self.task, row[None])[0]]
        return [*spoken, *self.arrow, *steps]


def _window(
    index: int, task: str, ids: Sequence[int], length: int, first: int, stop: int, arrow: int = 1
) -> Window:
    """A window with the places of x_1 and of the end of the inputs; s_1 stands behind it."""
    end = first + length + arrow - 1
    queries = list(range(end, end + length + 1))
    about = {
        "task": task,
        "length": length,
        "first": first,
        "end": end,
        "queries": queries,
        "stop": int(stop),
    }
    return Window(index, f"{task}-{index:05d}", tuple(map(int, ids)), (), about)


def _single(model: Model, letter: str) -> int:
    """The one token of a letter, with a space before it where the tokenizer has it."""
    for text in (f" {letter}", letter):
        ids = plain_ids(model.tokenizer, text)
        if len(ids) == 1:
            return int(ids[0])
    raise Refused(
        f"the tokenizer of {model.name} does not write {letter!r} as one token, so no step has one position"
    )


def _fitting(model: Model, found: Sequence[Window]) -> None:
    most = getattr(model.config, "max_position_embeddings", None) or 10**9
    longest = max(found, key=lambda w: len(w.ids))
    if len(longest.ids) > most:
        raise BadInput(
            f"a sequence of {longest.about['length']} inputs takes {len(longest.ids)} tokens; "
            f"{model.name} reads {most}, ask for shorter lengths"
        )
