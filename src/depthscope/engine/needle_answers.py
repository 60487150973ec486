"""The answer to one hidden needle: the right one fed, or the model's own; and the attention with which it is said."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from depthscope.engine.next_tokens import at_targets
from depthscope.engine.view import View
from depthscope.measures.retrieval import unigram_recall
from depthscope.runtime.generate import generate
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.run import run

ACCEPTED = 0.5
"""Unigram recall above which an answer that the model wrote counts."""
MORE = 4
"""Tokens that the model may write beyond the length of the right answer."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What was said behind a prompt.

    Args:
        said: ids [query]. ids: all ids, prompt and answer, [key]. pattern: attention rows of a layer that predict what
            was said, [head query key]. layers: layers that have them.
        token_accuracy: share of the gold tokens said right at their place. exact: 1 where all are. accepted: 1 where
            the test counts.
    """

    said: Tensor
    ids: Tensor
    pattern: Callable[[int], Tensor]
    layers: tuple[int, ...]
    token_accuracy: float
    exact: float
    accepted: float


def taught(model: Model, seen: View, row: int) -> Answer:
    """The right answer is fed; it counts whatever the model would have said."""
    window = seen.windows[row]
    gold = torch.tensor(window.about["gold"], device=model.device)
    marks = torch.tensor(window.marks, device=model.device)
    last = seen[model.anatomy.states()[-1]][row, marks]
    right = at_targets(model, last, gold)[1]

    def pattern(layer: int) -> Tensor:
        return seen.pattern(layer)[row, :, : len(gold)]

    held = tuple(seen.seen.heads)
    ids = seen.seen.batch.ids[row]
    return Answer(gold, ids, pattern, held, float(right.mean()), float(right.all()), 1.0)


def written(model: Model, seen: View, row: int) -> Answer:
    """The model writes greedily; what it wrote is read once more for its attention, and counts if it recalls enough."""
    window = seen.windows[row]
    gold, prompt = list(window.about["gold"]), list(window.ids[: window.about["prompt"]])
    ids = list(generate(model, prompt, max_new_tokens=len(gold) + MORE, stop=()).ids)
    queries = torch.arange(len(prompt) - 1, len(prompt) + len(ids) - 1)
    again = run(model, Batch.of_ids([prompt + ids]), queries=queries)
    right = [a == b for a, b in zip(gold, ids, strict=False)]
    recall = unigram_recall(words(model.tokenizer, gold), words(model.tokenizer, ids))

    def pattern(layer: int) -> Tensor:
        return again.pattern(layer)[0]

    said = torch.tensor(ids, device=model.device)
    every = torch.tensor(prompt + ids, device=model.device)
    accuracy, exact = sum(right) / len(gold), float(all(right))
    return Answer(said, every, pattern, tuple(again.heads), accuracy, exact, float(recall > ACCEPTED))


def words(tokenizer: Any, ids: list[int]) -> list[str]:  # noqa: ANN401
    """Words of some ids in lower case; the ids themselves where no word is among them."""
    return re.findall(r"\w+", tokenizer.decode(ids).lower()) or [str(i) for i in ids]
