"""Edges: what stands before and after every window, so that a model reads what it was trained to read."""

from __future__ import annotations

from typing import Any, Literal, get_args

from depthscope.errors import BadInput, Refused
from depthscope.materials.plain_ids import plain_ids

Bos = Literal["auto", "always", "never", "never-forced"]
NEEDS_BOS = frozenset({"gemma", "gemma2", "gemma3", "gemma3_text", "recurrent_gemma"})
"""Model types known to be broken without BOS: Gemma-3-270m has perplexity 181 without and 17 with it."""


def edges(tokenizer: Any, bos: str = "auto", model_type: str = "") -> tuple[list[int], list[int], str]:  # noqa: ANN401
    """Ids that stand before and after every window, and the policy in words.

    Raises:
        Refused: for `never` on a model known to need BOS; `never-forced` does it all the same.
        BadInput: for an unknown policy, and for `always` where the tokenizer has no BOS.
    """
    if bos not in get_args(Bos):
        raise BadInput(f"--bos {bos!r} is unknown; it is {', '.join(get_args(Bos))}")
    plain = plain_ids(tokenizer, "a")
    full = tokenizer.encode("a")
    at = next((k for k in range(len(full)) if full[k : k + len(plain)] == plain), 0)
    before, after = full[:at], full[at + len(plain) :]
    if bos == "never" and model_type in NEEDS_BOS:
        raise Refused(
            f"{model_type} is known to be broken without BOS (perplexity rises tenfold); use --bos never-forced"
        )
    if bos.startswith("never"):
        return [], [], "none"
    if bos == "always" and not before:
        first = getattr(tokenizer, "bos_token_id", None)
        if first is None:
            raise BadInput("--bos always: this tokenizer has no BOS token; use --bos auto or never")
        before = [first]
    words = ("BOS before" if before else "nothing before") + (", EOS after" if after else "")
    return before, after, f"{bos}: {words} each window"


def encoded(tokenizer: Any, text: str, max_tokens: int = 512) -> tuple[tuple[int, ...], int]:  # noqa: ANN401
    """Ids of a text as the tokenizer gives them, cut to `max_tokens`, and how many of them are the text's own.

    What stands behind a text (BERT's [SEP]) stays behind a cut one.
    """
    if tokenizer is None:
        raise BadInput("the model has no tokenizer, so it reads no text")
    if max_tokens < 1:
        raise BadInput(f"max_tokens={max_tokens}; a text needs room for 1 token or more")
    own = plain_ids(tokenizer, text)
    # no word about its length: it is cut below
    every: list[int] = list(tokenizer.encode(text, verbose=False))
    added = len(every) - len(own)
    if len(every) <= max_tokens:
        return tuple(every), len(own)
    before = next((k for k in range(added + 1) if every[k : k + len(own)] == own), 0)
    kept = max(0, max_tokens - added)
    return (*every[:before], *own[:kept], *every[before + len(own) :])[:max_tokens], kept
