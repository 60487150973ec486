"""Atlases side by side on the page of a comparison, in a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from depthscope.charts.points import points
from depthscope.measures.head_labels import RULES
from depthscope.report.head_comparison import HeadsApart, LabelApart
from depthscope.report.head_course import HeadCourse
from depthscope.report.head_course_page import course_data, course_part
from depthscope.report.head_sentences import AGREE, sentences
from depthscope.report.heads_part import HeadsPart, drawn_chart
from depthscope.report.sections import Chart
from depthscope.report.tables import MISSING, PageTable, number
from depthscope.results.measurement import Measurement

SHOWN = 60
"""Pairs of heads that the page lists."""
CONTENT = {rule.label for rule in RULES if rule.content}
CENSUS = (
    "All heads of both are counted: there is no interval over heads. Levels shift with text, length and BOS."
)


def heads_parts(pairs: Sequence[HeadsApart], course: HeadCourse | None) -> tuple[HeadsPart, ...]:
    """All parts on heads: the course first where the runs are checkpoints, then each run against the first."""
    return (*(() if course is None else (course_part(course),)), *map(_pair_part, pairs))


def heads_data(pairs: Sequence[HeadsApart], course: HeadCourse | None) -> dict[str, Any]:
    """The same as JSON values; numbers of heads count layer by layer."""
    found: dict[str, Any] = {"heads": [_pair_data(pair) for pair in pairs]}
    return found if course is None else {**found, "head_course": course_data(course)}


def _pair_data(pair: HeadsApart) -> dict[str, Any]:
    matched = pair.matched
    return {
        "runs": [pair.first.run, pair.second.run],
        "sizes": [list(pair.first.size), list(pair.second.size)],
        "aligned_by_index": pair.aligned,
        "sentences": list(sentences(pair)),
        "scores": [asdict(one) for one in pair.scores],
        "labels": [
            asdict(one) | {"shared": None if one.shared is None else one.shared._asdict()}
            for one in pair.labels
        ],
        "matching": None if matched is None else {**asdict(matched), "pairs": matched.pairs.tolist()},
        "unmatched": pair.unmatched,
    }


def _pair_part(pair: HeadsApart) -> HeadsPart:
    charts = (_labels_chart(pair), _index_chart(pair) if pair.aligned else _depth_chart(pair))
    tables = (score_table(pair), label_table(pair), *([pair_table(pair)] if pair.matched else []))
    title = f"Heads of {pair.second.run} and {pair.first.run}"
    return HeadsPart(title, sentences(pair), tuple(c for c in charts if c is not None), tables)


def score_table(pair: HeadsApart) -> PageTable:
    """One row a score: means, how far apart values and depths are, and by index the correlation."""
    a, b = pair.first.run, pair.second.run
    columns = ["score", "unit", f"mean {a}", f"mean {b}", "levels apart", "depths apart", "random order", "p"]
    columns += ["correlation by index", "interval", "heads"] if pair.aligned else []
    rows: list[tuple[str, ...]] = []
    for one in pair.scores:
        cells = [
            one.score,
            one.unit,
            *map(number, (*one.means, one.level, one.depth, one.depth_null, one.depth_p)),
        ]
        if pair.aligned:
            cells += [number(one.correlation), _interval(one.low, one.high), f"{one.n:,}"]
        rows.append(tuple(cells))
    note = (
        "Levels apart: earth mover's distance of the values of all heads, in the score's unit. Depths apart: the same "
        "of where in depth the score's weight lies, in shares of the depth; random order: its mean with the second "
        "model's heads in random order, p the share of such orders that are as near."
    )
    return PageTable("Scores of heads", tuple(columns), tuple(rows), note=f"{note} {CENSUS}")


def label_table(pair: HeadsApart) -> PageTable:
    """One row a label: heads, share, mean relative depth; by index how many heads share it."""
    a, b = pair.first.run, pair.second.run
    columns = ["label", *(f"{what} {run}" for what in ("heads", "share", "depth") for run in (a, b))]
    columns += ["heads of both", "Jaccard", "p"] if pair.aligned else []
    rows: list[tuple[str, ...]] = []
    for one in pair.labels:
        cells = [one.label.replace("_", " "), *_counts(one)]
        cells += [*map(_percent, one.share), *map(_percent, one.depth)]
        if pair.aligned:
            both = one.shared
            cells += [MISSING] * 3 if both is None else [str(both.both), number(both.jaccard), number(both.p)]
        rows.append(tuple(cells))
    return PageTable(
        "Labels of heads", tuple(columns), tuple(rows), note=f"Depth from first to last layer. {CENSUS}"
    )


def pair_table(pair: HeadsApart) -> PageTable:
    """Heads paired by their profiles: first those that share a label which says what they are for."""
    assert pair.matched is not None
    first, second = pair.first, pair.second
    ordered = sorted(pair.matched.pairs.tolist(), key=lambda heads: _rank(pair, *heads), reverse=True)
    shown = tuple(
        (_place(a, first.size), _words(first.labels(a)), _place(b, second.size), _words(second.labels(b)))
        for a, b in ordered[:SHOWN]
    )
    note = f"Profiles of {len(pair.matched.scores)} scores: {', '.join(pair.matched.scores)}."
    if len(ordered) > SHOWN:
        note = f"The first {SHOWN} of {len(ordered)} pairs; --json gives all. {note}"
    columns = (f"head {first.run}", "its labels", f"head {second.run}", "its labels")
    return PageTable("Heads paired by their scores", columns, shown, note=note)


def _counts(one: LabelApart) -> list[str]:
    """How many heads have a label; nothing where it is open for all of them."""
    return [
        MISSING if np.isnan(share) else f"{count:,}"
        for count, share in zip(one.heads, one.share, strict=True)
    ]


def _rank(pair: HeadsApart, a: int, b: int) -> tuple[int, int, int]:
    """Labels of what heads are for that both have, that one has, and any labels that both have."""
    one, other = set(pair.first.labels(a)), set(pair.second.labels(b))
    return len(one & other & CONTENT), len((one | other) & CONTENT), len(one & other)


def _words(labels: Sequence[str]) -> str:
    return ", ".join(label.replace("_", " ") for label in labels)


def _place(head: int, size: tuple[int, int]) -> str:
    layer, place = divmod(head, size[1])
    return f"L{layer}H{place}"


def _percent(share: float) -> str:
    return MISSING if np.isnan(share) else f"{share:.1%}"


def _interval(low: float, high: float) -> str:
    return f"{number(low)} to {number(high)}" if np.isfinite([low, high]).all() else MISSING


def _labels_chart(pair: HeadsApart) -> Chart | None:
    kept = [one for one in pair.labels if any(one.heads)]
    axis = {"role": np.array([one.label.replace("_", " ") for one in kept])}
    if not kept:
        return None
    series = {
        run: Measurement(
            "share", axis, np.array([one.share[k] for one in kept]), "probability", missing="not measured"
        )
        for k, run in enumerate((pair.first.run, pair.second.run))
    }
    said = "; ".join(f"{one.label} {_percent(one.share[0])} and {_percent(one.share[1])}" for one in kept)
    return drawn_chart(
        "Share of heads with each label", points(series, "role", "label", "share of heads"), said
    )


def _index_chart(pair: HeadsApart) -> Chart | None:
    kept = [one for one in pair.scores if np.isfinite(one.correlation)]
    if not kept:
        return None
    value, low, high, n = (
        np.array([getattr(one, part) for one in kept]) for part in ("correlation", "low", "high", "n")
    )
    axis = {"score": np.array([one.score.replace("_", " ") for one in kept])}
    found = Measurement("correlation", axis, value, "1", low, high, n_items=n)
    drawn = points({pair.second.run: found}, "score", "score", "correlation over heads of equal index")
    said = f"{int((low > AGREE).sum())} of {len(kept)} scores correlate above {AGREE:g} with their whole interval."
    return drawn_chart("Scores head by head", drawn, said)


def _depth_chart(pair: HeadsApart) -> Chart | None:
    kept = [one for one in pair.scores if np.isfinite(one.depth)]
    if not kept:
        return None
    axis = {"score": np.array([one.score.replace("_", " ") for one in kept])}
    series = {
        name: Measurement("distance", axis, np.array([getattr(one, part) for one in kept]), "1")
        for name, part in (("the two models", "depth"), ("heads in random order", "depth_null"))
    }
    drawn = points(series, "score", "score", "distance in shares of the depth")
    said = "; ".join(f"{one.score} {one.depth:.2f} against {one.depth_null:.2f}" for one in kept)
    return drawn_chart("How far apart in depth scores lie", drawn, said)
