"""Which layer to take vectors from.

Question: From which state of a model should vectors for one task be taken, and what does that save against the last?
Method: Two thirds of the items choose, a third reports. On a grid of states (0, 4, 8 ... and the last) the task is
scored on 128 items, then on twice as many, and so on; each time the worse half goes, except states that a paired
bootstrap cannot tell from the leader. Neighbours of the best two are added. Texts are read only as deep as the deepest
state that is left. Of the states within one standard error of the best (of the paired difference) the earliest is
taken whose predictions do not flip more often under noise in the texts than those of the last state. On the items kept
back it is compared with the last state; where it is shown to be worse, the last state stays. Classes are scored by a
ridge probe that leaves each item out, pairs by the Spearman correlation of cosines or by average precision, queries
by nDCG.
How to read: `reported_score` and `difference` are on items that nothing was chosen by; `score` is on those that chose,
so its highest value is a little too high. A difference whose interval holds 0 means that the two states cannot be told
apart on so many items; the earlier one is then the cheaper of two equals as far as is known.
What misleads: The choice holds for this task, its texts and this pooling; other tasks want other layers. Few items
widen the interval but also let the one-standard-error rule go further down. Effective rank, anisotropy and the finding
of disturbed copies are diagnostics: their relation to scores changes its sign between models, so they select nothing.
Seconds are of this machine and hold for reading texts, not for a whole service.
Source: Skean et al. 2025 (arXiv 2502.02013) for layers as vectors; Karnin et al. 2013 (sequential halving); Breiman et
al. 1984 (one standard error).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from depthscope.advise.layer_search import grid
from depthscope.advise.layer_task import main_metric, parts
from depthscope.engine.reading import Reading
from depthscope.engine.study import Work
from depthscope.errors import BadInput, Refused, UnknownName
from depthscope.materials.edges import encoded
from depthscope.materials.labelled import Labelled, load_labelled
from depthscope.materials.window import Window, Windows
from depthscope.measures.pooling import POOLINGS
from depthscope.results.result import Findings
from depthscope.runtime.model import Model

NAME = "choose_layer"
NORMS = ("auto", "on", "off")
"""`auto`: on, unless off is better by more than one standard error at the chosen state."""


@dataclass(frozen=True)
class TaskReading(Reading):
    """Texts as they are, one window each, however short; cut at `window`."""

    def windows(self, model: Model) -> Windows:
        """One window a text that has a token."""
        texts = self.text if isinstance(self.text, Sequence) and not isinstance(self.text, str) else ()
        read = [encoded(model.tokenizer, text, self.window)[0] for text in texts]
        items = [(f"text-{k:05d}", ids) for k, ids in enumerate(read) if ids]
        windows = tuple(Window(k, name, ids) for k, (name, ids) in enumerate(items))
        return Windows(windows, "texts of the task", "as the tokenizer adds", 0)


@dataclass(frozen=True)
class ChooseLayer:
    """Choose the state whose vectors serve a task, as cheaply as the task allows.

    Args:
        task: a file of labelled texts, see `materials.labelled`. limit: items at most, 0 for all. metric: "" for the
            main score of the kind of task. pooling: of tokens. norm: through the final norm: auto, on or off.
        stride: of the grid. share: of the states that may be scored. first: items of the first round. max_tokens:
            longer texts are cut. rows, repeats: of the measured speed.
    """

    task: str
    limit: int = 0
    metric: str = ""
    pooling: str = "mean"
    norm: str = "auto"
    stride: int = 4
    share: float = 0.6
    first: int = 128
    max_tokens: int = 512
    rows: int = 8
    repeats: int = 7

    def depends(self) -> Mapping[str, Any]:
        """The items of the task."""
        return {"task": self.loaded().hash}

    def loaded(self) -> Labelled:
        """The task; errors as in `load_labelled`."""
        return load_labelled(self.task, self.limit or None)

    def check(self, model: Model) -> None:
        """Nothing, where the study can begin on this model.

        Raises:
            BadInput: for values out of range, or a task with too few items. Refused: for models that read no text.
            UnknownName: for an unknown pooling or score.
        """
        if model.tokenizer is None or model.anatomy.family.reads != "tokens":
            raise Refused(
                f"{model.name} reads {model.anatomy.family.reads}; vectors of texts need a model of texts"
            )
        for kind, asked, known in (("pooling", self.pooling, POOLINGS), ("norm", self.norm, NORMS)):
            if asked not in known:
                raise UnknownName(kind, asked, known)
        if self.limit < 0 or self.first < 2 or self.max_tokens < 1 or self.rows < 1 or self.repeats < 1:
            raise BadInput(
                "limit is 0 (all) or more, first 2 or more, max_tokens, rows and repeats 1 or more"
            )
        if not 0 < self.share <= 1:
            raise BadInput(f"share {self.share:g} of the states is above 0 and at most 1")
        grid(model.anatomy.n_layers, self.stride)
        task = self.loaded()
        main_metric(task, self.metric)
        parts(task)

    def reading(self) -> Reading:
        """The task's texts as the text of a run."""
        return TaskReading(self.loaded().texts, window=self.max_tokens)

    def run(self, work: Work) -> Findings:
        """Check, search, disturb, compare, measure."""
        self.check(work.model)
        from depthscope.advise.layer_choice import Choosing

        return Choosing(self, work).run()
