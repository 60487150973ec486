"""What a model keeps of a prompt without its last token: keys and values, from which that token goes on in many rows.

Nothing stands behind the last position, so whatever is changed there leaves every other position as it was: one pass
over the tokens before serves all changes, a row for each.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.anatomy.site import Site
from depthscope.errors import Refused
from depthscope.runtime.edits import Edit
from depthscope.runtime.hooks import Tap, hooked
from depthscope.runtime.model import Model
from depthscope.runtime.wiring import taps


def keeps_only_keys(anatomy: Anatomy) -> bool:
    """True where every layer keeps keys and values and nothing else, so that a prefix says all of the past."""
    return set(anatomy.kind_of_layer) <= {"attention", "local"}


def goes_by_cache(model: Model, asked: bool | None, change: str) -> bool:
    """Whether a change of the last token goes on from a prefix: where that is exact, unless asked otherwise.

    Args:
        change: the verb of the refusal, such as "patch".

    Raises:
        Refused: when it is asked for and a layer keeps more than keys and values.
    """
    exact = keeps_only_keys(model.anatomy)
    if asked and not exact:
        raise Refused(f"{model.name} has layers without keys and values; {change} it with by_cache=False")
    return exact if asked is None else asked


@dataclass(frozen=True, eq=False)
class Prefix:
    """Keys and values of all tokens but the last of a prompt, and that last token."""

    model: Model
    cache: Any
    last: int

    @classmethod
    @torch.no_grad()
    def of(cls, model: Model, ids: Sequence[int]) -> Prefix:
        """One pass over a prompt of 2 tokens or more."""
        before = torch.tensor([list(ids[:-1])], device=model.device)
        output: Any = model.net(input_ids=before, use_cache=True, return_dict=True)
        return cls(model, output.past_key_values, ids[-1])

    @torch.no_grad()
    def ends(
        self,
        rows: int,
        edits: Sequence[Edit] = (),
        places: Sequence[Tap] = (),
        after: Int[Tensor, "row token"] | None = None,
    ) -> Float[Tensor, "row d_model"]:
        """The last state of the last token in each row, under edits and taps that see all rows; nothing is kept.

        Args:
            after: tokens that stand behind the last one in each row; the state is then that of their last.
        """
        anatomy = self.model.anatomy
        end, store = Site(anatomy.n_layers - 1, "resid_post"), dict[Site, Tensor]()
        with hooked([*places, *taps(anatomy, [end], tuple(edits), store, 1)]):
            self.model.net(
                input_ids=self.tokens(rows)
                if after is None
                else torch.cat([self.tokens(rows), after], dim=1),
                past_key_values=_shared(self.cache),
                use_cache=True,
                return_dict=True,
            )
        return store[end][:, -1]

    def tokens(self, rows: int) -> Tensor:
        """The last token, [row, 1]."""
        return torch.full((rows, 1), self.last, device=self.model.device)

    def grown(self, rows: int) -> Any:  # noqa: ANN401  (a cache of transformers)
        """A copy of the keys and values for each row, to which further tokens may be added."""
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(rows)
        return cache


def _shared(cache: Any) -> Any:  # noqa: ANN401
    """A cache whose keys and values are joined with those of any number of rows, and which keeps nothing of them."""
    found = copy.copy(cache)
    found.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in found.layers:
        layer.update = partial(_joined, layer)
    return found


def _joined(layer: Any, key: Tensor, value: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    rows = len(key)
    return (
        torch.cat([layer.keys.expand(rows, -1, -1, -1), key], dim=-2),
        torch.cat([layer.values.expand(rows, -1, -1, -1), value], dim=-2),
    )
