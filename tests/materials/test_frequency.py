"""Frequency tables: counts, ranks and buckets by hand, one file and back, and tables that belong elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depthscope.errors import BadInput, EmptyMaterial, Refused, StoreError
from depthscope.materials import frequency
from depthscope.materials.frequency import FrequencyTable, bucket_names, count, vocabulary
from depthscope.materials.spelling import special_ids
from depthscope.runtime.tiny import PlainTokenizer

SIZE = 64
TOKENIZER = PlainTokenizer(SIZE)


class Named:
    """A tokenizer with a vocabulary of its own; splits at spaces, unknown words are id 0."""

    all_special_ids = (0, 5)

    def __init__(self, *words: str) -> None:
        self.words = {word: k for k, word in enumerate(words)}

    def get_vocab(self) -> dict[str, int]:
        return self.words

    def encode(self, text: str, add_special_tokens: bool = True, verbose: bool = True) -> list[int]:
        return [self.words.get(word, 0) for word in text.split()]


WORDS = Named("<unk>", "a", "b", "c", "d", "<end>")


def table(*counts: int, **more: str) -> FrequencyTable:
    return FrequencyTable(np.asarray(counts, np.int64), more.pop("tokenizer", "t"), "a corpus", **more)


def test_ranks_are_by_falling_count_and_ties_by_id():
    found = table(2, 7, 2, 0, 9, 2)
    assert found.order.tolist() == [4, 1, 0, 2, 5, 3]
    assert found.ranks.tolist() == [3, 2, 4, 6, 1, 5]
    assert found.tokens == 22


def test_buckets_are_stretches_of_ranks_and_hold_the_mass_of_their_tokens():
    found = table(2, 7, 2, 0, 9, 2).buckets((1, 3))
    assert found.names == ("1", "2-3", "rest")
    assert found.place.tolist() == [1, 1, 2, 2, 0, 2]
    np.testing.assert_allclose(found.mass, [9 / 22, 9 / 22, 4 / 22])


def test_tokens_that_never_occur_are_in_the_last_bucket_whatever_their_rank():
    assert table(5, 0, 3, 0).buckets((2, 4)).place.tolist() == [0, 2, 0, 2]


def test_ids_beyond_the_table_are_in_the_last_bucket():
    found = table(5, 4, 3, 1).buckets((1, 2))
    assert found.of(np.asarray([[0, 3], [4, 10**6]])).tolist() == [[0, 2], [2, 2]]


def test_fifths_of_the_mass_begin_where_more_frequent_tokens_end():
    found = table(3, 3, 1, 1, 1, 1, 0).buckets(quintiles=True)
    # of ten tokens, 0 1 2 3 4 5 have 0 3 6 7 8 9 before them
    assert found.place.tolist() == [0, 1, 3, 3, 4, 4, 4]
    np.testing.assert_allclose(found.mass, [0.3, 0.3, 0, 0.2, 0.2])


@pytest.mark.parametrize("edges", [(), (0, 10), (10, 10), (100, 10)])
def test_edges_that_do_not_rise_from_one_are_refused(edges: tuple[int, ...]):
    with pytest.raises(BadInput, match="rising ranks"):
        bucket_names(edges)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text("abcdefgh", max_size=9), min_size=1, max_size=12), st.integers(1, 9))
def test_a_stream_counts_like_one_text_however_it_is_batched(texts: list[str], batch: int):
    ids = np.asarray([k for text in texts for k in TOKENIZER.encode(text)], np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frequency, "_BATCH", batch)
        if not len(ids):
            with pytest.raises(EmptyMaterial):
                count(iter(texts), TOKENIZER, "letters")
            return
        found = count(iter(texts), TOKENIZER, "letters")
        few = count(iter(texts), TOKENIZER, "letters", tokens=3)
    np.testing.assert_array_equal(found.counts, np.bincount(ids, minlength=SIZE))
    np.testing.assert_array_equal(few.counts, np.bincount(ids[:3], minlength=SIZE))


def test_a_stream_is_read_no_further_than_asked():
    def texts() -> Iterator[str]:
        yield "ab" * 2**18
        raise AssertionError("read on")

    assert count(texts(), TOKENIZER, "letters", tokens=5).tokens == 5


def test_special_tokens_are_left_out_unless_asked_for():
    text = "a <end> b b nonsense"
    assert count([text], WORDS, "w").counts.tolist() == [0, 1, 2, 0, 0, 0]
    assert count([text], WORDS, "w", special=True).counts.tolist() == [1, 1, 2, 0, 0, 1]
    assert special_ids(TOKENIZER) == (0, 1, 2)


def test_one_file_and_back_and_equal_tables_give_equal_bytes(tmp_path: Path):
    first = count(["a b b", "c"], WORDS, "three words", date="2026-01-31")
    first.save(tmp_path / "deep" / "a.npz")
    found = FrequencyTable.load(tmp_path / "deep" / "a.npz")
    np.testing.assert_array_equal(found.counts, first.counts)
    assert (found.tokenizer, found.corpus, found.date) == (first.tokenizer, "three words", "2026-01-31")
    assert found.digest == first.digest
    count(["c", "b a b"], WORDS, "three words", date="2026-01-31").save(tmp_path / "b.npz")
    assert (tmp_path / "b.npz").read_bytes() == (tmp_path / "deep" / "a.npz").read_bytes()


def test_the_header_can_be_read_without_this_package(tmp_path: Path):
    count(["a b b"], WORDS, "three words").save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as stored:
        header = json.loads(str(stored["header"]))
    assert header["tokens"] == 3
    assert header["vocabulary"] == 6
    assert header["date"] == ""


def test_a_table_of_another_tokenizer_is_refused():
    found = count(["a b"], WORDS, "two words")
    found.check(Named("<unk>", "a", "b", "c", "d", "<end>"))
    for other in (
        Named("<unk>", "b", "a", "c", "d", "<end>"),
        Named("<unk>", "a", "b", "c", "d", "<end>", "e"),
    ):
        with pytest.raises(Refused, match="counted with another tokenizer"):
            found.check(other)


def test_the_digest_of_a_vocabulary_depends_on_tokens_and_their_order():
    same, other = Named("a", "b"), Named("b", "a")
    assert vocabulary(same) == vocabulary(Named("a", "b"))
    assert vocabulary(same) != vocabulary(other)
    assert vocabulary(TOKENIZER)[1] == SIZE


def test_a_small_table_says_so():
    assert "less than 5,000,000 tokens" in table(3, 4).notes()[1]
    assert len(table(3_000_000, 2_000_000).notes()) == 1


def test_nothing_to_count_is_an_error():
    with pytest.raises(EmptyMaterial, match="no token of nothing"):
        count([], WORDS, "nothing")
    with pytest.raises(BadInput, match="0 tokens"):
        count(["a"], WORDS, "w", tokens=0)


@pytest.mark.parametrize("content", [b"", b"no table", b"PK\x03\x04 cut short"])
def test_a_file_that_is_no_table_is_an_error(content: bytes, tmp_path: Path):
    path = tmp_path / "t.npz"
    path.write_bytes(content)
    with pytest.raises(BadInput, match="is no frequency table"):
        FrequencyTable.load(path)


def test_arrays_of_another_kind_and_a_missing_file_are_errors(tmp_path: Path):
    np.savez(tmp_path / "other.npz", counts=np.arange(3))
    with pytest.raises(BadInput, match="is no frequency table"):
        FrequencyTable.load(tmp_path / "other.npz")
    with pytest.raises(StoreError, match="nowhere"):
        FrequencyTable.load(tmp_path / "nowhere.npz")
