"""Component probes: what the predictable and the novel part of a state each say of the domain and of the token.

Question: Does the predictable part of a state hold more of what kind of text is read, and the novel part more of which
kind of token stands there?

Method: Documents with labels are read in windows, and the states at the window's last position and at a few before it
are taken apart by a trained predictor: h = expected + novel. A linear probe (multinomial logistic regression, balanced
classes, standardised inputs, penalty chosen on validation documents) reads one of: h, expected, novel, both (expected
and novel side by side). Task domain: the label of the document. Task token_type: the class of the token at the
position, of eight. f1 is on test documents, which share no document with training; the documents are among those that
no predictor is trained on. Controls: h_scaled has the length of the novel part, both_reduced is both on as many
principal directions as h has, h_and_expected spans the same as both, shuffled is h with labels of training mixed up.
Leaky inputs come from temporal features, which look at the current token. Intervals resample test documents, alike
for all inputs.

How to read: difference is the F1 of expected minus that of novel: above 0, the predictable part says more. ordering is
its mean over layers. Compare with h, the whole state, with majority, and with shuffled, which is chance.

What misleads: The predictable part of token_type is not 0: the words before tell a lot of what comes. A weak predictor
leaves everything in the novel part. Probes show what can be read off linearly, not what the model uses. A domain that
is one source is told by its layout too. both has twice the width of h: see both_reduced. Leaky parts have seen the
token: what they expect is no prediction.

Source: Sekiguchi, Ishigaki and Maeda (predictable and novel components of hidden states); temporal features after
Lubana et al. (arXiv 2511.01836).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from depthscope.anatomy.anatomy import Anatomy
from depthscope.engine.needs import Facts, Needs
from depthscope.engine.predicted import check_predictor, digest_of, predictors_of
from depthscope.engine.probe_findings import CONTROLS, findings
from depthscope.engine.tally import Rows, Tally, Vectors
from depthscope.engine.view import View
from depthscope.errors import BadInput
from depthscope.materials.probe_windows import SPLITS, ProbeWindows
from depthscope.materials.reserved import SHARE
from depthscope.measures.softmax_probe import PENALTIES
from depthscope.ranges import at_least, check_names, check_ranges
from depthscope.results.result import Findings, Result
from depthscope.runtime.model import Batch, Model
from depthscope.runtime.predictor import split
from depthscope.runtime.temporal_features import load_temporal_features

_ALL = 10**8
LARGEST = 2**32
"""Bytes of parts that a run may keep."""


@dataclass(frozen=True)
class ComponentProbes:
    """Probes on parts of states.

    Args:
        predictor: the folder of predictors; `--predictor` sets it. digest: of the predictors in it; filled in by
            itself.
        leaky: a folder of temporal features whose parts are probed beside them; "" for none.
        source, label, per_label, window, per_document, probed, held_out, shift, reserve: see
            `materials.probe_windows.ProbeWindows`.
        controls: which of CONTROLS are probed too. penalties: what is chosen from. steps: of one fit at most.
    """

    predictor: str = ""
    digest: str = ""
    leaky: str = ""
    source: str = ""
    label: str = ""
    per_label: int = 200
    window: int = 128
    per_document: int = 1
    probed: int = 4
    held_out: float = 0.2
    shift: int = 0
    reserve: float = SHARE
    controls: tuple[str, ...] = CONTROLS
    penalties: tuple[float, ...] = PENALTIES
    steps: int = 1000

    def __post_init__(self) -> None:
        self._material()
        if self.controls:
            check_names(self, controls=CONTROLS)
        check_ranges(self, penalties=at_least(0), steps=at_least(1))
        if self.predictor and not self.digest:
            object.__setattr__(self, "digest", digest_of(self.predictor))

    def needs(self, anatomy: Anatomy) -> Needs:
        """All states of labelled windows."""
        check_predictor(self.predictor, anatomy)
        return Needs(frozenset({"L0.resid_pre", "L*.resid_post"}), material=self._material())

    def _material(self) -> ProbeWindows:
        return ProbeWindows(
            self.source, self.label, self.per_label, self.window, self.per_document, self.probed, self.held_out,
            self.shift, self.reserve,
        )  # fmt: skip

    def observe(self, model: Model, batch: Batch, seen: View, given: Mapping[str, Result]) -> Tally:
        """The parts of the state at each probed position, with its labels."""
        del given, batch
        predictors = predictors_of(self.predictor, model)
        self._fits(seen, len(predictors.states), model.anatomy.d_model)
        at = torch.tensor(seen.windows[0].about["probed"]) - 1  # parts begin at position 1
        other = load_temporal_features(self.leaky, model) if self.leaky else None
        sites, values = model.anatomy.states(), []
        for state in predictors.states:
            parts = split(predictors.at(state), seen[sites[state]])
            kinds = [parts.h, parts.expected]
            if other is not None:
                kinds.append(other.at(state).split(seen[sites[state]]).expected)
            values.append(torch.stack([kind[:, at.to(kind.device)] for kind in kinds], 2))
        found = torch.stack(values, 2).flatten(0, 1).float().cpu().numpy()
        items = _items(seen)
        layers = np.asarray([s - 1 for s in predictors.states], np.int64)
        return Tally({
            "vectors": Vectors.of(items.key, items.columns["unit"].tolist(), found),
            "items": items,
            "reference": Rows(np.zeros(1, np.uint64), {"layer": layers[None]}, 1),
        })  # fmt: skip

    def conclude(self, total: Tally, facts: Facts) -> Findings:
        """Fit and judge every probe."""
        return findings(total, facts, self.controls, self.penalties, self.steps)

    def _fits(self, seen: View, layers: int, width: int) -> None:
        assert seen.whole is not None
        items = len(seen.whole.items) * len(self._material().positions())
        size = items * layers * (3 if self.leaky else 2) * width * 4
        if size > LARGEST:
            raise BadInput(
                f"the parts of {items} positions at {layers} layers take {size / 2**30:.1f} GiB, at most "
                f"{LARGEST / 2**30:.0f} are kept; lower per_label or probed"
            )


def _items(seen: View) -> Rows:
    """One row a probed position: label, class, part of the split, document, token."""
    rows = [
        (w.index * 2**20 + p, w.about["label"], SPLITS.index(w.about["split"]), kind, i, text, w.document)
        for w in seen.windows
        for p, kind, i, text in zip(
            w.about["probed"], w.about["types"], w.about["ids"], w.about["texts"], strict=True
        )
    ]
    key, label, part, kind, ids, text, unit = zip(*rows, strict=True)
    columns = {
        "label": np.asarray(label, str), "split": np.asarray(part, np.int64), "type": np.asarray(kind, np.int64),
        "id": np.asarray(ids, np.int64), "text": np.asarray(text, str), "unit": np.asarray(unit, str),
    }  # fmt: skip
    return Rows(np.asarray(key, np.uint64), columns, _ALL)
