"""Continuation: the ids of a prompt and of what follows it, joined as ids and never written out and read again."""

from __future__ import annotations

from functools import partial
from typing import Any

from depthscope.errors import BadInput, Refused
from depthscope.materials.plain_ids import plain_ids


def continued(tokenizer: Any, prompt: str, answer: str) -> tuple[list[int], list[int]]:  # noqa: ANN401
    """Ids of a prompt, and ids of an answer that follows it after one space.

    The answer's ids are those that running text has there: what is left of "prompt answer" behind the prompt's own ids.
    Where a merge crosses the border they are those of " answer" alone. A space that is a token of its own (character
    tokenizers) counts to the prompt, so that the first answer token always speaks of the answer.

    Raises:
        BadInput: for an empty prompt or answer. Refused: where the tokenizer drops the space before a word, so that a
            word that goes on from a prompt has no id of its own.
    """
    if not prompt.strip() or not answer.strip():
        raise BadInput(f"a prompt and its answer need text, found {prompt!r} and {answer!r}")

    ids = partial(plain_ids, tokenizer)
    before, joined, word = ids(prompt), ids(f"{prompt} {answer}"), answer.strip()
    if joined == ids(prompt + word):
        raise Refused(
            f"the tokenizer reads {prompt[-12:] + ' ' + word!r} like {prompt[-12:] + word!r}: it drops the space "
            "before an answer, so answers cannot be told from the ends of words"
        )
    after = joined[len(before) :] if joined[: len(before)] == before else ids(f" {answer}")
    space = ids(" ")
    if len(after) > len(space) and after[: len(space)] == space:
        return before + space, after[len(space) :]
    return before, after
