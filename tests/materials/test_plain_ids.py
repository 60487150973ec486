"""Documents longer than what a model reads are tokenised without a word: windows are cut from them."""

from __future__ import annotations

import logging
from collections.abc import Generator

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from depthscope.materials.edges import encoded
from depthscope.materials.plain_ids import plain_ids
from depthscope.materials.text import Document, cut

WORDS = ("<unk>", *"abcdefgh")
LONG = " ".join("abcdefgh" * 4)


@pytest.fixture
def said() -> Generator[list[str]]:
    """What transformers' tokenizers log from here on."""
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())
    logger = logging.getLogger("transformers.tokenization_utils_base")
    logger.addHandler(handler)
    yield told
    logger.removeHandler(handler)


def short_sighted() -> PreTrainedTokenizerFast:
    """A word a token; its model is said to read four."""
    words = Tokenizer(WordLevel({word: k for k, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", model_max_length=4)


def test_transformers_itself_warns_about_such_a_text(said: list[str]):
    short_sighted().encode(LONG)
    assert "longer than the specified maximum sequence length" in said[0]


def test_materials_are_tokenised_without_that_warning(said: list[str]):
    tokenizer = short_sighted()
    assert plain_ids(tokenizer, LONG) == [1, 2, 3, 4, 5, 6, 7, 8] * 4
    assert plain_ids(tokenizer, "") == []
    windows = cut([Document("long", LONG)], tokenizer, source="test", tokens=32, window=16)
    assert [window.ids for window in windows.items] == [(1, 2, 3, 4, 5, 6, 7, 8) * 2] * 2
    tokenizer.chat_template = "{{ messages[0].content }}"
    assert (
        len(cut([Document("long", LONG)], tokenizer, source="test", tokens=32, window=16, chat=True).items)
        == 2
    )
    assert encoded(tokenizer, LONG, max_tokens=3) == ((1, 2, 3), 3)
    assert said == []
