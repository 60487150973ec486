r"""In-context tasks: pairs of input and output that a model is shown before it is asked for one more output.

A prompt is `Q: input\nA: output` for each example with a blank line between two, and `Q: input\nA:` for the query; an
answer counts by its first token. Pairs are parted once: some are examples, some are queries that vectors are taken from
(and choices are made on), the rest are queries that figures are given for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from depthscope.errors import BadInput, EmptyMaterial, UnknownName
from depthscope.materials.data import data_path
from depthscope.materials.edges import edges
from depthscope.materials.plain_ids import plain_ids
from depthscope.materials.rows import rows
from depthscope.materials.window import Window, Windows
from depthscope.ranges import at_least, check_ranges
from depthscope.runtime.model import Model

PACKAGED = "icl_tasks.jsonl"
EXAMPLES = 0.4
"""Share of the pairs that are examples; the rest is halved."""
FEWEST = 8
"""Pairs a task needs."""
Pair = tuple[str, str]
Prompt = tuple[list[int], int]
"""Ids, and the first token of the answer."""


@dataclass(frozen=True)
class IclTask:
    """Pairs of input and output."""

    name: str
    pairs: tuple[Pair, ...]

    def parted(self, seed: int) -> tuple[list[Pair], list[Pair], list[Pair]]:
        """Examples, queries to take from and to choose on, and queries that figures are given for."""
        order = np.random.default_rng([seed, 1]).permutation(len(self.pairs)).tolist()
        shown = round(EXAMPLES * len(order))
        asked = order[shown:]
        half = len(asked) // 2
        return tuple([self.pairs[k] for k in part] for part in (order[:shown], asked[:half], asked[half:]))  # type: ignore[return-value]


def icl_tasks(source: str = "", names: Iterable[str] = ()) -> tuple[IclTask, ...]:
    """Tasks by name; all of them where no name is given.

    Args:
        source: a file of JSON lines with `input` and `output` (and `task`, where it holds several), or a folder of such
            files, each a task; "" is the packaged set.

    Raises:
        BadInput: for rows without input or output. EmptyMaterial: for a folder without such a file.
        UnknownName: for a task that is not there.
    """
    found = _folder(data_path(source)) if source and data_path(source).is_dir() else _file(source)
    wanted = list(names) or list(found)
    for name in wanted:
        if name not in found:
            raise UnknownName("in-context task", name, found)
    return tuple(IclTask(name, tuple(dict.fromkeys(found[name]))) for name in wanted)


def _folder(path: Path) -> dict[str, list[Pair]]:
    files = sorted(path.glob("*.jsonl"))
    if not files:
        raise EmptyMaterial(f"{path} holds no file of JSON lines (*.jsonl); each should be a task")
    return {file.stem: next(iter(_file(str(file)).values())) for file in files}


def _file(source: str) -> dict[str, list[Pair]]:
    name, read = rows(source, PACKAGED, ("input", "output"))
    found: dict[str, list[Pair]] = {}
    for number, row in enumerate(read, start=1):
        pair = (str(row["input"]).strip(), str(row["output"]).strip())
        if not all(pair):
            raise BadInput(f"{name} row {number} is {pair}; a pair needs an input and an output")
        found.setdefault(str(row.get("task", Path(name).stem)), []).append(pair)
    return found


@dataclass(frozen=True)
class IclPrompts:
    """Prompts of in-context tasks, one window a task whose `about` holds all of its prompts.

    Args:
        source, tasks: see `icl_tasks`. shots: examples before a query; fewer where a prompt would not fit.
        taken: prompts that head outputs are taken from. corrupted: prompts whose examples have others' outputs.
        queries: the most queries of each half.
    """

    source: str = ""
    tasks: tuple[str, ...] = ()
    shots: int = 10
    taken: int = 40
    corrupted: int = 16
    queries: int = 24

    def __post_init__(self) -> None:
        check_ranges(self, shots=at_least(1), taken=at_least(1), corrupted=at_least(1), queries=at_least(1))

    @property
    def name(self) -> str:
        """The name of the material."""
        return "icl_tasks"

    def windows(self, model: Model, seed: int) -> Windows:
        """One window a task; its ids are the first prompt.

        Raises:
            EmptyMaterial: for a task with too few pairs that can be asked. What `icl_tasks` raises.
        """
        before, _, words = edges(model.tokenizer, "auto", model.config.model_type)
        tasks = icl_tasks(self.source, self.tasks)
        made = [
            self._window(k, task, Asking(model.tokenizer, before), model, seed)
            for k, task in enumerate(tasks)
        ]
        return Windows(
            tuple(made), f"{len(made)} in-context tasks of {self.source or 'the packaged set'}", words, 0
        )

    def _window(self, index: int, task: IclTask, asking: Asking, model: Model, seed: int) -> Window:
        kept = [pair for pair in task.pairs if asking.extends(pair)]
        if len(kept) < FEWEST:
            raise EmptyMaterial(
                f"the task {task.name!r} has {len(kept)} pairs of {len(task.pairs)} that can be asked; needed: {FEWEST}"
            )
        shown, take, test = IclTask(task.name, tuple(kept)).parted(seed)
        take, test = take[: self.queries], test[: self.queries]
        rng = np.random.default_rng([seed, index])
        most = getattr(model.config, "max_position_embeddings", None) or 10**9
        shots = _fitting(asking, [*shown, *take, *test], min(self.shots, len(shown)), most)
        several = {
            "taken": (_repeated(take, self.taken), False), "test": (test, False),
            "corrupted": (_repeated(take, self.corrupted), True), "shuffled": (test, True),
        }  # fmt: skip
        prompts: dict[str, list[Prompt]] = {}
        intact: list[float] = []
        for role, (queries, mixed) in several.items():
            prompts[role] = []
            for query in queries:
                examples = [shown[k] for k in rng.permutation(len(shown))[:shots]]
                said = deranged(examples, rng) if mixed else examples
                if mixed:
                    intact.append(float(np.mean([a[1] == b[1] for a, b in zip(said, examples, strict=True)])))
                prompts[role].append(asking.prompt(said, query))
        about = {
            "task": task.name, "shots": shots, "pairs": len(kept), "dropped": len(task.pairs) - len(kept),
            "shared": float(np.mean([asking.shares(pair) for pair in kept])), "intact": float(np.mean(intact)),
            "prompts": prompts | {f"plain_{role}": [asking.prompt([], q) for q in part]
                                  for role, part in (("taken", take), ("test", test))},
            "inputs": {"taken": [list(q) for q in take], "test": [list(q) for q in test]},
        }  # fmt: skip
        return Window(index, task.name, tuple(prompts["test"][0][0]), (), about)


@dataclass(frozen=True)
class Asking:
    """How prompts become ids: what stands before each of them, and the tokenizer."""

    tokenizer: Any
    before: Sequence[int]

    @classmethod
    def of(cls, model: Model) -> Asking:
        """With what the model's tokenizer itself puts before a text."""
        return cls(model.tokenizer, edges(model.tokenizer, "auto", model.config.model_type)[0])

    def ids(self, text: str) -> list[int]:
        """Ids of a text without special tokens."""
        return plain_ids(self.tokenizer, text)

    def prompt(self, examples: Sequence[Pair], query: Pair) -> Prompt:
        """A prompt with its examples, and the first token of the right answer behind it."""
        ids, answer = self.answered(examples, query)
        return ids, answer[0]

    def answered(self, examples: Sequence[Pair], query: Pair) -> tuple[list[int], list[int]]:
        """A prompt with its examples, and all tokens of the right answer behind it."""
        text = "".join(f"Q: {x}\nA: {y}\n\n" for x, y in examples) + f"Q: {query[0]}\nA:"
        ids = self.ids(text)
        after = self.ids(f"{text} {query[1]}")[len(ids) :]
        space = self.ids(" ")
        if len(after) > len(space) and after[: len(space)] == space:
            # a space that is a token of its own belongs to the prompt: the answer is what comes behind it
            ids, after = ids + space, after[len(space) :]
        return [*self.before, *ids], after

    def extends(self, pair: Pair) -> bool:
        """Whether the ids of prompt and answer begin with those of the prompt; else no token is the answer's first."""
        text = f"Q: {pair[0]}\nA:"
        ids, whole = self.ids(text), self.ids(f"{text} {pair[1]}")
        return len(whole) > len(ids) and whole[: len(ids)] == ids

    def shares(self, pair: Pair) -> bool:
        """Whether answer and query begin with the same token: a model that copies is then right."""
        first, second = (self.within(word) for word in pair)
        return first[0] == second[0]

    def within(self, word: str) -> list[int]:
        """Ids of a word within a text, behind a space; without the space where that is a token of its own."""
        ids, space = self.ids(f" {word}"), self.ids(" ")
        return ids[len(space) :] if len(ids) > len(space) and ids[: len(space)] == space else ids


def deranged(examples: Sequence[Pair], rng: np.random.Generator) -> list[Pair]:
    """The examples with others' outputs: none keeps its own where no output stands in more than half of them.

    Examples in order of their outputs, turned by as many places as the most frequent output has: each then
    meets another output. A plain permutation would leave one in place on average.
    """
    outputs = [y for _, y in examples]
    ranks = {y: k for k, y in enumerate(rng.permutation(sorted(set(outputs))).tolist())}
    order = sorted(range(len(outputs)), key=lambda k: ranks[outputs[k]])
    turn = max(Counter(outputs).values())
    given = dict(zip(order, order[turn % len(order) :] + order[: turn % len(order)], strict=True))
    return [(x, outputs[given[k]]) for k, (x, _) in enumerate(examples)]


def _repeated(queries: Sequence[Pair], count: int) -> list[Pair]:
    """As many queries as asked for, over and over; each time with other examples."""
    return [queries[k % len(queries)] for k in range(count)]


def _fitting(asking: Asking, pairs: Sequence[Pair], shots: int, most: int) -> int:
    """How many of the asked examples fit, by the longest pairs.

    Raises:
        BadInput: where not even one does.
    """
    longest = max(len(asking.ids(f"Q: {x}\nA: {y}\n\n")) for x, y in pairs)
    found = min(shots, (most - len(asking.before)) // longest - 1)
    if found < 1:
        raise BadInput(
            f"an example takes up to {longest} tokens, and a prompt of one and a query does not fit into {most}"
        )
    return found
