"""From what neurons add to answers to hits: shares by kind of prompt, what they say of being right, and their use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from depthscope.engine.cells import Items, inside
from depthscope.engine.fact_hits import OPTIONS, PLACES, VARIANTS
from depthscope.engine.needs import Facts
from depthscope.engine.tally import Sum
from depthscope.measures.separation import auc
from depthscope.results.measurement import Measurement, Table
from depthscope.results.result import Findings

KINDS = ("right", "wrong", "invented")
CONFIDENCE = ("low", "middle", "high")
SCORES = ("key_match", "addition", "confidence")
FIRED = 4.0
"""Standard deviations above its mean over running text from which on a memory has fired."""
FALSE = 0.05
"""Share of prompts that would hit by chance: of answers of other facts, over all layers."""
SHOWN = 100
AT = {"token": np.array(PLACES)}
Columns = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Hits:
    """Which prompts hit a memory.

    Args:
        c: a row a prompt, see `engine.fact_hits.contributions`. match: standard deviations above the mean over text,
            in the direction of the number's sign. fired: whether a kept neuron is a hit; both [prompt, place, option,
            layer, kept]. chosen: [prompt, kind].
    """

    c: Columns
    match: np.ndarray
    fired: np.ndarray
    chosen: np.ndarray

    @classmethod
    def of(cls, c: Columns, moments: Sum) -> Hits:
        """From the rows of all prompts and the sums of hidden numbers over running text, [moment, layer, neuron]."""
        mean, square = moments.total / np.maximum(moments.count, 1)
        spread = np.sqrt(np.maximum(square - mean**2, 0))
        layer = np.arange(c["adds"].shape[3])[:, None]
        neuron = c["neuron"].astype(int)
        sign = np.where(c["hidden"] < 0, -1.0, 1.0)
        apart = sign * (c["hidden"] - mean[layer, neuron])
        match = apart / np.maximum(spread[layer, neuron], 1e-6 * np.abs(c["hidden"]) + 1e-12)
        fact = c["kind"] == "fact"
        fired = (match > FIRED) & (c["adds"] > _threshold(c, fact)[:, None, :, None])
        right = c["answer"] == c["said"]
        chosen = np.stack([fact & right, fact & ~right, ~fact], 1)
        return cls(c, match, fired, chosen)

    @property
    def hit(self) -> np.ndarray:
        """[prompt, place, option]: whether any neuron is one."""
        return self.fired.any((-1, -2)).astype(float)


def _threshold(c: Columns, fact: np.ndarray) -> np.ndarray:
    """What the largest addition to the answer of another fact exceeds in FALSE / layers of cases, [place, layer]."""
    null = np.moveaxis(c["null"][fact], 0, -1)  # [place, layer, other, prompt]
    pooled = np.sort(null.reshape(*null.shape[:2], -1), -1)[..., ::-1]
    return pooled[..., int(FALSE / null.shape[1] * pooled.shape[-1])]


def found(c: Columns, moments: Sum, layers: np.ndarray, facts: Facts, fewest: int) -> Findings:
    """All measurements and the table of hits."""
    hits, items = Hits.of(c, moments), Items(c["unit"], facts, fewest, "prompts")
    made = [*_shares(hits, items), *_by_confidence(hits, items), *_by_layer(hits, items, layers)]
    made += [_told(hits, items), *_losses(hits, items)]
    return Findings({m.name: m for m in made}, {"hits": _table(hits, layers)})


def _shares(hits: Hits, items: Items) -> list[Measurement]:
    real = ~hits.chosen[:, 2]
    right = np.where(real, hits.chosen[:, 0], np.nan)
    sides = {
        "right_minus_wrong": (real, hits.chosen[:, 0]),
        "fact_minus_invented": (np.ones(len(real), bool), real),
    }
    axes = {**AT, "option": np.array(OPTIONS)}
    by = {**axes, "bucket": np.array(KINDS)}
    note = f"prompts with a memory above {FIRED:g} standard deviations that adds more than to answers of other facts"
    confidence = inside(hits.c["confidence"], hits.chosen)
    made = [
        items.mean(right, "accuracy", {}, "probability", "facts whose answer's first token is the likeliest"),
        items.mean(
            confidence, "confidence", {"bucket": by["bucket"]}, "probability", "of the likeliest token"
        ),
        items.mean(inside(hits.hit, hits.chosen), "hit_share", by, "probability", note),
    ]
    for name, (among, high) in sides.items():
        values = np.where(among[:, None, None], hits.hit, np.nan)
        made.append(_difference(items, values, high, name, axes))
    return made


def _difference(
    items: Items,
    values: np.ndarray,
    high: np.ndarray,
    name: str,
    axes: Mapping[str, np.ndarray],
    *more: np.ndarray,
) -> Measurement:
    """Share of hits of one group minus that of the other, at equal further columns where there are any."""
    design = np.stack([np.ones(len(high)), high.astype(float), *more], 1)
    sides = np.stack([high, ~high], 1)
    note = "share of hits, difference" + (" at equal confidence" if more else "")
    return items.coefficient(values, design, 1, name, axes, "probability", note, sides)


def _by_confidence(hits: Hits, items: Items) -> list[Measurement]:
    """Hits of the memories of what is said, at like probability of it: facts against invented subjects."""
    sure, real = hits.c["confidence"], ~hits.chosen[:, 2]
    edges = np.quantile(sure, [1 / 3, 2 / 3])
    level = np.searchsorted(edges, sure)[:, None] == np.arange(len(CONFIDENCE))
    cells = level[:, :, None] & np.stack([real, ~real], 1)[:, None]
    by = {**AT, "confidence": np.array(CONFIDENCE), "bucket": np.array(["fact", "invented"])}
    said = hits.hit[:, :, OPTIONS.index("said")]
    note = "memories of the likeliest token, in thirds of all prompts by its probability"
    return [
        items.mean(inside(said, cells), "hit_by_confidence", by, "probability", note),
        _difference(items, said, real, "fact_minus_invented_at_confidence", AT, sure, sure**2),
    ]


def _by_layer(hits: Hits, items: Items, layers: np.ndarray) -> list[Measurement]:
    own = hits.fired[:, :, 0].any(-1).astype(float)  # [prompt, place, layer], of the answer
    axes = {**AT, "layer": layers}
    whole = hits.c["whole"]
    share = np.where(whole > 0, hits.c["ten"] / np.maximum(whole, 1e-30), np.nan)
    share = np.where(hits.chosen[:, 2, None, None], np.nan, share)
    note = "of the ten largest additions to the answer, over the sizes of all; facts"
    return [
        items.mean(inside(own, hits.chosen), "hit_by_layer", {**axes, "bucket": np.array(KINDS)}, "probability",
                   "a memory of the answer in this layer"),
        items.mean(share, "ten_share", axes, "1", note),
    ]  # fmt: skip


def _told(hits: Hits, items: Items) -> Measurement:
    """How well each score tells facts that the model gets right from those it does not."""
    real, places = ~hits.chosen[:, 2], len(PLACES)
    high, units = hits.chosen[real, 0], items.unit[real]
    sure = np.repeat(hits.c["confidence"][:, None], places, 1)
    adds = hits.c["ten"].sum(-1)
    scores = np.stack([hits.match[:, :, 0].max((-1, -2)), adds, sure], 1)[real]
    made = np.full((3, len(SCORES), places), np.nan)
    fewer = min(int(high.sum()), int((~high).sum()))
    if fewer >= items.fewest:
        for score, place in np.ndindex(len(SCORES), places):
            told = auc(scores[:, score, place], high, units, seed=items.facts.seed)
            made[:, score, place] = [float(x) for x in told]
    missing = (
        "" if np.isfinite(made).all() else f"insufficient: {fewer} facts where {items.fewest} are needed"
    )
    axes = {"score": np.array(SCORES), **AT}
    count = np.full(made.shape[1:], len(high))
    note = "share of pairs of a right and a wrong fact in which the right one has the larger score"
    return Measurement("auc", axes, made[0], "1", made[1], made[2], count, count, note, missing)


def _losses(hits: Hits, items: Items) -> list[Measurement]:
    """What the answer's probability loses without the neurons that add most to it, and without others."""
    clean, gone = hits.c["without"][:, 0], hits.c["without"][:, 1:]
    lost = (clean[:, None] - gone).reshape(-1, len(PLACES), len(VARIANTS))
    lost = np.where(hits.chosen[:, 0, None, None], lost, np.nan)
    axes = {**AT, "variant": np.array(VARIANTS)}
    note = "probability of the answer lost, facts that the model gets right"
    return [
        items.mean(lost, "answer_drop", axes, "probability", note),
        items.mean(lost[..., 0] - lost[..., 1], "drop_beyond_random", AT, "probability", note),
    ]


def _table(hits: Hits, layers: np.ndarray) -> Table:
    """The strongest hits of answers by facts: where, how far above its mean, and how much it adds."""
    own = np.where(hits.fired[:, :, 0], hits.match[:, :, 0], -np.inf)
    order = np.argsort(-own, axis=None, kind="stable")[:SHOWN]
    cells = [np.unravel_index(k, own.shape) for k in order if np.isfinite(own.ravel()[k])]
    row, place, layer, kept = (np.array([cell[k] for cell in cells], int) for k in range(4))
    c = hits.c
    return Table(
        {
            "prompt": c["cloze"][row].astype(str),
            "answer": c["wanted"][row].astype(str),
            "kind": np.array(KINDS)[hits.chosen[row].argmax(1)] if len(row) else np.array([], dtype=str),
            "place": np.array(PLACES)[place],
            "layer": layers[layer],
            "neuron": c["neuron"][row, place, 0, layer, kept].astype(np.int64),
            "hidden": c["hidden"][row, place, 0, layer, kept],
            "match": hits.match[row, place, 0, layer, kept],
            "adds": c["adds"][row, place, 0, layer, kept],
        },
        "a row is a memory of the answer that a prompt hit; the farthest above its mean over running text first",
    )
