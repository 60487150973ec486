"""Whether heads look at the token that they are about to say: retrieval scores, and how answers fail.

Source: Wu et al. 2024 (arXiv 2404.15574), section 2: a head copies when the key it looks at most lies in the needle and
holds the token that is said next. Each position of the needle counts once, so a score never exceeds 1.
"""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from depthscope.measures.laws import Law
from depthscope.measures.precision import at_least_float32


def retrieval_scores(
    rows: Float[Tensor, "head query key"],
    said: Int[Tensor, " query"],
    ids: Int[Tensor, " key"],
    start: int,
    stop: int,
) -> dict[str, Float[Tensor, " head"]]:
    """Scores of each head over the rows that predict an answer.

    - `retrieval`: share of the span's positions that the head looked at most when it said the token there, 0 to 1.
    - `needle_mass`: mean mass on the span.
    - `activation`: 1 where at least one token was copied.
    - `sink_argmax`: share of rows whose largest key is the first one.

    A row without any mass copies nothing.

    Args:
        rows: attention of the rows that predict each said token. said: the tokens. ids: all tokens.
        start, stop: the answer's span in the haystack, stop excluded.
    """
    rows = at_least_float32(rows)
    best = rows.argmax(-1)
    some = rows.amax(-1) > 0
    copied = (best >= start) & (best < stop) & (ids[best] == said[None, :]) & some
    span = torch.arange(start, stop, device=rows.device)
    hit = ((best[:, :, None] == span) & copied[:, :, None]).any(1)
    return {
        "retrieval": hit.to(rows.dtype).mean(-1),
        "needle_mass": rows[..., start:stop].sum(-1).mean(-1),
        "activation": hit.any(-1).to(rows.dtype),
        "sink_argmax": ((best == 0) & some).to(rows.dtype).mean(-1),
    }


def unigram_recall(gold: Sequence[str], written: Sequence[str]) -> float:
    """Share of the gold words that were written, each as often as it stands there; NaN without gold words."""
    if not gold:
        return math.nan
    return sum((Counter(gold) & Counter(written)).values()) / len(gold)


ERRORS = ("right", "incomplete", "wrong_extraction", "hallucinated")


def kind_of_answer(gold: Sequence[str], written: Sequence[str], haystack: Sequence[str]) -> str:
    """How an answer fares, by overlap of words: a rule of thumb, not a reading.

    right: all gold words. incomplete: at least a third of them, or nothing was written. wrong_extraction: fewer, but at
    least half of the pairs of neighbouring words that were written stand in the haystack. hallucinated: neither.
    """
    recall = unigram_recall(gold, written)
    if recall == 1:
        return "right"
    if recall >= 1 / 3 or not written:
        return "incomplete"
    pairs = set(pairwise(haystack))
    found = [pair in pairs for pair in pairwise(written)]
    return "wrong_extraction" if found and 2 * sum(found) >= len(found) else "hallucinated"


LAWS = (
    Law(retrieval_scores, ("non_negative", "bounded_by_one"), {"start": 1, "stop": 3}),
    Law(unigram_recall, (), {"gold": ("a",), "written": ("a",)}),
    Law(kind_of_answer, (), {"gold": ("a",), "written": ("a",), "haystack": ("a",)}),
)
