"""What a matched pair reads: one tokenizer trained on the text, and windows of equal length cut with it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from depthscope.errors import BadInput
from depthscope.materials.text import Document, cut
from depthscope.materials.window import Window, Windows

END = "<|endoftext|>"
"""The one special token, id 0; no window begins or ends with it."""
ALL = 10**12
"""More tokens than any text here has."""


def trained_tokenizer(documents: Sequence[Document], vocabulary: int) -> Any:  # noqa: ANN401  (of transformers)
    """A byte-level BPE tokenizer of a text: it knows every byte, so it reads any other text too.

    Raises:
        BadInput: for fewer than 257 tokens, which is what the bytes and the end token take.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    if vocabulary < 257:
        raise BadInput(
            f"a vocabulary of {vocabulary} does not hold 256 bytes and an end token; give 257 or more"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator((d.text for d in documents), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)


def saved_tokenizer(documents: Sequence[Document], vocabulary: int, folder: Path) -> Any:  # noqa: ANN401
    """The tokenizer kept in a folder, trained and kept there the first time."""
    from transformers import AutoTokenizer

    if not (folder / "tokenizer.json").exists():
        trained_tokenizer(documents, vocabulary).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def whole_windows(documents: Sequence[Document], tokenizer: Any, source: str, window: int) -> Windows:  # noqa: ANN401
    """All windows of full length; what is left of a document behind its last one is not read.

    Raises:
        BadInput: when the text has fewer than three such windows.
    """
    every = cut(documents, tokenizer, source=source, tokens=ALL, window=window, bos="never")
    full = tuple(w for w in every.items if len(w.ids) == window)
    if len(full) < 3:
        raise BadInput(
            f"{source} gives {len(full)} windows of {window} tokens; give more text or a smaller --window"
        )
    items = tuple(Window(k, w.document, w.ids) for k, w in enumerate(full))
    return Windows(items, source, every.bos, every.dropped + every.tokens - window * len(items))


def batches(
    windows: Sequence[Window], rows: int, seed: int, first: int = 0
) -> Iterator[Int[Tensor, "row token"]]:
    """Endless batches in an order that depends on the seed alone, pass after pass, from batch number `first` on."""
    ids, count = torch.tensor([w.ids for w in windows]), len(windows)
    for step in itertools.count(first):
        places = range(step * rows, (step + 1) * rows)
        yield ids[torch.tensor([int(_order(seed, p // count, count)[p % count]) for p in places])]


@lru_cache(maxsize=4)
def _order(seed: int, turn: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, turn]).permutation(count)
