"""Keys of a kind: start tokens, separators, punctuation and line ends among the tokens of a batch."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from depthscope.materials.spelling import special_ids, text_of
from depthscope.materials.token_classes import Rule
from depthscope.runtime.model import Batch, Model

KINDS = ("bos", "sep", "punct", "newline")
_SIGNS = ("punctuation", "opening_bracket", "closing_bracket")


def key_sets(model: Model, batch: Batch) -> dict[str, Bool[Tensor, "row token"]]:
    """Where the tokens of each kind stand; all False where the tokenizer has none.

    bos: BOS and [CLS]. sep: [SEP], and the end of a text where it differs from BOS. punct: signs and brackets. newline:
    white space with a line feed. Classes are those of `materials.token_classes`.
    """
    tokenizer, ids = model.tokenizer, batch.ids
    start = _ids(tokenizer, ("bos_token_id", "cls_token_id"))
    end = _ids(tokenizer, ("sep_token_id", "eos_token_id")) - start
    rule, special = Rule(), frozenset(special_ids(tokenizer))
    kinds = {k: rule.of(text_of(tokenizer, [k]), k in special) for k in ids.unique().tolist()}
    return {
        "bos": _among(ids, start),
        "sep": _among(ids, end),
        "punct": _among(ids, {k for k, kind in kinds.items() if kind in _SIGNS}),
        "newline": _among(ids, {k for k, kind in kinds.items() if kind == "newline"}),
    }


def _ids(tokenizer: object, names: tuple[str, ...]) -> set[int]:
    found = (getattr(tokenizer, name, None) for name in names)
    return {int(i) for i in found if i is not None}


def _among(ids: Tensor, wanted: set[int]) -> Tensor:
    return torch.isin(ids, torch.tensor(sorted(wanted), dtype=ids.dtype, device=ids.device))
