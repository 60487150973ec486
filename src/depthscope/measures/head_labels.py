"""Names for attention heads: a view of their scores under thresholds or ranks. Scores are kept, labels are not data.

A rule is a list of alternatives, each a list of bounds that must all hold. A score that was not measured (NaN) leaves a
label undecided (NaN) unless the other scores decide it: false and unknown is false, true or unknown is true. An
alternative with a score that no head has is none where another one can be asked: else only heads that earn the label
would be known, and all known heads would have it.
Sources of the thresholds: previous, self, retrieval: Clark et al. 2019, Wu et al. 2025 (2404.15574); sink: Gu et al.
2025 (2410.10781); induction: Olsson et al. 2022 (2209.11895); the others are ours. Induction is named by where a head
looks: in deep models the head that finds the token and the head that writes it out are different ones, so `copying`
stands beside the label and is no part of it.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num

from depthscope.errors import BadInput
from depthscope.measures.laws import Law


class Bound(NamedTuple):
    """A score is at least, above, at most or below a number.

    Args:
        share: where positive, the score must also be among this share of the model's heads with the largest scores.
        fixed: a sign or a significance, which a view by rank keeps as it is.
    """

    score: str
    how: str
    number: float
    share: float = 0.0
    fixed: bool = False


class Rule(NamedTuple):
    """A label, the alternatives that earn it, and whether it says what a head is for, not only where it looks."""

    label: str
    any_of: tuple[tuple[Bound, ...], ...]
    content: bool


_GRAMMAR = (
    Bound("grammar", ">=", 0.5),
    Bound("grammar_gain", ">=", 0.1),
    Bound("grammar_gain_low", ">", 0.0, fixed=True),
)
RULES = (
    Rule("previous", ((Bound("previous", ">=", 0.4),),), True),
    Rule("self", ((Bound("self", ">=", 0.4),),), True),
    Rule(
        "offset", ((Bound("best_offset_mass", ">=", 0.4), Bound("best_offset", ">=", 2.0, fixed=True)),), True
    ),
    Rule("sink", ((Bound("sink", ">", 0.3), Bound("first_weighted", "<", 0.3)),), False),
    Rule("broad", ((Bound("entropy_norm", ">", 0.8),),), False),
    Rule("streaming", ((Bound("far_mass", "<=", 0.05),), (Bound("gate", "<", 0.5),)), False),
    Rule("retrieval", ((Bound("retrieval", ">=", 0.1),),), True),
    Rule("strong_retrieval", ((Bound("retrieval", ">=", 0.5),),), True),
    Rule("induction", ((Bound("induction", ">=", 0.2),),), True),
    Rule("strong_induction", ((Bound("induction", ">=", 0.5),),), True),
    Rule("duplicate", ((Bound("duplicate", ">=", 0.2),),), True),
    Rule("grammar", (_GRAMMAR,), True),
    Rule(
        "function_vector",
        (
            (
                Bound("function_vector", ">", 0.0, share=0.02),
                Bound("function_vector_errors", ">", 3.0, fixed=True),
            ),
        ),
        True,
    ),
    Rule("iteration", ((Bound("iteration", ">", 0.5),), (Bound("iteration_end", ">", 0.5),)), True),
    Rule("dead", ((Bound("write_share", "<", 0.01), Bound("ablation_errors", "<", 2.0, fixed=True)),), False),
)
"""Every label; a head may have several or none."""


def head_labels(
    scores: Mapping[str, Num[np.ndarray, "layer head"]], rank: float = 0.0
) -> dict[str, Float[np.ndarray, "layer head"]]:
    """Label -> 1 where a head has it, 0 where not, NaN where scores that were not measured leave it open.

    Args:
        scores: score -> one value a head, NaN where not measured; a score that is not there is nowhere measured.
        rank: 0 compares with the thresholds of RULES. A share in (0, 1) puts in their place the value above which (for
            upper bounds: below which) that share of the model's heads lies, since levels shift with length, BOS and
            size; signs and significances stay.

    Raises:
        BadInput: for a rank outside [0, 1), no score, or scores of different sizes.
    """
    sizes = {np.shape(values) for values in scores.values()}
    if not 0 <= rank < 1 or len(sizes) != 1:
        raise BadInput(
            f"rank={rank}, sizes of the scores {sorted(sizes)}: a share in [0, 1) and one size are needed"
        )
    (size,) = sizes
    empty = np.full(size, np.nan)
    known = {name: np.asarray(values, np.float64) for name, values in scores.items()}
    found: dict[str, np.ndarray] = {}
    for rule in RULES:
        either = np.zeros(size)
        asked = [a for a in rule.any_of if all(np.isfinite(known.get(b.score, empty)).any() for b in a)]
        for bounds in asked or rule.any_of:
            both = np.ones(size)
            for bound in bounds:
                both = _and(both, _holds(known.get(bound.score, empty), bound, rank))
            either = 1 - _and(1 - either, 1 - both)
        found[rule.label] = either
    return found


def _and(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Kleene's and: 0 where either is 0, NaN where one is unknown and none is 0."""
    no = (first == 0) | (second == 0)
    return np.where(no, 0.0, first * second)


def _holds(values: np.ndarray, bound: Bound, rank: float) -> np.ndarray:
    number = _threshold(values, bound, rank)
    compare = {">=": np.greater_equal, ">": np.greater, "<=": np.less_equal, "<": np.less}[bound.how]
    held = compare(values, number).astype(np.float64)
    if bound.share and np.isfinite(values).any():
        held = held * (values >= np.nanquantile(values, 1 - bound.share))
    return np.where(np.isnan(values), np.nan, held)


def _threshold(values: np.ndarray, bound: Bound, rank: float) -> float:
    if not rank or bound.fixed or not np.isfinite(values).any():
        return bound.number
    upper = bound.how.startswith("<")
    return float(np.nanquantile(values, rank if upper else 1 - rank))


LAWS = (Law(head_labels, (), {"scores": {"previous": np.zeros((2, 2))}}),)
