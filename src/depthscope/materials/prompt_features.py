"""What can be said of a prompt before any model reads it: length, repetition, characters, first token, company."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

FEATURES = (
    "tokens", "characters_per_token", "type_token_ratio", "top_token_share", "digit_share", "punctuation_share",
    "non_ascii_share", "unknown_share", "first_is_capital", "first_is_digit", "first_is_other", "first_token_share",
    "truncated", "duplicates", "overlap",
)  # fmt: skip
"""In this order; shares lie between 0 and 1, `duplicates` counts other prompts of the same ids."""
GRAM = 5
"""Tokens of a stretch that `overlap` looks for in the prompts of other documents."""


def described(
    prompts: Sequence[tuple[int, ...]],
    cut: Sequence[bool],
    documents: Sequence[str],
    tokenizer: Any,  # noqa: ANN401
) -> list[dict[str, float]]:
    """One value a feature for every prompt.

    `first_token_share` is the share of prompts that begin with the same id, `overlap` the share of a prompt's stretches
    of GRAM ids that stand in a prompt of another document too; `unknown_share` is 0 where the tokenizer knows no
    unknown token.

    Args:
        prompts: ids without what stands before and after every text. cut: whether a text was longer than what is read.
    """
    first = Counter(ids[0] for ids in prompts)
    same = Counter(prompts)
    where: dict[tuple[int, ...], set[str]] = defaultdict(set)
    for ids, document in zip(prompts, documents, strict=True):
        for stretch in _stretches(ids):
            where[stretch].add(document)
    unknown = getattr(tokenizer, "unk_token_id", None)
    found: list[dict[str, float]] = []
    for ids, shortened, document in zip(prompts, cut, documents, strict=True):
        stretches = _stretches(ids)
        shared = sum(len(where[s] - {document}) > 0 for s in stretches)
        found.append({
            **_of_text(tokenizer.decode(list(ids)), len(ids)), "tokens": float(len(ids)),
            "type_token_ratio": len(set(ids)) / len(ids), "top_token_share": max(Counter(ids).values()) / len(ids),
            "unknown_share": ids.count(unknown) / len(ids) if unknown is not None else 0.0,
            "first_token_share": first[ids[0]] / len(prompts), "truncated": float(shortened),
            "duplicates": same[ids] - 1.0, "overlap": shared / max(1, len(stretches)),
        })  # fmt: skip
    return found


def _of_text(text: str, tokens: int) -> dict[str, float]:
    size, start = max(1, len(text)), text.strip()[:1]
    plain = start.isalpha() and not start.isupper()
    return {
        "characters_per_token": len(text) / tokens,
        "digit_share": sum(c.isdigit() for c in text) / size,
        "punctuation_share": sum(not c.isalnum() and not c.isspace() for c in text) / size,
        "non_ascii_share": sum(not c.isascii() for c in text) / size,
        "first_is_capital": float(start.isupper()),
        "first_is_digit": float(start.isdigit()),
        "first_is_other": float(not (plain or start.isupper() or start.isdigit())),
    }


def _stretches(ids: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [ids[k : k + GRAM] for k in range(len(ids) - GRAM + 1)]
