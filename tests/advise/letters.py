"""Tiny models with a tokenizer that transformers can save: one token a letter, nothing added."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "_")


@cache
def letters(pad: str | None = "<pad>", eos: str | None = "</s>", framed: bool = False) -> Any:
    """A fast tokenizer of 94 ids or fewer; `framed` puts <s> and </s> around every text."""
    vocabulary = {token: k for k, token in enumerate([*SPECIAL, *map(chr, range(33, 122))])}
    found: Any = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    found.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    if framed:
        found.post_processor = processors.TemplateProcessing(
            "<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    unknown = "<unk>" if eos else None
    return PreTrainedTokenizerFast(tokenizer_object=found, pad_token=pad, eos_token=eos, unk_token=unknown)


def lettered(family: str, tokenizer: Any = None, dtype: torch.dtype = torch.float32, **changes: Any) -> Model:
    """A tiny model of a family that reads letters."""
    model = tiny(family, dtype, **changes)
    about = {
        **model.provenance,
        "weights_hash": f"random-{family}",
        "revision": "r1",
        "license": "Apache-2.0",
    }
    return replace(model, tokenizer=tokenizer or letters(), provenance=about)
