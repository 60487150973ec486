"""Text: what becomes a document, what stands around a window, and which ids are read in which order."""

from __future__ import annotations

import builtins
import errno
import json
import sys
import types
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depthscope.errors import BadInput, EmptyMaterial, MissingPackage, Refused
from depthscope.materials import text
from depthscope.materials.edges import edges
from depthscope.materials.text import SHORTEST, Document, cut, read
from depthscope.materials.window import Window, Windows


class Words:
    """A fake tokenizer: one id a character from 100 on; `before` and `after` are what it puts around a text."""

    chat_template: str | None = None

    def __init__(self, before: Sequence[int] = (), after: Sequence[int] = (), bos: int | None = None) -> None:
        self.before, self.after, self.bos_token_id = list(before), list(after), bos
        self.texts: list[str] = []

    def encode(self, text: str, add_special_tokens: bool = True, verbose: bool = True) -> list[int]:
        self.texts.append(text)
        ids = [100 + ord(c) for c in text]
        return [*self.before, *ids, *self.after] if add_special_tokens else ids


class Chatting(Words):
    chat_template = "[user]{{ message }}[end]"

    def apply_chat_template(
        self,
        messages: list[dict[str, str]],
        tokenize: bool,
        return_dict: bool,
        tokenizer_kwargs: dict[str, bool],
    ) -> list[int]:
        assert tokenize
        assert not return_dict
        (message,) = messages
        assert message["role"] == "user"
        return [1, 7, *self.encode(message["content"], add_special_tokens=False, **tokenizer_kwargs), 8]


def windows_of(texts: Sequence[str], tokenizer: Any = None, **how: Any) -> Windows:
    documents = [Document(f"d{k}", t) for k, t in enumerate(texts)]
    return cut(documents, tokenizer or Words(), **{"source": "here", "tokens": 10**6, "window": 32, **how})


def spelled(window: Window) -> str:
    return "".join(chr(i - 100) for i in window.ids)


# ------------------------------------------------------------------------------------------------------------- windows


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 150), min_size=1, max_size=8), st.integers(16, 60))
def test_a_window_never_crosses_a_document_and_nothing_long_enough_is_lost(lengths: list[int], window: int):
    texts = [chr(ord("a") + k) * n for k, n in enumerate(lengths)]
    kept = sum(n - (n % window if n % window < SHORTEST else 0) for n in lengths)
    if kept == 0:
        with pytest.raises(EmptyMaterial):
            windows_of(texts, window=window)
        return
    found = windows_of(texts, window=window)
    assert [w.index for w in found.items] == list(range(len(found.items)))
    for item in found.items:
        assert set(spelled(item)) == {chr(ord("a") + int(item.document[1:]))}
        assert SHORTEST <= len(item.ids) <= window
    assert found.tokens == kept
    assert found.dropped == sum(lengths) - kept


def test_every_first_window_comes_before_any_second_one():
    found = windows_of(["a" * 96, "b" * 40, "c" * 70])
    assert [w.document for w in found.items] == ["d0", "d1", "d2", "d0", "d2", "d0"]
    assert found.documents == ("d0", "d1", "d2")


def test_windows_of_a_document_are_its_text_in_order():
    long = "".join(chr(200 + k % 90) for k in range(128))
    found = windows_of([long, "b" * 40])
    assert "".join(spelled(w) for w in found.items if w.document == "d0") == long


def test_reading_stops_at_the_asked_number_of_tokens():
    for tokens in (16, 40, 64, 100):
        found = windows_of(["a" * 64, "b" * 64], tokens=tokens)
        rest = tokens % 32
        assert found.tokens == tokens - (rest if rest < SHORTEST else 0)
    assert windows_of(["a" * 64], tokens=10**6).tokens == 64


def test_a_last_window_that_is_cut_still_ends_as_the_tokenizer_ends_a_text():
    found = windows_of(["a" * 60, "b" * 60], Words([1], [2]), tokens=52)
    assert [len(w.ids) for w in found.items] == [32, 20]
    assert all(w.ids[0] == 1 and w.ids[-1] == 2 and set(w.ids[1:-1]).isdisjoint({1, 2}) for w in found.items)


def test_documents_that_are_not_needed_are_not_tokenised():
    tokenizer = Words()
    windows_of(["a" * 40, "b" * 40, "c" * 40], tokenizer, tokens=64)
    assert not any("c" in t for t in tokenizer.texts)


def test_max_length_is_what_is_read_of_each_document():
    found = windows_of(["a" * 96, "b" * 20], Words([1]), max_length=50)
    assert Counter(w.document for w in found.items) == {"d0": 2, "d1": 1}
    assert sum(len(w.ids) - 1 for w in found.items if w.document == "d0") == 50


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"window": 15}, "--window 15 is too short"),
        ({"tokens": 15}, "--tokens 15 is less than one window"),
        ({"tokens": 0}, "--tokens 0"),
        ({"max_length": 0}, "--max-length 0"),
        ({"max_length": -3}, "--max-length -3"),
    ],
)
def test_lengths_that_leave_nothing_to_read_are_refused_with_the_number(how: dict[str, int], said: str):
    with pytest.raises(BadInput, match=said):
        windows_of(["a" * 64], **how)


def test_text_shorter_than_the_shortest_window_is_refused_with_both_numbers():
    with pytest.raises(EmptyMaterial, match="gives 25 tokens in 2 documents, none with 16"):
        windows_of(["a" * 10, "b" * 15])
    assert windows_of(["a" * 16]).tokens == 16


# ------------------------------------------------------------------------------------------------------- hash, units


def test_the_hash_changes_with_any_id_any_name_and_the_order():
    found = windows_of(["a" * 32, "b" * 32])
    hashes = {found.hash}
    for k, window in enumerate(found.items):
        for place in range(len(window.ids)):
            ids = (*window.ids[:place], window.ids[place] + 1, *window.ids[place + 1 :])
            other = [*found.items[:k], Window(window.index, window.document, ids), *found.items[k + 1 :]]
            hashes.add(Windows(tuple(other), found.source, found.bos, found.dropped).hash)
    hashes.add(
        Windows(tuple(Window(w.index, "x" + w.document, w.ids) for w in found.items), "here", "", 0).hash
    )
    hashes.add(Windows(found.items[::-1], "here", "", 0).hash)
    assert len(hashes) == 1 + 64 + 2
    assert windows_of(["a" * 32, "b" * 32]).hash == found.hash


def test_units_are_documents_from_eight_on_and_windows_below():
    eight, seven = windows_of(["a" * 64] * 8), windows_of(["a" * 64] * 7)
    assert eight.units() == ("documents", tuple(w.document for w in eight.items))
    kind, units = seven.units()
    assert kind == "windows"
    assert len(set(units)) == len(seven.items) == 14


def test_shuffling_keeps_the_ids_and_the_first_one_of_each_window():
    found = windows_of(
        ["".join(chr(97 + (k * 7) % 26) for k in range(64)), "the quick brown fox jumps over it"], Words([1])
    )
    mixed = found.shuffled(0)
    for before, after in zip(found.items, mixed.items, strict=True):
        assert Counter(after.ids) == Counter(before.ids)
        assert after.ids[0] == before.ids[0] == 1
        assert after.ids != before.ids
        assert (after.index, after.document) == (before.index, before.document)
    assert mixed.hash == found.shuffled(0).hash != found.shuffled(1).hash != found.hash
    assert "shuffled" in mixed.source


# -------------------------------------------------------------------------------------------------------------- edges

PLAIN, BEGINS, FRAMED, KNOWS = Words(), Words([1], bos=1), Words([101], [102]), Words(bos=1)


@pytest.mark.parametrize(
    ("tokenizer", "bos", "before", "after"),
    [
        (PLAIN, "auto", [], []),
        (BEGINS, "auto", [1], []),
        (FRAMED, "auto", [101], [102]),
        (KNOWS, "auto", [], []),
        (KNOWS, "always", [1], []),
        (BEGINS, "always", [1], []),
        (FRAMED, "always", [101], [102]),
        (BEGINS, "never", [], []),
        (FRAMED, "never", [], []),
        (BEGINS, "never-forced", [], []),
    ],
)
def test_edges_follow_the_policy(tokenizer: Words, bos: Any, before: list[int], after: list[int]):
    assert edges(tokenizer, bos)[:2] == (before, after)


@pytest.mark.parametrize("tokenizer", [BEGINS, FRAMED], ids=["bos", "cls and sep"])
def test_every_window_begins_and_ends_as_the_tokenizer_does_a_text(tokenizer: Words):
    found = windows_of(["a" * 90, "b" * 33], tokenizer)
    n = len(tokenizer.after)
    for window in found.items:
        assert list(window.ids[:1]) == tokenizer.before
        assert list(window.ids[len(window.ids) - n :]) == tokenizer.after
        assert len(window.ids) <= 32
    assert max(len(w.ids) for w in found.items) == 32


def test_the_policy_is_recorded_in_words():
    assert windows_of(["a" * 64], BEGINS).bos == "auto: BOS before each window"
    assert windows_of(["a" * 64], FRAMED).bos == "auto: BOS before, EOS after each window"
    assert windows_of(["a" * 64], PLAIN).bos == "auto: nothing before each window"
    assert windows_of(["a" * 64], BEGINS, bos="never").bos == "none"


def test_always_needs_a_bos_that_the_tokenizer_has():
    with pytest.raises(BadInput, match="no BOS token"):
        edges(PLAIN, "always")


def test_an_unknown_policy_is_refused():
    with pytest.raises(
        BadInput, match="--bos 'sometimes' is unknown; it is auto, always, never, never-forced"
    ):
        edges(PLAIN, "sometimes")


@pytest.mark.parametrize("kind", ["gemma2", "gemma3_text"])
def test_gemma_without_bos_is_refused_unless_forced(kind: str):
    with pytest.raises(Refused, match="never-forced"):
        windows_of(["a" * 64], BEGINS, bos="never", model_type=kind)
    assert windows_of(["a" * 64], BEGINS, bos="never-forced", model_type=kind).items[0].ids[0] != 1
    assert windows_of(["a" * 64], BEGINS, bos="never", model_type="llama").bos == "none"


def test_a_chat_template_frames_each_document_as_a_message():
    found = windows_of(["a" * 20, "b" * 20], Chatting([1]), chat=True)
    assert [w.ids[:2] for w in found.items] == [(1, 7), (1, 7)]
    assert [w.ids[-1] for w in found.items] == [8, 8]
    assert found.bos == "chat template"


def test_a_chat_without_a_template_is_refused():
    with pytest.raises(Refused, match="no chat template"):
        windows_of(["a" * 20], Words(), chat=True)


# ------------------------------------------------------------------------------------------------------------ reading


def names(documents: Sequence[Document]) -> list[str]:
    return [d.name for d in documents]


def test_given_texts_are_documents_and_blank_ones_are_not():
    source, found = read(["one", "  \n", "two"])
    assert source == "given texts"
    assert found == [Document("text-0000", "one"), Document("text-0002", "two")]


def test_the_packaged_sample_is_the_default():
    source, found = read(None)
    assert source == "packaged sample"
    assert len(found) >= 24
    assert len(set(names(found))) == len(found)


def test_headings_of_wikitext_split_articles_and_section_headings_do_not(tmp_path: Path):
    path = tmp_path / "wiki.txt"
    path.write_text(" \n = First = \n one \n = = Section = = \n two \n = Second = \n three\n")
    _, found = read(path)
    assert [d.text.split() for d in found] == [
        ["=", "First", "=", "one", "=", "=", "Section", "=", "=", "two"],
        ["=", "Second", "=", "three"],
    ]
    assert len(set(names(found))) == 2


def test_a_plain_file_is_one_document_as_it_stands(tmp_path: Path):
    content = "one\n\ftwo = three\nüñ日本\n"
    (tmp_path / "a.txt").write_text(content, encoding="utf-8")
    assert read(tmp_path / "a.txt") == ("a.txt", [Document("a", content)])


def test_a_byte_order_mark_is_no_text(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfhello")
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + b'{"text": "hello"}')
    assert read(tmp_path / "a.txt")[1][0].text == "hello"
    assert read(tmp_path / "a.jsonl")[1][0].text == "hello"


def test_json_lines_give_a_document_a_line_under_their_own_id(tmp_path: Path):
    rows = [{"id": "x", "text": "one"}, {"text": "two\nlines"}, {"id": 3, "text": "three"}]
    (tmp_path / "a.jsonl").write_text("\n\n".join(map(json.dumps, rows)) + "\r\n")
    _, found = read(tmp_path / "a.jsonl")
    assert [d.text for d in found] == ["one", "two\nlines", "three"]
    assert names(found) == ["x", "a.jsonl-000002", "3"]


def test_json_lines_may_hold_line_ends_that_json_does_not_escape(tmp_path: Path):
    content = "before\u2028between\u0085after"
    (tmp_path / "a.jsonl").write_text(
        json.dumps({"text": content}, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    assert [d.text for d in read(tmp_path / "a.jsonl")[1]] == [content]


def test_documents_of_one_name_stay_apart(tmp_path: Path):
    """Two documents under one name would count as one unit and make intervals too wide or too narrow."""
    rows = [
        {"id": "a", "text": "1"},
        {"id": "a", "text": "2"},
        {"id": "a~1", "text": "3"},
        {"id": "a", "text": "4"},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = read(tmp_path / "a.jsonl")[1]
    assert [d.text for d in found] == ["1", "2", "3", "4"]
    assert len(set(names(found))) == 4
    assert found[0].name == "a"


def test_the_text_may_stand_under_another_field(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"body": "hello"}\n')
    assert read(tmp_path / "a.jsonl", "body")[1][0].text == "hello"
    with pytest.raises(BadInput, match=r"a\.jsonl line 1 has no text under 'text'; it has 'body'.*--field"):
        read(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "no end', "line 2 is not JSON"),
        ("[1, 2]", "line 2 has no text under 'text'; it has list"),
        ('{"text": 5}', r"line 2 has no text under 'text'; it has 'text' \(int\)"),
    ],
)
def test_a_bad_json_line_is_named_by_its_number(tmp_path: Path, line: str, said: str):
    (tmp_path / "a.jsonl").write_text(f'{{"text": "fine"}}\n{line}\n')
    with pytest.raises(BadInput, match=said):
        read(tmp_path / "a.jsonl")


def test_a_folder_is_read_in_order_of_names_under_paths(tmp_path: Path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.txt").write_text("bee")
    (tmp_path / "sub" / "a.md").write_text("ay")
    (tmp_path / "a.jsonl").write_text('{"text": "jay"}')
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    _, found = read(tmp_path)
    assert [d.text for d in found] == ["jay", "bee", "ay"]
    assert names(found) == ["a.jsonl:a.jsonl-000000", "b.txt:b", "sub/a.md:a"]


@pytest.mark.parametrize("content", ["", " \n\t\n"])
def test_an_empty_file_or_one_of_blanks_is_empty_material(tmp_path: Path, content: str):
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(EmptyMaterial, match=r"a\.txt"):
        read(tmp_path / "a.txt")


def test_no_texts_and_a_folder_without_text_are_empty_material(tmp_path: Path):
    for source in ([], ["", " "], tmp_path):
        with pytest.raises(EmptyMaterial):
            read(source)


def test_a_missing_path_says_what_may_be_given(tmp_path: Path):
    with pytest.raises(BadInput, match=r"no text at .*nowhere\.txt; give a file, a folder, hub:NAME"):
        read(tmp_path / "nowhere.txt")
    with pytest.raises(BadInput, match="no text at once upon a time"):
        read("once upon a time " * 500)


def test_bytes_that_are_not_utf8_are_named_with_their_place(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9 au lait")
    with pytest.raises(BadInput, match="is not UTF-8: byte 3 is 0xe9"):
        read(tmp_path / "a.txt")


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a.txt").write_text("x")

    def closed(self: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", closed)
    with pytest.raises(BadInput, match="cannot be read: Permission denied"):
        read(tmp_path / "a.txt")


# ---------------------------------------------------------------------------------------------------------------- hub


def test_the_hub_reader_without_its_package_is_one_command(monkeypatch: pytest.MonkeyPatch):
    whole = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "datasets":
            raise ImportError
        return whole(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPackage, match=r"pip install 'depthscope\[hub\]'"):
        read("hub:wikitext")


def test_a_hub_data_set_is_streamed_split_and_all(monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[str, str, bool]] = []

    def load_dataset(path: str, split: str, streaming: bool) -> list[dict[str, str]]:
        asked.append((path, split, streaming))
        return [{"text": "one", "label": "x"}, {"text": " ", "label": "x"}, {"text": "three", "label": "x"}]

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    source, found = read("hub:owner/name:train")
    assert source == "hub:owner/name:train"
    assert found == [Document("owner/name-000000", "one"), Document("owner/name-000002", "three")]
    assert asked == [("owner/name", "train", True)]
    with pytest.raises(BadInput, match=r"no text under 'body'; it has \['label', 'text'\]"):
        read("hub:owner/name", "body")


def test_the_shortest_window_is_what_the_design_says():
    assert text.SHORTEST == 16
