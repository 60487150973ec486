"""The work of choosing a layer: sanity, search, robustness, norm, verdict, cost; every step kept in the journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from depthscope.advise.layer_cost import LayerCost, layer_costs
from depthscope.advise.layer_findings import Chosen, Report, findings_of
from depthscope.advise.layer_noise import Noise, noise_of
from depthscope.advise.layer_sanity import Sanity, sanity
from depthscope.advise.layer_search import Found, Seen, search, within
from depthscope.advise.layer_task import Bank, Judge, first_round, main_metric, parts, seen_of
from depthscope.engine.study import Work
from depthscope.engine.task_scores import Scored, scored
from depthscope.measures.statistics import multiplicities
from depthscope.results.result import Findings

if TYPE_CHECKING:
    from depthscope.advise.layer import ChooseLayer

DRAWS = 1000
CANDIDATES = 4
"""Of the states within one standard error so many are disturbed, earliest first."""


@dataclass(frozen=True)
class Picked:
    """A state, and why it and no other: one of `cheapest`, `flips` (earlier ones flip more), `none` (all flip more)."""

    state: int
    why: str
    passed_over: tuple[int, ...]


class Choosing:
    """One study at work."""

    def __init__(self, study: ChooseLayer, work: Work) -> None:
        self.study, self.work, self.model = study, work, work.model
        self.task = study.loaded()
        self.parts = parts(self.task, work.seed)
        self.metric = main_metric(self.task, study.metric)
        self.depth = work.model.anatomy.n_layers
        self.banks: dict[bool, Bank] = {}
        self.judge = self._judge(study.norm != "off")

    def run(self) -> Findings:
        """Check, search, disturb, compare, measure."""
        clean = self._sane()
        found = search(
            self.depth, self._told, items=len(self.parts.choosing.items), stride=self.study.stride,
            first=first_round(self.parts.choosing, self.study.first), share=self.study.share,
        )  # fmt: skip
        noise = self._disturbed(found)
        picked = pick(found, noise, self.depth, self.work.seed)
        norm, sides = self._norm(picked.state)
        report = self._reported(picked.state, norm)
        worse = picked.state != self.depth and report.gap("chosen", "last")[2] < 0
        state = self.depth if worse else picked.state
        if worse:
            norm = self.study.norm != "off"
        costs = self._costs(sorted({picked.state, self.depth}))
        chosen = Chosen(
            state, picked.state, "worse" if worse else picked.why, picked.passed_over, norm, sides, self.study.pooling,
            self.metric, self.task.name, self.task.kind,
        )  # fmt: skip
        blocks = (clean.blocks + self.judge.blocks) / (self.depth * len(self.parts.choosing.texts))
        return findings_of(
            self.model.name,
            self.depth,
            self.parts,
            clean,
            found,
            noise,
            chosen,
            report,
            costs,
            blocks,
            self.task,
        )

    def _judge(self, norm: bool) -> Judge:
        bank = self.banks.setdefault(norm, Bank(self.model, self.study.pooling, norm, self.study.max_tokens))
        return Judge(self.parts.choosing, bank, self.metric, self.work.journal, self.work.seed)

    def _sane(self) -> Sanity:
        about = {**self._about(), "what": "sanity"}
        bank = self.judge.bank
        stored = self.work.journal.step(
            "sanity", about, lambda: sanity(self.task, self.parts, bank).as_json()
        )
        self.work.progress("sanity", 1, 1)
        return Sanity.of(stored)

    def _told(self, states: Sequence[int], items: int) -> Seen:
        seen = self.judge.look(states, items)
        self.work.progress(f"{len(states)} states on {items} items", 1, 1)
        return seen

    def _disturbed(self, found: Found) -> Noise:
        near = within(found.final)[:CANDIDATES]
        noise = noise_of(self.judge, sorted({0, *near, found.best, self.depth}))
        self.work.progress("noise", 1, 1)
        return noise

    def _norm(self, state: int) -> tuple[bool, dict[str, float]]:
        """Which side of the final norm, and the scores of both at the chosen state."""
        on = self.study.norm != "off"
        if self.study.norm != "auto" or self.model.anatomy.final_norm is None:
            return on, {}
        items = len(self.parts.choosing.items)
        both = [self._judge(side).look((state,), items) for side in (True, False)]
        pair = Seen(
            (0, 1), np.concatenate([s.score for s in both]), np.concatenate([s.drawn for s in both], axis=1)
        )
        better = pair.of(1) - pair.of(0) > pair.error(1, 0) and state < self.depth
        return not better, {"on": pair.of(0), "off": pair.of(1)}

    def _reported(self, state: int, norm: bool) -> Report:
        """The chosen state, the last, state 0 and words alone, on items that nothing was chosen by."""
        part, side = self.parts.reporting, self.study.norm != "off"
        about = {
            **self._about(),
            "state": state,
            "norm_of_state": norm,
            "draws": DRAWS,
            "reported": part.hash,
        }

        def compute() -> dict[str, Any]:
            plain = self.banks[side].of(part.texts, (self.depth, 0))
            chosen = plain[:1] if state == self.depth else self._side(norm).of(part.texts, (state,))
            found = scored(part, np.concatenate([chosen, plain]), (self.metric,), seed=self.work.seed)[0]
            words = scored(part, word_vectors(part.texts)[None], (self.metric,), seed=self.work.seed)[0]
            rows = np.concatenate([found.values, words.values])
            values = [[float(v) if np.isfinite(v) else None for v in row] for row in rows]
            return {"values": values, "gold": found.gold.tolist()}

        stored = self.work.journal.step("reported", about, compute)
        rows = np.asarray([[np.nan if v is None else v for v in row] for row in stored["values"]])
        self.work.progress("reported items", 1, 1)
        return Report(
            seen_of(Scored(self.metric, rows, np.asarray(stored["gold"])), range(4), self.work.seed),
            len(part.items),
        )

    def _side(self, norm: bool) -> Bank:
        return self._judge(norm).bank

    def _costs(self, states: Sequence[int]) -> tuple[LayerCost, ...]:
        lengths = [len(w.ids) for w in self.work.windows.items]
        tokens = max(1, int(np.median(lengths)))
        counts = {"tokens": tokens, "rows": self.study.rows, "repeats": self.study.repeats}
        stored = self.work.journal.step(
            "cost",
            {**counts, "states": list(states)},
            lambda: [cost.as_json() for cost in layer_costs(self.model, states, **counts)],
        )
        self.work.progress("cost", 1, 1)
        return tuple(LayerCost.of(each) for each in stored)

    def _about(self) -> dict[str, Any]:
        return {
            "task": self.task.hash, "metric": self.metric, "pooling": self.study.pooling, "norm": self.study.norm,
            "max_tokens": self.study.max_tokens, "seed": self.work.seed,
        }  # fmt: skip


def pick(found: Found, noise: Noise, depth: int, seed: int = 0) -> Picked:
    """The earliest state within one standard error that is not shown to flip more often under noise than the last.

    Where every one of them flips more, the last state stays.
    """
    draws = multiplicities(noise.flips.shape[1], DRAWS, seed)
    passed: list[int] = []
    for state in within(found.final)[:CANDIDATES]:
        if state == depth or not noise.more_flips(state, depth, draws)[1] > 0:
            return Picked(state, "flips" if passed else "cheapest", tuple(passed))
        passed.append(state)
    return Picked(depth, "none", tuple(passed))


def word_vectors(texts: Sequence[str]) -> np.ndarray:
    """TF-IDF of words (of single characters where a script has no spaces), made of these texts alone, no model."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    pattern = r"[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]+"
    found = TfidfVectorizer(token_pattern=pattern, sublinear_tf=True, max_features=4096).fit_transform(
        [text or "." for text in texts]
    )
    return np.asarray(found.todense(), np.float32)  # pyright: ignore[reportAttributeAccessIssue]
