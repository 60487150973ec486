"""Duo gates: which key-value heads must keep all of their keys.

Question: Which heads can do with the first few and the most recent keys, and which cannot, when a text must be
remembered word for word?

Method: Lists of words are hidden in windows of text and asked for at the end. Each key-value head is a mixture a * full
+ (1 - a) * stream of its own attention to all keys and to the first `start` and last `recent` ones. Gates a begin at 1
and are trained, all weights frozen, so that the last states at the lists' words stay those of the intact model: mean
squared difference plus a penalty on the mean gate, Adam with a warm-up and a cool-down, gates clipped to [0, 1]. The
penalty weighs as much as making all heads stream costs at the start, unless it is given. sensitivity is the same
difference when one group of heads alone streams, without any training. Layers whose window is no longer than what
streaming keeps have no gate.

How to read: A gate near 1 is a head that must see everything (retrieval), near 0 one that may stream. share_full is the
share of gates above one half, share_between of those from 0.2 to 0.8, which the training left open. agreement, the rank
correlation of gates and sensitivity, says whether the cheap score would have done.

What misleads: The gradient of the difference is zero where all gates are 1, so single steps say nothing; few steps
leave gates in between. Gates of heads that can stand in for each other depend on the run. In models that share keys
among many heads one needed head keeps its group. What is not asked of the model (code, arithmetic) is not protected.

Source: Xiao et al. 2024 (arXiv 2410.10819), sections 2.2 and 2.3, with the normalisation of the released code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from depthscope.anatomy.site import Site
from depthscope.engine.needs import Facts
from depthscope.engine.study import Work
from depthscope.errors import Refused
from depthscope.fits.gate_findings import each_head, gates_of, sensitivity_of, table_of
from depthscope.materials.passkeys import Asked, with_passkeys
from depthscope.ranges import above, at_least, check_ranges
from depthscope.results.result import Findings
from depthscope.runtime.gated_attention import gate_loss, gated_layers, last_states
from depthscope.runtime.head_ablation import Ablation, ablated, kv_group
from depthscope.runtime.model import Batch, Model
from depthscope.store.atomic import write_text

TABLE = "gates.csv"
"""The gates in the run folder, as a table that an atlas of heads joins."""
TESTS = 4
"""Texts behind the sensitivity."""
APART = 10**6
"""The number of the first of them, which no step of training has."""


@dataclass(frozen=True)
class DuoGates:
    """Gates of all key-value heads.

    Args:
        steps: of training; 0 measures the sensitivity only. lr: of Adam. weight: of the penalty, None to balance it.
        passkeys, words: lists in each text and words in each list. start, recent: keys that a streaming head keeps.
    """

    steps: int = 150
    lr: float = 0.05
    weight: float | None = None
    passkeys: int = 3
    words: int = 8
    start: int = 4
    recent: int = 64

    def depends(self) -> Mapping[str, Any]:
        """Nothing besides."""
        return {}

    def run(self, work: Work) -> Findings:
        """Sensitivity, then gates; both are steps of the journal."""
        model = work.model
        self._must_fit(model)
        # words differ in their tokens: what does not fit is refused before anything runs
        texts = {step: self._text(work, step) for step in (*range(APART, APART + TESTS), *range(self.steps))}
        sensitivity = np.array(
            work.journal.step(
                "sensitivity", self._about(work, "sensitivity"), lambda: self._sensitivity(work, texts)
            ),
            np.float64,
        )
        facts = Facts.of(model.anatomy, "texts", work.seed, model.name)
        found = [sensitivity_of(facts, sensitivity)]
        if self.steps:
            fitted = work.journal.step(
                "gates", self._about(work, "gates"), lambda: self._trained(work, texts)
            )
            gates = np.array(fitted["gates"], np.float64)
            found += gates_of(facts, gates, np.array(fitted["losses"]), sensitivity.mean(-1))
            write_text(work.folder / TABLE, table_of(each_head(facts, gates)))
        return Findings({m.name: m for m in found})

    def _must_fit(self, model: Model) -> None:
        if not model.anatomy.family.causal:
            raise Refused(f"{model.name} is no causal language model: no list is asked for behind a text")
        if not gated_layers(model, self.start, self.recent):
            raise Refused(
                f"{model.name} has no attention that sees further back than {self.start} + {self.recent} keys"
            )
        check_ranges(self, steps=at_least(0), lr=above(0), start=at_least(0), recent=at_least(1))

    def _about(self, work: Work, what: str) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("passkeys", "words", "start", "recent")}
        more = {name: getattr(self, name) for name in ("steps", "lr", "weight")} if what == "gates" else {}
        return {**own, **more, "seed": work.seed}

    def _text(self, work: Work, step: int) -> Asked:
        """One of the longest windows of the run's text with its passkeys, as long as the window was."""
        longest = max(len(window.ids) for window in work.windows.items)
        windows = [window for window in work.windows.items if len(window.ids) == longest]
        draw = np.random.default_rng([work.seed, 77, step])
        window = windows[int(draw.integers(len(windows)))]
        return with_passkeys(
            work.model, window.ids, self.passkeys, self.words, (work.seed, step), len(window.ids)
        )

    def _sensitivity(self, work: Work, texts: Mapping[int, Asked]) -> list[Any]:
        """[layer, kv_head, text]: squared difference with one group streaming; None where there is no gate."""
        model = work.model
        shape = (model.anatomy.n_layers, model.anatomy.n_kv_heads, TESTS)
        found = np.full(shape, np.nan)
        cells = [
            (k, group) for k in gated_layers(model, self.start, self.recent) for group in range(shape[1])
        ]
        conditions = [
            Ablation(kv_group(model.anatomy, *cell), "stream", start=self.start, recent=self.recent)
            for cell in cells
        ]
        end = Site(model.anatomy.n_layers - 1, "resid_post")
        for test in range(TESTS):
            batch, marks = self._batch(model, texts[APART + test])
            full = last_states(model, batch, marks)
            # side by side, each resumed from its layer
            for k, seen in ablated(model, batch, conditions):
                apart = full - model.head.normalised(seen[end][0, marks])
                found[(*cells[k], test)] = float(apart.detach().square().mean())
            work.progress("sensitivity", test + 1, TESTS)
        return _as_json(found)

    def _trained(self, work: Work, texts: Mapping[int, Asked]) -> dict[str, Any]:
        """Gates [layer, kv_head] and the loss of each step."""
        model = work.model
        shape = (model.anatomy.n_layers, model.anatomy.n_kv_heads)
        open_ = torch.full(shape, torch.nan, device=model.device)
        open_[gated_layers(model, self.start, self.recent)] = 1.0
        gates = open_.clone().requires_grad_()
        weight = self._balance(model, texts[APART], open_) if self.weight is None else self.weight
        optimiser = torch.optim.AdamW([gates], lr=self.lr, weight_decay=0.0)
        losses: list[float] = []
        for step in range(self.steps):
            optimiser.param_groups[0]["lr"] = self.lr * rate(step, self.steps)
            with torch.no_grad():
                gates.clamp_(0.0, 1.0)
            batch, marks = self._batch(model, texts[step])
            full = last_states(model, batch, marks)
            mixed = last_states(model, batch, marks, gates.nan_to_num(1.0), self.start, self.recent)
            apart, loss = gate_loss(full, mixed, gates, weight)
            optimiser.zero_grad()
            loss.backward()
            assert gates.grad is not None
            gates.grad.nan_to_num_(0.0)
            optimiser.step()
            losses.append(float(apart.detach()))
            work.progress("gates", step + 1, self.steps)
        trained = gates.detach().clamp(0, 1).double().cpu().numpy()
        return {
            "gates": _as_json(trained),
            "losses": losses,
            "weight": weight,
        }

    def _balance(self, model: Model, text: Asked, open_: Tensor) -> float:
        """What making all heads stream costs on one text: the penalty of all gates open weighs as much."""
        batch, marks = self._batch(model, text)
        closed = torch.zeros_like(open_)
        mixed = last_states(model, batch, marks, closed, self.start, self.recent).detach()
        return float(gate_loss(last_states(model, batch, marks), mixed, closed, 0.0)[0])

    @staticmethod
    def _batch(model: Model, asked: Asked) -> tuple[Batch, Tensor]:
        return Batch.of_ids([list(asked.ids)]), torch.tensor(asked.marks, device=model.device)


def _as_json(values: np.ndarray) -> list[Any]:
    """Lists with None where a number is missing."""
    if values.ndim > 1:
        return [_as_json(each) for each in values]
    return [None if np.isnan(x) else float(x) for x in values]


def rate(step: int, steps: int) -> float:
    """Share of the learning rate: a tenth, rising to 1 over the first fifth of the steps and falling over the last."""
    ramp = max(1, steps // 5)
    return min(1.0, max((step + 1) / ramp, 0.1), max((steps - step) / ramp, 0.1))
