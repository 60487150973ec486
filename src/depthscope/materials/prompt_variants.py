"""Prompts as they are, and three small changes of each: a newline before it, no first token, one common length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from depthscope.errors import BadInput
from depthscope.materials.edges import edges
from depthscope.materials.paragraphs import paragraphs
from depthscope.materials.plain_ids import plain_ids
from depthscope.materials.prompt_features import described
from depthscope.materials.window import Window, Windows
from depthscope.ranges import at_least, check_ranges
from depthscope.runtime.model import Model

CHANGES = ("newline", "drop_first", "equal_length")
SHORTEST = 4
"""A prompt has at least so many tokens."""
SHOWN = 160
"""Characters of a prompt that are kept to show it."""
QUARTER = 0.25
"""`equal_length` cuts to this quantile of the lengths; shorter prompts have no such variant."""


@dataclass(frozen=True)
class PromptVariants:
    """Prompts with what is known of them, and their changed copies.

    Args:
        source: as for the run's text; "" for the packaged sample. prompts: how many. longest: tokens of one at most.
        whole: a document is one prompt, not each of its paragraphs. field: the key of the text in JSON lines.
        label: the key of a label, such as a domain; "" for none.
    """

    source: str = ""
    prompts: int = 300
    longest: int = 256
    whole: bool = False
    field: str = "text"
    label: str = ""

    def __post_init__(self) -> None:
        check_ranges(self, prompts=at_least(1), longest=at_least(SHORTEST + 2, what="tokens"))

    @property
    def name(self) -> str:
        """The file of ids."""
        return "prompts"

    def windows(self, model: Model, seed: int) -> Windows:
        """The prompts, each followed by its changes; `about` says prompt, variant, label, features and first words.

        Raises:
            BadInput, EmptyMaterial: see `materials.paragraphs`.
        """
        where, texts = paragraphs(
            self.source, self.prompts, seed, whole=self.whole, field=self.field, label=self.label
        )
        before, after, words = edges(model.tokenizer, "auto", str(getattr(model.config, "model_type", "")))
        limit = int(getattr(model.config, "max_position_embeddings", None) or 10**9)
        newline = plain_ids(model.tokenizer, "\n")
        room = min(self.longest, limit) - len(before) - len(after) - len(newline)
        encoded = [tuple(plain_ids(model.tokenizer, t.text)) for t in texts]
        kept = [k for k, ids in enumerate(encoded) if len(ids) >= SHORTEST]
        texts, encoded = [texts[k] for k in kept], [encoded[k] for k in kept]
        if not texts:
            raise BadInput(f"{where}: no paragraph has {SHORTEST} tokens; give running text")
        read = [ids[:room] for ids in encoded]
        about = described(
            read, [len(ids) > room for ids in encoded], [t.document for t in texts], model.tokenizer
        )
        common = int(np.quantile([len(ids) for ids in read], QUARTER, method="lower"))
        items: list[Window] = []
        for number, (one, ids) in enumerate(zip(texts, read, strict=True)):
            facts = {
                "prompt": number,
                "label": one.label,
                "shown": one.text[:SHOWN],
                "features": about[number],
            }
            for variant, changed in _variants(ids, newline, common):
                told = facts if variant == "as_is" else {"prompt": number}
                whole = (*before, *changed, *after)
                items.append(Window(len(items), one.document, whole, (), {**told, "variant": variant}))
        return Windows(tuple(items), f"{len(texts)} prompts of {where}, and changes of them", words, 0)


def _variants(ids: tuple[int, ...], newline: list[int], common: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "as_is", ids
    yield "newline", (*newline, *ids)
    yield "drop_first", ids[1:]
    if len(ids) >= common:
        yield "equal_length", ids[:common]
