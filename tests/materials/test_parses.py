"""Parsed sentences as windows: the word of each token, what is dropped, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from depthscope.errors import BadInput, EmptyMaterial, Refused, UnknownName
from depthscope.materials.parses import Parses, token_spans, word_of_token
from depthscope.runtime.model import Model
from depthscope.runtime.tiny import tiny

ROW = "{}\t{}\t_\t_\t_\t_\t{}\t{}\t_\t_"
PIECES = ["<end>", "un", "seen", "dogs", "do", "n't", "ru", "n", ".", "s"]


def fast() -> Any:
    """A tokenizer that knows a few pieces and splits words greedily at them."""
    vocabulary = {piece: k for k, piece in enumerate([*PIECES, *(f"##{p}" for p in PIECES)])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="<end>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<end>", eos_token="<end>")


@pytest.fixture(scope="module")
def model() -> Model:
    return replace(tiny("llama"), tokenizer=fast())


def written(folder: Path, *sentences: tuple[str, list[tuple[str, int, str]]]) -> str:
    blocks = [
        "\n".join([f"# text = {text}", *(ROW.format(k, *word) for k, word in enumerate(words, 1))])
        for text, words in sentences
    ]
    path = folder / "own.conllu"
    path.write_text("\n\n".join(blocks), encoding="utf-8")
    return str(path)


UNSEEN = ("unseen dogs don't run.", [
    ("unseen", 2, "amod"), ("dogs", 5, "nsubj"), ("do", 5, "aux"), ("n't", 5, "advmod"),
    ("run", 0, "root"), (".", 5, "punct"),
])  # fmt: skip


def test_each_token_has_the_word_whose_characters_it_touches(model: Model, tmp_path: Path):
    (window,) = Parses(written(tmp_path, UNSEEN)).windows(model, 0).items
    assert model.tokenizer.convert_ids_to_tokens(list(window.ids)) == [
        *("un", "##seen", "dogs", "do", "##n't", "ru", "##n", "##."),
    ]
    assert window.about["words"] == [0, 0, 1, 2, 3, 4, 4, 5]
    assert window.about["heads"] == [1, 4, 4, 4, -1, 4]
    assert window.about["labels"][0] == ["amod"]
    assert window.about["spelt"] == ["unseen", "dogs", "do", "n't", "run", "."]


def test_a_token_that_touches_two_words_counts_for_the_first():
    assert word_of_token([(0, 3), (2, 6), (6, 7), (7, 9)], [(0, 3), (3, 6), (7, 9)]) == [0, 0, -1, 2]


def test_a_sentence_in_which_a_word_has_no_token_is_dropped_and_counted(model: Model, tmp_path: Path):
    glued = ("dogs un.", [("dogs", 0, "root"), ("u", 1, "x"), ("n", 1, "x"), (".", 1, "punct")])
    found = Parses(written(tmp_path, UNSEEN, glued)).windows(model, 0)
    assert len(found.items) == 1
    assert "1 sentences with a word without a token left out" in found.source
    with pytest.raises(EmptyMaterial, match="none of 1 sentences has 3 to 60 words"):
        Parses(written(tmp_path, glued)).windows(model, 0)


def test_a_tokenizer_without_offsets_is_refused_unless_it_writes_what_it_read(model: Model, tmp_path: Path):
    source = written(tmp_path, UNSEEN)
    other = SimpleNamespace(encode=lambda _, **__: [1, 2], decode=lambda ids: "ab"[: len(ids)])
    with pytest.raises(Refused, match=r"tokenizer without offsets: SimpleNamespace writes .unseen dogs"):
        Parses(source).windows(replace(model, tokenizer=other), 0)
    assert token_spans(tiny("llama").tokenizer, "ab c")[1] == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_a_parse_without_the_relation_that_is_needed_is_refused(model: Model, tmp_path: Path):
    with pytest.raises(
        BadInput, match=r"own\.conllu has no relation dobj; it has advmod, amod, aux, nsubj, punct, root"
    ):
        Parses(written(tmp_path, UNSEEN), relations=("nsubj", "dobj")).windows(model, 0)


def test_what_is_no_parser_and_no_file_is_named():
    with pytest.raises(UnknownName, match="did you mean 'spacy'"):
        Parses(parser="spaci")
    with pytest.raises(BadInput, match=r"there is no data at nowhere\.conllu"):
        Parses("nowhere.conllu").windows(tiny("llama"), 0)


def test_the_packaged_sentences_and_the_grammar_fit_every_plain_tokenizer():
    for source, count in (("", 24), ("agreement", 400)):
        assert len(Parses(source).windows(tiny("llama"), 0).items) == count
    assert len(Parses("agreement", sentences=7).windows(tiny("llama"), 0).items) == 7
