"""A synthetic grammar of English in which verbs agree with their subject and determiners with their noun.

Between the subject and its verb may stand a phrase or a clause whose noun, the attractor, has the other number. The
generator knows the dependencies of every sentence, and makes each into a minimal pair by giving the main verb the
wrong number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from depthscope.errors import BadInput
from depthscope.materials.conllu import ROOT, Parse, ParsedWord

SOURCE = "agreement"
"""What materials call this grammar."""


def _listed(words: str) -> tuple[str, ...]:
    return tuple(words.split())


NOUNS = tuple(
    (n, f"{n}s")
    for n in _listed(
        "author banker boy cat chef clerk dancer dog doctor driver farmer girl guard king nurse officer painter pilot "
        "poet queen sailor senator singer skater teacher tailor uncle waiter writer worker"
    )
)
"""One and several."""
INTRANSITIVE = tuple((f"{v}s", v) for v in _listed("laugh sleep smile swim wait walk cook dance sing sneeze"))
TRANSITIVE = tuple((f"{v}s", v) for v in _listed("admire avoid follow greet help know like meet see visit"))
ADJECTIVES = _listed("old young tall clever quiet famous angry brave kind lazy")
ADVERBS = _listed("often rarely always never today again")
PREPOSITIONS = _listed("near behind beside before above under")
DETERMINERS = (("the", "this", "that", "every"), ("the", "these", "those", "many"))
"""For one, and for several."""


@dataclass(frozen=True)
class AgreementSentence:
    """One sentence.

    Args:
        parse: its words and dependencies. wrong: the same words with the main verb in the wrong number.
        kind: what stands between subject and verb: "none", "phrase", "clause". attractors: nouns of the other number
            between them. verb: the number of the main verb among the words.
    """

    parse: Parse
    wrong: str
    kind: str
    attractors: int
    verb: int


@dataclass(frozen=True)
class AgreementGrammar:
    """The grammar.

    Args:
        phrases, clauses: how often a subject carries a prepositional phrase, or a relative clause.
        second: how often a phrase carries another one. adjectives, adverbs: how often there is one.
    """

    phrases: float = 0.35
    clauses: float = 0.25
    second: float = 0.3
    adjectives: float = 0.25
    adverbs: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.phrases + self.clauses <= 1:
            raise BadInput(f"phrases={self.phrases} and clauses={self.clauses} are shares of one whole")

    def sentences(self, count: int, seed: int = 0) -> list[AgreementSentence]:
        """That many different sentences."""
        rng = np.random.default_rng([seed, 7])
        found: dict[str, AgreementSentence] = {}
        while len(found) < count:
            one = self._sentence(rng, f"agreement-{len(found):05d}")
            found.setdefault(one.parse.text, one)
        return list(found.values())

    def _sentence(self, rng: np.random.Generator, name: str) -> AgreementSentence:
        built, number = _Builder(rng), int(rng.random() < 0.5)
        subject = self._noun(built, number, self.adjectives)
        drawn = rng.random()
        kind = (
            "phrase" if drawn < self.phrases else "clause" if drawn < self.phrases + self.clauses else "none"
        )
        others = self._between(built, subject, number, kind)
        adverb = built.word(built.pick(ADVERBS)) if built.coin(self.adverbs) else None
        transitive = built.coin(0.5)
        forms = built.pick(TRANSITIVE if transitive else INTRANSITIVE)
        verb = built.word(forms[number])
        built.attach(subject, verb, "nsubj")
        built.attach(adverb, verb, "advmod")
        built.attach(self._noun(built, built.coin(0.5), 0.1) if transitive else None, verb, "obj")
        built.attach(built.word("."), verb, "punct")
        wrong = [*built.spelt[:verb], forms[1 - number], *built.spelt[verb + 1 :]]
        attractors = sum(other != number for other in others)
        return AgreementSentence(built.parse(name), " ".join(wrong), kind, attractors, verb)

    def _noun(self, built: _Builder, number: int, described: float) -> int:
        """A determiner, perhaps an adjective, and a noun, whose place is returned."""
        determiner = built.word(built.pick(DETERMINERS[number]))
        adjective = built.word(built.pick(ADJECTIVES)) if built.coin(described) else None
        noun = built.word(built.pick(NOUNS)[number])
        built.attach(determiner, noun, "det")
        built.attach(adjective, noun, "amod")
        return noun

    def _between(self, built: _Builder, subject: int, number: int, kind: str) -> list[int]:
        """What stands between subject and verb; the numbers of its nouns."""
        if kind == "none":
            return []
        if kind == "clause":
            return [self._clause(built, subject, number)]
        inner, first = self._phrase(built, subject)
        return [first, self._phrase(built, inner)[1]] if built.coin(self.second) else [first]

    def _clause(self, built: _Builder, subject: int, number: int) -> int:
        """`that greets the king` or `that the king greets`; the number of the king."""
        that, other = built.word("that"), built.coin(0.5)
        if built.coin(0.5):
            verb = built.word(built.pick(TRANSITIVE)[number])
            built.attach(that, verb, "nsubj")
            built.attach(self._noun(built, other, 0.0), verb, "obj")
        else:
            agent = self._noun(built, other, 0.0)
            verb = built.word(built.pick(TRANSITIVE)[other])
            built.attach(agent, verb, "nsubj")
            built.attach(that, verb, "obj")
        built.attach(verb, subject, "acl:relcl")
        return other

    def _phrase(self, built: _Builder, noun: int) -> tuple[int, int]:
        """`near the king`, which belongs to `noun`; the place and the number of the king."""
        case, number = built.word(built.pick(PREPOSITIONS)), built.coin(0.5)
        inner = self._noun(built, number, 0.0)
        built.attach(case, inner, "case")
        built.attach(inner, noun, "nmod")
        return inner, number


@dataclass
class _Builder:
    """A sentence in the making: words in order, and head and relation of each; the root has none."""

    rng: np.random.Generator
    spelt: list[str] = field(default_factory=list)
    arcs: dict[int, tuple[int, str]] = field(default_factory=dict)

    def coin(self, chance: float) -> int:
        return int(self.rng.random() < chance)

    def pick(self, choices: Sequence[Any]) -> Any:  # noqa: ANN401
        return choices[int(self.rng.integers(len(choices)))]

    def word(self, spelt: str) -> int:
        self.spelt.append(spelt)
        return len(self.spelt) - 1

    def attach(self, word: int | None, head: int, label: str) -> None:
        if word is not None:
            self.arcs[word] = (head, label)

    def parse(self, name: str) -> Parse:
        words: list[ParsedWord] = []
        start = 0
        for k, spelt in enumerate(self.spelt):
            words.append(ParsedWord(start, start + len(spelt), *self.arcs.get(k, (ROOT, "root"))))
            start += len(spelt) + 1
        return Parse(name, " ".join(self.spelt), tuple(words))


def vocabulary() -> tuple[str, ...]:
    """Every word that the grammar can say, sorted."""
    pairs = (*NOUNS, *INTRANSITIVE, *TRANSITIVE, *DETERMINERS)
    singles = (*ADJECTIVES, *ADVERBS, *PREPOSITIONS, "that", ".")
    return tuple(sorted({*singles, *(w for pair in pairs for w in pair)}))
