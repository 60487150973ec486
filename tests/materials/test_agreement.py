"""The agreement grammar: what it says agrees, what it says wrongly differs in one word, and attractors are counted."""

from __future__ import annotations

from collections import Counter

import pytest

from depthscope.errors import BadInput
from depthscope.materials.agreement import NOUNS, AgreementGrammar, vocabulary

SENTENCES = AgreementGrammar().sentences(300)
PLURAL_NOUNS = {several for _, several in NOUNS}
PLURAL_DETERMINERS = {"these", "those", "many"}
SINGULAR_DETERMINERS = {"this", "every"}


def spelt(sentence) -> list[str]:
    return sentence.parse.text.split()


def number(words: list[str], noun: int) -> int:
    return int(words[noun] in PLURAL_NOUNS)


def test_the_verb_has_the_number_of_its_subject_and_the_wrong_one_has_not():
    for one in SENTENCES:
        words, wrong = spelt(one), one.wrong.split()
        (subject,) = [k for k, w in enumerate(one.parse.words) if w.head == one.verb and w.label == "nsubj"]
        assert one.parse.words[one.verb].label == "root"
        assert words[one.verb].endswith("s") == (number(words, subject) == 0)
        assert [k for k, (a, b) in enumerate(zip(words, wrong, strict=True)) if a != b] == [one.verb]
        assert wrong[one.verb].endswith("s") != words[one.verb].endswith("s")


def test_attractors_are_the_nouns_of_the_other_number_between_subject_and_verb():
    nouns = {n for pair in NOUNS for n in pair}
    for one in SENTENCES:
        words = spelt(one)
        subject = next(k for k, w in enumerate(one.parse.words) if w.head == one.verb and w.label == "nsubj")
        between = [k for k in range(subject + 1, one.verb) if words[k] in nouns]
        assert one.attractors == sum(number(words, k) != number(words, subject) for k in between)
        assert (one.kind == "none") == (not between)


def test_determiners_agree_with_their_noun():
    for one in SENTENCES:
        words = spelt(one)
        for k, word in enumerate(one.parse.words):
            if words[k] in PLURAL_DETERMINERS:
                assert words[word.head] in PLURAL_NOUNS
            if words[k] in SINGULAR_DETERMINERS and word.label == "det":
                assert words[word.head] not in PLURAL_NOUNS


def test_every_word_has_one_way_to_the_root_and_is_in_the_vocabulary():
    known = set(vocabulary())
    for one in SENTENCES:
        assert set(spelt(one)) <= known
        for start in range(len(one.parse.words)):
            seen, at = set[int](), start
            while at >= 0:
                assert at not in seen
                seen.add(at)
                at = one.parse.words[at].head
            assert one.verb in seen


def test_sentences_differ_and_follow_the_seed():
    assert len({one.parse.text for one in SENTENCES}) == 300
    assert AgreementGrammar().sentences(5) == SENTENCES[:5]
    assert AgreementGrammar().sentences(5, seed=1) != SENTENCES[:5]
    kinds = Counter(one.kind for one in SENTENCES)
    assert min(kinds["none"], kinds["phrase"], kinds["clause"]) > 40


def test_shares_that_are_more_than_a_whole_are_refused():
    with pytest.raises(BadInput, match="shares of one whole"):
        AgreementGrammar(phrases=0.8, clauses=0.4)
