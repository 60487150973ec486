"""Option patch: from which depth on the last position carries the answer of another prompt.

Question: If the last position's state of one task's prompt is put into a prompt of another task, from which depth on
does the model answer the first task, and is that the depth at which a lens sees its answer?

Method: Each prompt of the target task (letters) has a donor prompt of another task (sentiment). The donor's state s
of the last position takes the target's place at the same state, and the model goes on from there, in float32. The
most likely next token is a target option, a donor option, or other: output_share; output_mass is the probability of
each set. transition is the first state from which on the output is a donor option, among pairs whose donor alone
gives one (donor_answers). lens_transition is the first state from which on the run's lens shows a donor option
at the donor's last position, and lens_later is the difference, lens minus patch, within the same pair. Units
are pairs.

How to read: Early patches leave the target's options, late ones bring the donor's. Before the transition the last
position has not yet gathered what to say; after it the rest of the prompt no longer matters. lens_later above zero
says that the state determines the answer before the lens can read it.

What misleads: The donor's state stands at another position of another prompt, and layers above look back at the
target's text: a late transition may be repair, not absence. At the last state the output is the donor's by
construction. Pairs whose donor gives no option of its own are left out of the transitions, and small models have
many.

Source: How Do LLMs Use Their Depth? (arXiv 2510.18871), appendix on activation patching.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.cells import Items
from depthscope.engine.measured import part, states
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.tally import Rows, Tally
from depthscope.engine.view import View
from depthscope.errors import Refused
from depthscope.materials.option_pairs import OptionPairs
from depthscope.measures.onset import stable_onset
from depthscope.ranges import at_least, check_ranges
from depthscope.results.measurement import Measurement
from depthscope.results.result import Findings, Result
from depthscope.runtime.head import Decode
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.patch import last_states, patched_ends

KINDS = np.array(["target", "donor", "other"])


@dataclass(frozen=True)
class OptionPatch:
    """Last positions of one task put into prompts of another.

    Args:
        source: see `materials.questions`; "" is the packaged set. target, donor: the two tasks.
        pairs: pairs of prompts. shots: examples before each prompt. fewest: pairs a transition needs.
    """

    source: str = ""
    target: str = "choice"
    donor: str = "sentiment"
    pairs: int = 40
    shots: int = 4
    fewest: int = 8

    def __post_init__(self) -> None:
        check_ranges(self, pairs=at_least(1), fewest=at_least(1))

    def needs(self, anatomy: Anatomy) -> Needs:
        """Prompts only: patched passes are made as each shard is observed."""
        if not anatomy.has_unembedding():
            raise Refused("it has no unembedding, so a patched pass has no output")
        if not anatomy.family.causal:
            raise Refused("it is no causal language model: a patched last position changes all others too")
        pairs = OptionPairs(self.source, self.target, self.donor, self.pairs, self.shots)
        return Needs(frozenset({"L0.resid_pre", "L*.resid_post"}), material=pairs)

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """One row a pair: kind of output and mass of both sets at all patched states, and what the lens shows."""
        del batch, given
        rows = [_pair(model.precise, seen, row) for row in range(len(seen.windows))]
        columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        columns["shots"] = np.array([w.about["shots"] for w in seen.windows])
        columns["unit"] = np.asarray(seen.units, dtype=str)
        return Tally({"pairs": Rows(np.array([w.index for w in seen.windows], np.uint64), columns, 10**6)})

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Shares and masses by patched state, and where the output changes over."""
        c = part(total, "pairs", Rows).columns
        last, axes = facts.n_layers, {**states(facts), "option": KINDS}
        items, enough = (Items(c["unit"], facts, fewest, "pairs") for fewest in (1, self.fewest))
        donors = c["kind"] == 1
        answers = donors[:, -1]
        patch, lens = (
            np.where(answers, stable_onset(torch.from_numpy(hit)).numpy().astype(np.float64), np.nan)
            for hit in (donors, c["shown"])
        )
        note = f"state index, 0 to {last}; pairs whose donor answers with an option"
        found: list[Measurement] = [
            items.mean(
                c["kind"][..., None] == np.arange(3), "output_share", axes, "probability", "most likely next token"
            ),
            items.mean(c["mass"], "output_mass", axes, "probability", "summed probability of the set"),
            items.mean(answers.astype(np.float64), "donor_answers", {}, "probability", "share of donors alone"),
            items.mean(
                (c["clean"] == 0).astype(np.float64), "target_answers", {}, "probability", "share of targets alone"
            ),
            enough.mean(patch, "transition", {}, "1", note),
            enough.median(patch, "transition_median", {}, "1", note),
            enough.mean(lens, "lens_transition", {}, "1", f"{note}; through the run's lens"),
            enough.median(lens, "lens_transition_median", {}, "1", f"{note}; through the run's lens"),
            enough.mean(lens - patch, "lens_later", {}, "1", "states by which the lens shows it later than the patch"),
        ]  # fmt: skip
        shots = int(c["shots"].min())
        few = f"Prompts stand behind {shots} examples, not {self.shots}: with more they would not fit."
        return Findings({m.name: m for m in found}, notes=(few,) if shots < self.shots else ())


def _pair(model: Model, seen: View, row: int) -> dict[str, np.ndarray]:
    """What one pair gives: kind [state], mass [state, kind], shown [state] by the lens, clean kind."""
    window = seen.windows[row]
    donor = last_states(model, torch.tensor([window.about["donor"]]))[0]
    ends = patched_ends(model, window.ids, donor)
    sets = [window.about["target_options"], window.about["donor_options"]]
    kind, mass = _answers(model, torch.cat([ends, seen.each_state[-1][row, -1:].to(ends)]), sets)
    shown = model.head.decode(seen.lens(donor[:, None].float()), donor[-1:].float(), Decode(top_k=1)).top_ids
    assert shown is not None
    seen_by_lens = np.isin(shown[:, 0, 0].cpu().numpy(), sets[1])
    return {"kind": kind[:-1], "mass": mass[:-1], "clean": kind[-1], "shown": seen_by_lens}


def _answers(model: Model, ends: Tensor, sets: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Kind of the most likely token of each end state, and the probability of both sets and of the rest."""
    wanted = Decode(top_k=1, candidates=True)
    ids = torch.tensor([*sets[0], *sets[1]]).expand(len(ends), -1)
    trace = model.head.decode(ends[None], ends, wanted, candidates=ids)
    assert trace.top_ids is not None
    assert trace.candidate_log_prob is not None
    top = trace.top_ids[0, :, 0].tolist()
    p = trace.candidate_log_prob[0].double().exp().cpu().numpy()
    first = len(sets[0])
    mass = np.stack([p[:, :first].sum(1), p[:, first:].sum(1)], 1)
    kind = np.array([0 if i in sets[0] else 1 if i in sets[1] else 2 for i in top])
    return kind, np.concatenate([mass, 1 - mass.sum(1, keepdims=True)], 1)
