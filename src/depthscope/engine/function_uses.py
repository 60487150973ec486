"""One task's queries without examples, asked under vectors: other tasks', sums of them, and one rebuilt from words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from depthscope.engine.function_given import Fitted, Query
from depthscope.engine.function_task import random_like, scored
from depthscope.errors import BadInput
from depthscope.materials.icl_tasks import Asking
from depthscope.runtime.injection import injected_ends
from depthscope.runtime.model import Model

Added = tuple[int, Tensor]
"""A state, and what is added there."""
OWN = ("vector", "composed", "rebuilt", "random direction", "nothing")
"""What is added to a task's own queries."""
SQUARE = re.compile(r"(\S+) \+ (\S+) - (\S+) = (\S+)")


@dataclass(frozen=True)
class Square:
    """Four tasks of which the vector of the last should be that of the first and the second without the third."""

    first: str
    second: str
    less: str
    target: str

    @classmethod
    def of(cls, text: str) -> Square:
        """From `AD + BC - AC = BD`.

        Raises:
            BadInput: for another form.
        """
        found = SQUARE.fullmatch(text.strip())
        if found is None:
            raise BadInput(
                f"{text!r} is no square of tasks; write AD + BC - AC = BD, with spaces around the signs"
            )
        return cls(*found.groups())

    def vector(self, fitted: Fitted) -> Float[Tensor, " d_model"] | None:
        """The sum; None where one of the three tasks has no vector."""
        if not all(fitted.has(name) for name in (self.first, self.second, self.less)):
            return None
        return fitted.vector(self.first) + fitted.vector(self.second) - fitted.vector(self.less)


def composed(
    model: Model, asking: Asking, fitted: Fitted, task: str, squares: Sequence[Square]
) -> Added | None:
    """The sum that should do a task, at the state where it does most of the queries that are not judged.

    Of equal states that of the best mean reciprocal rank; the first part's state where no such query is solved.
    """
    sums = ((square, square.vector(fitted)) for square in squares if square.target == task)
    square, vector = next(sums, (None, None))
    if square is None or vector is None:
        return None
    queries = [query for query in fitted.others[task] if query.solved]
    if not queries:
        return fitted.state(square.first), vector
    states = range(model.anatomy.n_layers + 1)
    ranks = ranks_under(model, asking, queries, {str(s): (s, vector) for s in states})
    return int(np.argmax((ranks == 1).mean(0) + 1e-3 * (1 / ranks).mean(0))), vector


def own_vectors(
    fitted: Fitted, task: str, rebuilt: Tensor | None, composed: Added | None, seed: int
) -> dict[str, Added | None]:
    """What is added to a task's queries besides other tasks' vectors, by name; None where there is no such vector."""
    if not fitted.has(task):
        nothing = None if composed is None else (composed[0], torch.zeros_like(composed[1]))
        return dict.fromkeys(OWN) | {"composed": composed, "nothing": nothing}
    state, vector = fitted.state(task), fitted.vector(task)
    random = random_like(vector, seed)
    return {
        "vector": (state, vector), "composed": composed, "rebuilt": None if rebuilt is None else (state, rebuilt),
        "random direction": None if random is None else (state, random), "nothing": (state, torch.zeros_like(vector)),
    }  # fmt: skip


def ranks_under(
    model: Model, asking: Asking, queries: Sequence[Query], added: Mapping[str, Added | None]
) -> Float[np.ndarray, "query vector"]:
    """Rank of each query's answer with each vector added to its last position; NaN where there is no vector."""
    found = np.full((len(queries), len(added)), np.nan)
    there = [k for k, one in enumerate(added.values()) if one is not None]
    held = [one for one in added.values() if one is not None]
    if not held:
        return found
    states, vectors = (
        [state for state, _ in held],
        torch.stack([vector for _, vector in held]).to(model.device),
    )
    for row, query in enumerate(queries):
        ids, answer = asking.prompt([], (query.input, query.output))
        ends = injected_ends(model, ids, states, vectors)
        found[row, there] = scored(model, ends, answer)[0]
    return found
