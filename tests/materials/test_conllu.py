"""CoNLL-U: words found again in the raw text, ranges and empty nodes, and lines that are not as they should be."""

from __future__ import annotations

import pytest

from depthscope.errors import BadInput, EmptyMaterial
from depthscope.materials.conllu import ROOT, parses, versions


def line(number: str, form: str, head: str, label: str, last: str = "_") -> str:
    return "\t".join([number, form, "_", "_", "_", "_", head, label, "_", last])


CLITIC = "\n".join(
    [
        "# sent_id = a-1",
        "# text = I don't, eat his  fish.",
        line("1", "I", "4", "nsubj"),
        line("2-3", "don't", "_", "_"),
        line("2", "do", "4", "aux"),
        line("3", "n't", "4", "advmod"),
        line("3.1", "ghost", "_", "_"),
        line("4", ",", "5", "punct"),
        line("5", "eat", "0", "root"),
        line("6", "his", "7", "nmod:poss"),
        line("7", "fish", "5", "obj"),
        line("8", ".", "5", "punct"),
    ]
)


def test_words_have_the_characters_of_the_raw_text_also_inside_a_contraction():
    (parse,) = parses(CLITIC, "a file")
    assert parse.name == "a-1"
    assert [parse.text[w.start : w.stop] for w in parse.words] == [
        "I",
        "do",
        "n't",
        ",",
        "eat",
        "his",
        "fish",
        ".",
    ]
    assert [w.head for w in parse.words] == [3, 3, 3, 4, ROOT, 6, 4, 4]
    assert parse.relations() == {"nsubj", "aux", "advmod", "punct", "root", "nmod", "nmod:poss", "obj"}
    assert versions("nmod:poss") == ("nmod", "nmod:poss")


def test_words_that_do_not_spell_their_contraction_share_its_characters():
    rows = [line("1-2", "du", "_", "_"), line("1", "de", "2", "case"), line("2", "le", "0", "root")]
    (parse,) = parses("\n".join(["# text = du", *rows]), "a file")
    assert [(w.start, w.stop) for w in parse.words] == [(0, 2), (0, 2)]


def test_a_sentence_without_its_text_is_written_with_its_spaces():
    rows = [
        line("1", "Come", "0", "root", "SpaceAfter=No"),
        line("2", "!", "1", "punct"),
        line("3", "Now", "1", "x"),
    ]
    first, second = parses("\n".join([*rows, "", line("1", "Go", "0", "root")]), "a file")
    assert (first.text, second.text) == ("Come! Now", "Go")
    assert (first.name, second.name) == ("sentence-00001", "sentence-00002")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("1\tgo\t0", "line 1 has 3 columns"),
        (line("1", "go", "1", "root"), "the head of 'go' is '1'; it is 0 to 1, not itself"),
        (line("1", "go", "5", "root"), "the head of 'go' is '5'"),
        (line("1", "go", "x", "root"), "the head of 'go' is 'x'"),
        (f"# text = stop\n{line('1', 'go', '0', 'root')}", "line 2: 'go' is not the next word of 'stop'"),
        (f"# text = now go\n{line('1', 'go', '0', 'root')}", "'go' is not the next word of 'now go'"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(content: str, said: str):
    with pytest.raises(BadInput, match=said):
        parses(content, "a file")


def test_a_file_without_a_sentence_is_refused():
    with pytest.raises(EmptyMaterial, match="a file holds no sentence"):
        parses("\n\n", "a file")
