"""Whether two models read the same ids: a hard condition of comparing their states position by position."""

from __future__ import annotations

from typing import Any

from depthscope.errors import BadInput, Refused
from depthscope.materials.plain_ids import plain_ids
from depthscope.materials.window import Windows
from depthscope.runtime.model import Model

PROBES = (
    "The rain, 1,234.5 mm of it, hadn't stopped since Tuesday; nobody knew why.",
    "\tdef f(x):\n    return x**2  # naïve, 東京, Öl\n\n",
)
"""Texts with what tokenizers treat differently: numbers, contractions, white space, letters beyond English."""
_SHOWN = 3


def refuse_other_vocabulary(first: Model, second: Model, windows: Windows) -> None:
    """Nothing where every id means the same token to both models and both cut a text alike.

    Rows that an unembedding has beyond the tokenizer's tokens (padding) may differ in number.

    Raises:
        Refused: when one has no tokenizer, or vocabularies or tokenizers differ; the message says in what.
        BadInput: when the windows are longer than the second model has positions for, or hold ids it has no row for.
    """
    for model in (first, second):
        if model.tokenizer is None:
            raise Refused(f"{model.name} reads {model.anatomy.family.reads}, it has no tokenizer to compare")
    both = f"{first.name} and {second.name} cannot be mapped onto each other"
    theirs = [_tokens(model.tokenizer) for model in (first, second)]
    if len(theirs[0]) != len(theirs[1]):
        raise Refused(f"{both}: their tokenizers have {len(theirs[0]):,} and {len(theirs[1]):,} tokens")
    differ = [k for k, (a, b) in enumerate(zip(*theirs, strict=True)) if a != b]
    if differ:
        shown = ", ".join(f"{k} is {theirs[0][k]!r} and {theirs[1][k]!r}" for k in differ[:_SHOWN])
        raise Refused(f"{both}: {len(differ):,} of {len(theirs[0]):,} ids are other tokens (id {shown})")
    for text in PROBES:
        cuts = [plain_ids(model.tokenizer, text) for model in (first, second)]
        if cuts[0] != cuts[1]:
            raise Refused(
                f"{both}: the tokens are the same, but {text!r} is cut into {len(cuts[0])} and {len(cuts[1])} of them, "
                f"first different at {_first(*cuts)}"
            )
    _refuse_windows(second, windows)


def _tokens(tokenizer: Any) -> list[str]:  # noqa: ANN401
    return list(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))))


def _first(a: list[int], b: list[int]) -> int:
    return next((k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _refuse_windows(model: Model, windows: Windows) -> None:
    longest, limit = (
        max(len(w.ids) for w in windows.items),
        getattr(model.config, "max_position_embeddings", None),
    )
    if limit is not None and longest > limit:
        raise BadInput(f"windows of {longest} tokens are longer than the {limit} positions of {model.name}")
    embeddings: Any = model.net.get_input_embeddings()  # pyright: ignore[reportCallIssue]
    largest, rows = max(max(w.ids) for w in windows.items), int(embeddings.weight.shape[0])
    if largest >= rows:
        raise BadInput(f"the text holds id {largest}, {model.name} has embeddings for {rows} ids")
