"""Component steering: what a text becomes when the predictable or the novel part of its states is changed.

Question: Does the predictable part of a state carry what a text is about, and the novel part which token stands there?

Method: A predictor of the next position's state splits each state into its expectation and what is novel. At one state
of held-out texts either part is scaled, replaced by its mean, or exchanged: h' = expected of A + novel of B puts the
expectations of a text A of another domain under the novelties of a text B, at every position but the first few. Vectors
are the mean of a part over texts of one domain, or over tokens of one class, minus the mean over all, added at a
strength in units of the mean length of h. Effects are differences to the unsteered model on the same text: divergence
of the output, cross-entropy, top-1 kept, and the log-probability of all tokens that tell the wanted domain or class.
Texts are written with the predictor's own cache; a judge that knows token ids only says which domain they are from.
Controls: random directions of equal length, novel parts of other tokens, and an equally long step of the whole stream
towards that of A.

How to read: gain is how much likelier the wanted tokens become, in nats. If the predictable part carries the domain,
the swap raises gain, and other_domain of written text, above random and above the mirror image (novel of A under
expected of B), while same_own (the output stays that of B) shows what the novel part still says. A change counts when
it beats random of the same length; kl says how much the output changed in all.

What misleads: A predictor that explains little of a state leaves the domain in the novel part; read its R2 first. The
expectation of one position is made from the text before it, so it holds A's tokens too. A strong step breaks a model,
and broken text has no domain: read distinct_2 and kl beside every gain. The judge is often wrong about a few dozen
tokens: judge_accuracy says how often, and the text called other is what it gives to text really written from A.
Domains differ in their commonest tokens, so a gain on telling tokens is not yet a text about something.

Source: Sekiguchi, Ishigaki and Maeda, predictable and novel components of hidden states, where steering by components
is named as future work; Rimsky et al. 2024 (arXiv 2312.06681) for differences of means as steering vectors; Monroe et
al. 2008 for telling tokens; Li et al. 2016 for distinct-n.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depthscope.engine.needs import Facts
from depthscope.engine.study import Work
from depthscope.errors import BadInput
from depthscope.fits.steering_bench import Bench
from depthscope.fits.steering_effects import cells
from depthscope.fits.steering_findings import Effects, Texts
from depthscope.fits.steering_writing import Writing
from depthscope.materials.probe_windows import ProbeWindows
from depthscope.materials.reserved import SHARE
from depthscope.materials.window import Windows
from depthscope.results.result import Findings
from depthscope.runtime.model import Model
from depthscope.runtime.predictor import CARD
from depthscope.store.atomic import read_json

PIECE = 16
"""The fewest tokens that are written: a judge of fewer would guess."""


@dataclass(frozen=True)
class LabelledReading:
    """Labelled windows as the text of a study.

    Args:
        material: which. seed: of its split.
    """

    material: ProbeWindows
    seed: int = 0

    @property
    def window(self) -> int:
        """Tokens a window."""
        return self.material.window

    def windows(self, model: Model) -> Windows:
        """All parts: to train on, to choose by and to test on."""
        return self.material.windows(model, self.seed)


@dataclass(frozen=True)
class ComponentSteering:
    """Steering by components with the predictors of a folder.

    Memory beyond the model: the states of one batch, three tables of means for each state, and the rows of one replay.

    Args:
        predictor: folder that `depthscope fit predictor` left.
        source, label, per_label, window, reserve: the labelled texts, see `materials.probe_windows`.
        fitted: training texts of a label that means are taken over, at most; the judge reads all.
        layers: which predictors; empty for all. at: the layer that written text is steered at; -1: the middle one.
        levels: what parts are scaled by, less one. strengths: of vectors, in mean lengths of h.
        pairs: pairs of test texts of different domains; each gives both directions of the effects and one of the texts.
        prompt, new: tokens that are read and written; new=0 writes nothing. strength, temperature: of the writing.
        telling: tokens that tell a domain. first: positions that are left alone, where sinks stand.
    """

    predictor: str = ""
    source: str = ""
    label: str = ""
    per_label: int = 60
    window: int = 96
    reserve: float = SHARE
    fitted: int = 20
    layers: tuple[int, ...] = ()
    at: int = -1
    levels: tuple[float, ...] = (-1.0, -0.5, 0.5, 1.0)
    strengths: tuple[float, ...] = (0.1, 0.3, 1.0)
    pairs: int = 24
    prompt: int = 48
    new: int = 32
    strength: float = 0.3
    temperature: float = 0.7
    telling: int = 50
    first: int = 4

    def __post_init__(self) -> None:
        if not self.levels or not self.strengths or min(self.strengths) <= 0:
            raise BadInput(
                f"levels={self.levels}, strengths={self.strengths}: give one each, strengths above 0"
            )
        if self.new and not PIECE <= self.new <= self.window - self.prompt:
            raise BadInput(
                f"prompt={self.prompt} and new={self.new} of a window of {self.window}: at least {PIECE} tokens are "
                "written, and both fit into a window, because the other text is read along; or new=0"
            )
        if (
            min(self.pairs, self.fitted) < 1
            or not 1 <= self.first < min(self.prompt, self.window - 1)
            or self.telling < 1
        ):
            raise BadInput(
                f"pairs={self.pairs}, fitted={self.fitted}, first={self.first}, telling={self.telling}: at least 1 "
                "each, and first below the prompt"
            )

    @property
    def material(self) -> ProbeWindows:
        """The labelled windows."""
        return ProbeWindows(self.source, self.label, self.per_label, self.window, reserve=self.reserve)

    def depends(self) -> Mapping[str, Any]:
        """The predictors.

        Raises:
            BadInput: when the folder holds none.
        """
        path = Path(self.predictor) / CARD
        if not self.predictor or not path.is_file():
            raise BadInput(
                f"--predictor {self.predictor or '(none)'}: there is no {CARD}; steering by components needs "
                "predictors, train them with `depthscope fit predictor MODEL --layers ...`"
            )
        return {"predictor": read_json(path).get("identity")}

    def run(self, work: Work) -> Findings:
        """All effects and all texts, a journal step for each pair.

        Raises:
            BadInput: for a layer without a predictor, or fewer than two labels with test texts.
        """
        how = Writing(self.prompt, self.new, self.strength, self.temperature, self.first, work.seed)
        plan = cells(self.levels, self.strengths)
        bench = Bench(
            work,
            self.predictor,
            self.depends(),
            self.layers,
            self.at,
            plan,
            how,
            self.telling,
            self.pairs,
            self.fitted,
        )
        facts = Facts.of(work.model.anatomy, "documents", work.seed, work.model.name)
        steps = [[bench.effect(state, k) for k in range(len(bench.pairs))] for state in bench.states]
        units = tuple(own.document for own, _ in bench.pairs)
        effect = Effects.of(steps, plan, [state - 1 for state in bench.states], units, facts)
        measured, examples = effect.measurements(), {}
        if self.new:
            said = [bench.text(k) for k in range(len(bench.pairs))]
            texts = Texts(said, bench.pairs, bench.about(), facts)
            measured, examples = {**measured, **texts.measurements()}, texts.examples()
        return Findings(measured, examples, notes=tuple(bench.remarks()))
