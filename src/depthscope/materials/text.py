"""Text: files, folders, JSON lines, hub data sets or the packaged sample, cut into windows of token ids.

A window never crosses a document. Each window begins with what the tokenizer puts before a text (BOS policy `auto`) and
ends with what it puts after one, so that a model always reads what it was trained to read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import zip_longest
from pathlib import Path
from typing import Any

from depthscope.errors import BadInput, EmptyMaterial, MissingPackage, Refused
from depthscope.materials.edges import Bos, edges
from depthscope.materials.plain_ids import plain_ids
from depthscope.materials.window import Window, Windows

SHORTEST = 16
"""Windows below this many tokens are left out (and counted): too short for a path, a spectrum or a pattern."""


@dataclass(frozen=True)
class Document:
    """One text and its name, unique in its material."""

    name: str
    text: str


def read(source: str | Path | Sequence[str] | None, field: str = "text") -> tuple[str, list[Document]]:
    """Documents of a source and a word for where they came from.

    Args:
        source: None for the packaged sample; a list of texts; a file (.txt, .md: one document; .jsonl: one a line;
            WikiText-style files with `= Title =` headings are cut at them); a folder of such files; `hub:NAME[:SPLIT]`.
        field: the key that holds the text in JSON lines and hub data sets.

    Raises:
        EmptyMaterial: when nothing readable is there. BadInput: for invalid UTF-8, a missing path or a missing field.
    """
    if source is None:
        text = (
            resources.files("depthscope.materials")
            .joinpath("packaged/sample.jsonl")
            .read_text(encoding="utf-8")
        )
        return "packaged sample", _kept(_json_lines(text, "sample.jsonl", "text"), "the packaged sample")
    if not isinstance(source, str | Path):
        return "given texts", _kept(
            (Document(f"text-{k:04d}", t) for k, t in enumerate(source)), "the given texts"
        )
    if str(source).startswith("hub:"):
        return str(source), _kept(_hub(str(source)[4:], field), str(source))
    path = Path(source)
    if not _exists(path):
        raise BadInput(
            f"there is no text at {str(path)[:200]}; give a file, a folder, hub:NAME, or no --text for the sample"
        )
    return path.name, _kept(_files(path, field), str(path))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a text given as a path can be longer than any file name
        return False


def _kept(documents: Iterable[Document], where: str) -> list[Document]:
    found = _distinct(d for d in documents if d.text.strip())
    if not found:
        raise EmptyMaterial(
            f"no text in {where}: every document is empty or there is none; give a file with text in it"
        )
    return found


def _distinct(documents: Iterable[Document]) -> list[Document]:
    """The documents under distinct names: two units of one name would be counted as one."""
    seen: dict[str, int] = {}
    found: list[Document] = []
    for document in documents:
        name, number = document.name, seen.get(document.name, 0)
        while name in seen:
            number += 1
            name = f"{document.name}~{number}"
        seen[document.name], seen[name] = number, 0
        found.append(Document(name, document.text))
    return found


def _files(path: Path, field: str) -> Iterator[Document]:
    if path.is_dir():
        inside = sorted(
            p for p in path.rglob("*") if p.suffix in (".txt", ".md", ".jsonl", ".json") and p.is_file()
        )
        for each in inside:
            yield from _prefixed(each.relative_to(path).as_posix(), _files(each, field))
        return
    content = _decoded(path)
    if path.suffix in (".jsonl", ".json"):
        yield from _json_lines(content, path.name, field)
    else:
        yield from _articles(content, path.stem)


def _prefixed(prefix: str, documents: Iterator[Document]) -> Iterator[Document]:
    for document in documents:
        yield Document(f"{prefix}:{document.name}", document.text)


def _decoded(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{path} is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}; convert it, say with iconv"
        ) from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error


def _json_lines(content: str, name: str, field: str) -> Iterator[Document]:
    # Not splitlines: a text may hold other line ends, such as U+2028, which JSON does not escape.
    for number, line in enumerate(content.split("\n")):
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line)
        except json.JSONDecodeError as error:
            raise BadInput(
                f"{name} line {number + 1} is not JSON: {error.msg}; one JSON object a line is expected"
            ) from error
        if not isinstance(row, Mapping) or not isinstance(row.get(field), str):
            raise BadInput(
                f"{name} line {number + 1} has no text under {field!r}; it has {_kinds(row)}; name it with --field"
            )
        yield Document(str(row.get("id", f"{name}-{number:06d}")), row[field])


def _articles(content: str, name: str) -> Iterator[Document]:
    """One document, or one an article where lines of the form ` = Title = ` open them."""
    parts: list[list[str]] = [[]]
    for line in content.splitlines():
        text = line.strip()
        if text.startswith("= ") and text.endswith(" =") and not text.startswith("= ="):
            parts.append([])
        parts[-1].append(line)
    if len(parts) == 1:
        yield Document(name, content)
        return
    for number, lines in enumerate(parts):
        yield Document(f"{name}-{number:04d}", "\n".join(lines))


def _kinds(row: object) -> str:
    """What a line holds, for a message: its keys, each with the kind of its value where that is no text."""
    if not isinstance(row, Mapping):
        return type(row).__name__
    kinds = {str(key): type(value).__name__ for key, value in row.items()}
    return ", ".join(f"{key!r}{'' if kind == 'str' else f' ({kind})'}" for key, kind in sorted(kinds.items()))


def _hub(name: str, field: str) -> Iterator[Document]:
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingPackage("the hub reader", "pip install 'depthscope[hub]'") from error
    path, _, split = name.partition(":")
    for number, row in enumerate(datasets.load_dataset(path, split=split or "test", streaming=True)):
        if not isinstance(row.get(field), str):
            raise BadInput(
                f"hub data set {path} has no text under {field!r}; it has {sorted(row)}; name it with --field"
            )
        yield Document(f"{path}-{number:06d}", row[field])


def cut(
    documents: Sequence[Document],
    tokenizer: Any,  # noqa: ANN401
    *,
    source: str,
    tokens: int,
    window: int = 256,
    bos: Bos = "auto",
    model_type: str = "",
    max_length: int | None = None,
    chat: bool = False,
) -> Windows:
    """Cut documents into windows until `tokens` are reached, every document's first window before any second one.

    Args:
        tokens: ids to read in all, the edges included. window: ids a window. max_length: ids read of a document.
        chat: each document is a user's message in the tokenizer's chat template.

    Raises:
        BadInput: for a window or a number of tokens below SHORTEST, or a length below 1.
        EmptyMaterial: when no document reaches SHORTEST tokens.
    """
    if window < SHORTEST:
        raise BadInput(f"--window {window} is too short; windows need at least {SHORTEST} tokens")
    if tokens < SHORTEST:
        raise BadInput(f"--tokens {tokens} is less than one window; read at least {SHORTEST} tokens")
    if max_length is not None and max_length < 1:
        raise BadInput(f"--max-length {max_length} leaves nothing of any document; give 1 or more")
    before, after, words = ([], [], "chat template") if chat else edges(tokenizer, bos, model_type)
    room = window - len(before) - len(after)
    dropped = 0

    def pieces(document: Document) -> list[list[int]]:
        nonlocal dropped
        ids = _ids(document, tokenizer, chat)[:max_length]
        found = [before + ids[k : k + room] + after for k in range(0, len(ids), room)]
        dropped += sum(len(p) for p in found if len(p) < SHORTEST)
        return [p for p in found if len(p) >= SHORTEST]

    items = tuple(_until(_in_turn(documents, pieces), tokens, after))
    if not items:
        raise EmptyMaterial(
            f"{source} gives {dropped} tokens in {len(documents)} documents, none with {SHORTEST}; give more text"
        )
    return Windows(items, source, words, dropped)


def _in_turn(
    documents: Sequence[Document], pieces: Callable[[Document], list[list[int]]]
) -> Iterator[tuple[str, list[int]]]:
    """Every document's first window, then every second one; a document is tokenised when its turn comes."""
    later: list[list[tuple[str, list[int]]]] = []
    for document in documents:
        first, *rest = pieces(document) or [[]]
        if first:
            yield document.name, first
        later.append([(document.name, p) for p in rest])
    yield from (piece for row in zip_longest(*later) for piece in row if piece is not None)


def _ids(document: Document, tokenizer: Any, chat: bool) -> list[int]:  # noqa: ANN401
    if not chat:
        return plain_ids(tokenizer, document.text)
    if not getattr(tokenizer, "chat_template", None):
        raise Refused("--chat: this tokenizer has no chat template")
    message = [{"role": "user", "content": document.text}]
    quiet = {"verbose": False}  # as in `plain_ids`
    return list(
        tokenizer.apply_chat_template(message, tokenize=True, return_dict=False, tokenizer_kwargs=quiet)
    )


def _until(rows: Iterable[tuple[str, list[int]]], tokens: int, after: list[int]) -> Iterator[Window]:
    """Windows until the budget is reached; the last one is cut to fit where what is left is long enough."""
    left = tokens
    for index, (name, ids) in enumerate(rows):
        kept = ids if len(ids) <= left else ids[: left - len(after)] + after
        yield Window(index, name, tuple(kept))
        left -= len(ids)
        if left < SHORTEST:
            return
