"""The packaged sample text is as large, as mixed and as clean as its page says."""

import ast
import json
import re
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

PACKAGED = Path(__file__).parents[2] / "src" / "depthscope" / "materials" / "packaged"
KEYS = {"id", "register", "title", "text"}
REGISTERS = {"prose", "code", "dialogue", "mathematics", "japanese", "news", "expository"}


@pytest.fixture(scope="module")
def documents() -> list[dict[str, str]]:
    lines = (PACKAGED / "sample.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def in_words(documents):
    """The documents of the languages that put spaces between words."""
    return [document for document in documents if document["register"] != "japanese"]


def japanese(documents):
    return [document for document in documents if document["register"] == "japanese"]


def named(documents, title_start):
    (found,) = [document for document in documents if document["title"].startswith(title_start)]
    return found["text"]


def test_every_line_is_a_document_with_four_filled_strings(documents):
    for document in documents:
        assert set(document) == KEYS
        assert all(isinstance(value, str) and value == value.strip() and value for value in document.values())


def test_ids_and_titles_are_unique_and_an_id_names_its_register(documents):
    assert len({document["id"] for document in documents}) == len(documents)
    assert len({document["title"] for document in documents}) == len(documents)
    for document in documents:
        assert re.fullmatch(rf"{document['register']}-\d\d", document["id"])


def test_there_are_26_to_30_documents_in_seven_registers(documents):
    assert 26 <= len(documents) <= 30
    counts = Counter(document["register"] for document in documents)
    assert set(counts) == REGISTERS
    assert min(counts.values()) >= 4


def test_there_are_at_least_8000_words_japanese_counted_apart(documents):
    assert sum(len(document["text"].split()) for document in in_words(documents)) >= 8000


def test_every_document_has_250_to_450_words(documents):
    lengths = {document["id"]: len(document["text"].split()) for document in in_words(documents)}
    assert {name: length for name, length in lengths.items() if not 250 <= length <= 450} == {}


def test_every_japanese_document_has_600_characters_mostly_of_japanese_script(documents):
    assert len(japanese(documents)) >= 3
    for document in japanese(documents):
        characters = "".join(document["text"].split())
        script = re.findall(r"[\u3041-\u30ff\u4e00-\u9fff]", characters)
        assert len(characters) >= 600
        assert len(script) / len(characters) > 0.8


def test_no_paragraph_occurs_twice(documents):
    paragraphs = Counter(
        paragraph.strip() for document in documents for paragraph in document["text"].split("\n\n")
    )
    assert [paragraph for paragraph, times in paragraphs.items() if times > 1] == []


def test_registers_take_turns_so_that_every_prefix_is_a_mix(documents):
    order = [document["register"] for document in documents]
    for start in range(28 - len(REGISTERS) + 1):
        assert set(order[start : start + len(REGISTERS)]) == REGISTERS


def test_every_story_dialogue_and_news_item_repeats_a_name(documents):
    """Copying within the context needs something to copy: a capitalised word never in lower case."""
    plain = set(re.findall(r"\b[a-z]+\b", " ".join(document["text"] for document in documents)))
    for document in documents:
        if document["register"] in {"prose", "dialogue", "news"}:
            capitalised = re.findall(r"\b[A-Z][A-Za-z]{2,}\b", document["text"])
            names = Counter(word for word in capitalised if word.lower() not in plain)
            assert max(names.values(), default=0) >= 2, document["id"]


def test_the_text_is_clean_unicode(documents):
    """No tab, carriage return, replacement character, byte order mark, surrogate or trailing blank."""
    for document in documents:
        assert re.search(r"[\t\r\ufffd\ufeff\ud800-\udfff]| \n", document["text"]) is None, document["id"]


def test_the_python_document_parses(documents):
    ast.parse(named(documents, "intervals.py"))


def test_the_sql_document_gives_the_rows_its_comments_state(documents):
    script = named(documents, "loans.sql")
    before, first, second = re.split(r"-- Question \d\.", script)
    database = sqlite3.connect(":memory:")
    database.executescript(before)
    for section in (first, second):
        stated = re.findall(r"^-- (.+ \| .+)$", section, flags=re.MULTILINE)
        select = section[section.index("SELECT") : section.index(";") + 1]
        rows = [[str(cell) for cell in row] for row in database.execute(select)]
        assert rows == [[cell.strip() for cell in line.split("|")] for line in stated]


def test_the_page_states_the_counts_of_the_file(documents):
    page = (PACKAGED / "README.md").read_text(encoding="utf-8")
    for register in sorted(REGISTERS):
        texts = [document["text"] for document in documents if document["register"] == register]
        words = "–" if register == "japanese" else sum(len(text.split()) for text in texts)
        characters = sum(len("".join(text.split())) for text in texts)
        assert f"| {register} | {len(texts)} | {words} | {characters} |" in page
