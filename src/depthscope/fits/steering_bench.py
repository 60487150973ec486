"""The bench of component steering: texts, pairs, predictors, means and judge, each made when it is first needed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from depthscope.engine.study import Work
from depthscope.errors import BadInput
from depthscope.fits.steering_effects import Cell, Wanted, effects
from depthscope.fits.steering_judge import Judge, commonest, scored
from depthscope.fits.steering_reference import Reference, references, telling_tokens
from depthscope.fits.steering_writing import Writing, written
from depthscope.materials.token_classes import CLASSES, TokenClasses, token_classes
from depthscope.materials.window import Window
from depthscope.runtime.model import Model
from depthscope.runtime.predictor import Predictors, load_predictors
from depthscope.store.atomic import make_folder, write_bytes

STEERED = ("digits", "punctuation", "newline", "opening_bracket")
"""Classes that texts are steered towards in turn; letters are nearly everything anyway."""
COMMON = 100
"""So many of the most frequent ids say nothing when two texts share them."""


@dataclass(frozen=True, eq=False)
class Bench:
    """Everything that the steps of one study share.

    Args:
        folder: of the predictors. identity: theirs, part of the key of every step. layers: asked for, empty for all.
        at: the layer that texts are steered at; -1: the middle one. telling: tokens that tell a domain.
        most: pairs. each: training windows of a label that means are taken over.
    """

    work: Work
    folder: str
    identity: Mapping[str, Any]
    layers: tuple[int, ...]
    at: int
    plan: Sequence[Cell]
    how: Writing
    telling: int
    most: int
    each: int

    @property
    def model(self) -> Model:
        """In float32 at least: effects of small changes are not to drown in rounding."""
        return self.work.model.precise

    @cached_property
    def predictors(self) -> Predictors:
        """Of this model."""
        return load_predictors(self.folder, self.model)

    @cached_property
    def states(self) -> tuple[int, ...]:
        """States whose effects are measured."""
        asked = tuple(layer + 1 for layer in sorted(set(self.layers))) or self.predictors.states
        for state in asked:
            self.predictors.at(state)
        return asked

    @cached_property
    def state(self) -> int:
        """The state that texts are steered at."""
        state = self.at + 1 if self.at >= 0 else self.states[len(self.states) // 2]
        self.predictors.at(state)
        return state

    @cached_property
    def classes(self) -> TokenClasses:
        """The class of every id."""
        return token_classes(self.model.tokenizer)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Domains, sorted."""
        return tuple(sorted({str(w.about["label"]) for w in self.part("train")}))

    @cached_property
    def pairs(self) -> list[tuple[Window, Window]]:
        """Test texts (B, A): B is steered, A is the other one."""
        return paired(self.part("test"), self.most)

    @cached_property
    def tokens(self) -> Mapping[str, tuple[int, ...]]:
        """Ids that tell each domain."""
        return telling_tokens(self.part("train"), self.labels, self.model.anatomy.d_vocab, self.telling)

    @cached_property
    def judge(self) -> Judge:
        """Fitted on the training texts; the validation texts say how good it is."""
        return Judge.of(self.part("train"), self.part("validation"), self.how.new, self.work.seed)

    @cached_property
    def common(self) -> frozenset[int]:
        """Ids that say nothing when two texts share them."""
        return commonest(self.part("train"), COMMON)

    @cached_property
    def references(self) -> dict[int, Reference]:
        """Means of each state, kept beside the journal: the pass over the training texts is made once."""
        from safetensors.torch import load_file, save

        states = tuple(sorted({*self.states, self.state}))
        path = self.work.journal.folder / f"{self._key('reference', states=list(states))}.safetensors"
        if not path.exists():
            made = references(
                self.model, self.predictors, states, self.fitted, self.labels, self.classes,
                self.how.first, self.work.seed,
            )  # fmt: skip
            named = {
                f"{s}:{name}": t.contiguous() for s, r in made.items() for name, t in r.tensors().items()
            }
            make_folder(path.parent)
            write_bytes(path, save(named))
        stored = load_file(path)
        return {s: Reference.of_tensors(_under(f"{s}:", stored)) for s in states}

    @property
    def fitted(self) -> list[Window]:
        """The first training windows of each label."""
        taken: dict[str, int] = dict.fromkeys(self.labels, 0)
        found: list[Window] = []
        for w in self.part("train"):
            label = str(w.about["label"])
            if taken[label] < self.each:
                taken[label] += 1
                found.append(w)
        return found

    def part(self, name: str) -> list[Window]:
        """The windows of one part of the split."""
        return [w for w in self.work.windows.items if w.about["split"] == name]

    def wanted(self, own: Window, other: Window) -> Wanted:
        """What one text is steered towards: the other one's domain, and a class of tokens in turn."""
        kind = CLASSES.index(STEERED[own.index % len(STEERED)])
        last = self.model.anatomy.d_vocab
        ids = tuple(int(i) for i in np.flatnonzero(self.classes.place == kind) if i < last)
        labels = [str(w.about["label"]) for w in (other, own)]
        groups = (*(self.tokens[label] for label in labels), ids)
        return Wanted(self.labels.index(labels[0]), kind, groups)

    def effect(self, state: int, k: int) -> Any:  # noqa: ANN401  (JSON)
        """The step of one state and pair."""
        pair = self.pairs[k]
        done = self.states.index(state) * len(self.pairs) + k + 1
        self.work.progress("effects", done, len(self.states) * len(self.pairs))

        def compute() -> dict[str, Any]:
            wanted = (self.wanted(*pair), self.wanted(*pair[::-1]))
            return effects(
                self.model, self.predictors.at(state), state, pair, wanted, self.references[state], self.plan,
                self.how.first, self.work.seed,
            )  # fmt: skip

        about = {"state": state, "plan": [list(cell) for cell in self.plan], "telling": self.telling}
        return self._step("effects", compute, pair, **about)

    def text(self, k: int) -> Any:  # noqa: ANN401  (JSON)
        """The step of one pair's written texts."""
        own, other = self.pairs[k]
        self.work.progress("texts", k + 1, len(self.pairs))

        def compute() -> dict[str, Any]:
            predictor, reference = self.predictors.at(self.state), self.references[self.state]
            said = written(
                self.model,
                predictor,
                self.state,
                own,
                other,
                self.wanted(own, other),
                reference,
                self.how,
            )
            return {
                variant: {**found, **scored(self.judge, found["ids"], own, other, self.common)}
                for variant, found in said.items()
            }

        return self._step("texts", compute, (own, other), state=self.state, how=asdict(self.how))

    def _step(self, name: str, compute: Callable[[], Any], pair: tuple[Window, Window], **about: Any) -> Any:  # noqa: ANN401
        parameters = {"pair": [w.document for w in pair], **about, **self._about}
        return self.work.journal.step(name, parameters, compute)

    def _key(self, name: str, **about: Any) -> str:
        return self.work.journal.key(name, {**about, **self._about})

    @property
    def _about(self) -> dict[str, Any]:
        """What every step depends on; texts and model are the journal's own."""
        return {**self.identity, "fitted": self.each, "first": self.how.first, "seed": self.work.seed}

    def about(self) -> dict[str, Any]:
        """What the measurements of texts say besides the texts."""
        decode = self.model.tokenizer.decode
        prompts = [decode(list(own.ids[: self.how.prompt])) for own, _ in self.pairs]
        return {
            "layer": self.state - 1, "prompts": prompts, "accuracy": self.judge.accuracy, "pieces": self.judge.pieces,
            "labels": len(self.labels),
        }  # fmt: skip

    def remarks(self) -> Sequence[str]:
        """What a reader must know of the texts and predictors."""
        return [
            f"{len(self.pairs)} pairs of test texts from {len(self.labels)} domains; means and vectors over "
            f"{len(self.fitted)} training windows, the judge fitted on {len(self.part('train'))}.",
            f"Positions before {self.how.first} are left as they are. Texts are steered at layer {self.state - 1}.",
        ]


def _under(prefix: str, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in named.items() if name.startswith(prefix)}


def paired(windows: Sequence[Window], count: int) -> list[tuple[Window, Window]]:
    """Pairs of windows of different labels in the order of a hash of their documents, no window in two pairs.

    Raises:
        BadInput: when there is no such pair.
    """
    left = sorted(windows, key=lambda w: hashlib.sha256(w.document.encode()).digest())
    found: list[tuple[Window, Window]] = []
    while left and len(found) < count:
        own = left.pop(0)
        other = next((w for w in left if w.about["label"] != own.about["label"]), None)
        if other is not None:
            left.remove(other)
            found.append((own, other))
    if not found:
        raise BadInput(
            f"{len(windows)} test windows hold no two of different labels: steering exchanges texts of two domains"
        )
    return found
