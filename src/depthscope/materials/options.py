"""Options: questions behind fixed examples, with the ids of their options; and the controls of such prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from depthscope.errors import BadInput, EmptyMaterial
from depthscope.materials.continuation import continued
from depthscope.materials.edges import edges
from depthscope.materials.questions import Question, balanced, examples, questions, shuffled
from depthscope.materials.text import read
from depthscope.materials.window import Window, Windows
from depthscope.ranges import at_least, check_names, check_ranges
from depthscope.runtime.model import Model

SCORINGS = ("first_distinguishing", "sequence", "last_subtoken")
SNIPPET = 60
"""Words of running text, of which the last tokens are read, where options are looked for that nothing asks for."""


Prompt = tuple[str, list[int], tuple[int, ...], dict[str, Any]]
"""Unit, ids, marked positions, and what is known of them."""


@dataclass(frozen=True)
class OptionPrompts:
    """Questions of several tasks, each once in every mode.

    Args:
        source: see `questions`. items: questions a task, as many of each right answer. shots: examples before each,
            and fewer where less than half of the questions would fit.
        scoring: "first_distinguishing" scores the first token in which options differ, behind what they share;
            "sequence" the sum over all tokens of an option; "last_subtoken" the last token of each.
        controls: also ask without examples (`zero_shot`), behind examples with mixed-up labels (`shuffled_labels`), and
            look for the options in running text (`elsewhere`).
        longest: tokens of the longest prompt that is kept.
    """

    source: str = ""
    items: int = 64
    shots: int = 4
    scoring: str = "first_distinguishing"
    controls: bool = True
    longest: int = 1024

    def __post_init__(self) -> None:
        check_names(self, scoring=SCORINGS)
        check_ranges(self, items=at_least(2), shots=at_least(0), longest=at_least(1, what="tokens"))

    @property
    def name(self) -> str:
        """The name of the material."""
        return "options"

    def windows(self, model: Model, seed: int) -> Windows:
        """Every question in every mode; units are questions, named alike in all modes.

        Raises:
            BadInput: for rows that are no questions, and for options that cannot be told apart by their tokens.
            EmptyMaterial: when every prompt is longer than the model reads.
        """
        name, tasks = questions(self.source)
        before, _, words = edges(model.tokenizer, "auto", model.config.model_type)
        scored = Scored(model, before, self.scoring, min(self.longest, reads(model)))
        found: list[Prompt] = []
        left_out = 0
        for number, (task, asked) in enumerate(tasks.items()):
            fitting, longer = self._fitting(task, asked, scored, [seed, number])
            found += fitting
            left_out += longer
        if not found:
            raise EmptyMaterial(
                f"{name}: every prompt is longer than {scored.longest} tokens, even without examples"
            )
        found[0][3]["left_out"] = left_out
        items = tuple(
            Window(k, unit, tuple(ids), marks, about) for k, (unit, ids, marks, about) in enumerate(found)
        )
        return Windows(items, name, words, 0)

    def _fitting(
        self, task: str, asked: Sequence[Question], scored: Scored, seed: Sequence[int]
    ) -> tuple[list[Prompt], int]:
        """Prompts of the questions that fit, behind as many examples as leave half of them; and how many do not fit."""
        for shots in range(self.shots, -1, -1):
            units = self._task(task, asked, shots, np.random.default_rng(seed))
            groups = [
                [(unit, *window) for mode, q, text in variants for window in scored.windows(q, mode, text)]
                for unit, variants in units
            ]
            fitting = [g for g in groups if all(len(ids) <= scored.longest for _, ids, _, _ in g)]
            if 2 * len(fitting) >= len(groups) or shots == 0:
                for prompt in (prompt for group in fitting for prompt in group):
                    prompt[3]["shots"] = shots
                return [prompt for group in fitting for prompt in group], len(groups) - len(fitting)
        return [], len(asked)

    def _task(
        self, task: str, asked: Sequence[Question], n: int, rng: np.random.Generator
    ) -> Iterator[tuple[str, list[tuple[str, Question, str]]]]:
        """Each question's unit, and its text in every mode, behind n examples."""
        shown = examples(asked, n, rng)
        rest = [q for k, q in enumerate(asked) if k not in shown]
        golds = [asked[k].gold for k in shown]
        shots = [asked[k].answered(g) for k, g in zip(shown, golds, strict=True)]
        mixed = [asked[k].answered(g) for k, g in zip(shown, shuffled(golds, rng), strict=True)]
        places = balanced(rest, self.items, rng)
        texts = snippets(len(places), rng) if self.controls else []
        for number, place in enumerate(places):
            q = rest[place]
            bare = replace(q, pseudo=())
            variants = [("few_shot" if shown else "zero_shot", q, "\n\n".join([*shots, q.text]))]
            if self.controls and shown:
                variants.append(("zero_shot", bare, q.text))
                variants.append(("shuffled_labels", bare, "\n\n".join([*mixed, q.text])))
            if self.controls:
                variants.append(("elsewhere", replace(bare, gold=-1), texts[number]))
            yield f"{task}-{number:05d}", variants


@dataclass(frozen=True)
class Scored:
    """How options become candidate ids of one model."""

    model: Model
    before: list[int]
    scoring: str
    longest: int

    def windows(
        self, q: Question, mode: str, text: str
    ) -> Iterator[tuple[list[int], tuple[int, ...], dict[str, Any]]]:
        """Ids, marked positions and what is known of them; one window, or one for each option of a sequence."""
        about = {"task": q.task, "mode": mode, "gold": q.gold, "options": list(q.options)}
        split = [continued(self.model.tokenizer, text, option) for option in q.options]
        prompt, options = split[0][0], [ids for _, ids in split]
        if mode == "elsewhere":
            prompt = prompt[-min(SNIPPET, self.longest - len(self.before) - max(map(len, options))) :]
        prompt = self.before + prompt
        if self.scoring == "sequence":
            told_apart(q.options, options)
            for place, ids in enumerate(options):
                first = len(prompt) - 1
                yield prompt + ids, tuple(range(first, first + len(ids))), about | {"option": place}
            return
        shared, candidates = distinguished(q.options, options, self.scoring)
        pseudo = [continued(self.model.tokenizer, text, option)[1] for option in q.pseudo]
        about |= {"candidates": candidates, "pseudo": [ids[0] for ids in pseudo]}
        ids = prompt + shared
        yield ids, (len(ids) - 1,), about


def distinguished(
    names: Sequence[str], options: Sequence[list[int]], scoring: str
) -> tuple[list[int], list[int]]:
    """The tokens that all options begin with, and one token of each option that tells it from the others.

    Raises:
        BadInput: for options that share all tokens, or that no single token tells apart.
    """
    told_apart(names, options)
    if scoring == "last_subtoken":
        shared, found = [], [ids[-1] for ids in options]
    else:
        length = min(map(len, options))
        start = next((k for k in range(length) if len({ids[k] for ids in options}) > 1), length)
        shared, found = options[0][:start], [ids[start] if start < len(ids) else -1 for ids in options]
    if len(set(found)) < len(found) or -1 in found:
        raise BadInput(
            f"no single token tells the options {', '.join(names)} apart under scoring={scoring!r}; use 'sequence'"
        )
    return shared, found


def told_apart(names: Sequence[str], options: Sequence[list[int]]) -> None:
    """Refuse options whose tokens are the same.

    Raises:
        BadInput: naming the two options.
    """
    seen: dict[tuple[int, ...], str] = {}
    for name, ids in zip(names, options, strict=True):
        other = seen.setdefault(tuple(ids), name)
        if other != name:
            raise BadInput(
                f"the options {other!r} and {name!r} share all their tokens, so no score tells them apart"
            )


def snippets(n: int, rng: np.random.Generator) -> list[str]:
    """Beginnings of n different stretches of the packaged running text, each SNIPPET words or what is there."""
    _, documents = read(None)
    words = [d.text.split() for d in documents if len(d.text.split()) > SNIPPET]
    found: list[str] = []
    for k in range(n):
        chosen = words[k % len(words)]
        start = int(rng.integers(len(chosen) - SNIPPET))
        found.append(" ".join(chosen[start : start + SNIPPET]))
    return found


def reads(model: Model) -> int:
    """The most tokens a model reads, by its configuration."""
    return int(getattr(model.config, "max_position_embeddings", None) or 10**9)
