"""Options that several verbs share, and what they mean: the same flag reads the same everywhere."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from depthscope.cli.output import command_line
from depthscope.errors import BadInput
from depthscope.materials.data import ROOT

if TYPE_CHECKING:
    from depthscope.engine.reading import Reading
    from depthscope.runtime.model import Model as Loaded

Analyses = Annotated[str, typer.Option(help="Names with commas between; default: all first analyses.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="A parameter: logit_lens.positions=4096. Repeatable.")
]
Layers = Annotated[str, typer.Option(help="Layers to skip in layer_skip: 0,4-8,-1; default: all.")]
TextOption = Annotated[
    str, typer.Option(help="File, folder, hub:NAME[:SPLIT]; default: the packaged sample.")
]
Field = Annotated[str, typer.Option(help="The key that holds the text in JSON lines.")]
Tokens = Annotated[int, typer.Option(help="Tokens to read.")]
Window = Annotated[int, typer.Option(help="Tokens a window.")]
MaxLength = Annotated[int | None, typer.Option(help="Tokens read of each document.")]
Bos = Annotated[str, typer.Option(help="auto, always, never, or never-forced.")]
Chat = Annotated[bool, typer.Option(help="Each document is a user's message in the chat template.")]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16, float64 or auto (what the checkpoint says).")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ...")]
Revision = Annotated[str | None, typer.Option(help="Hub revision.")]
Attention = Annotated[str | None, typer.Option("--attn", help="sdpa or eager.")]
Remote = Annotated[bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.")]
Seed = Annotated[int, typer.Option(min=0, help="The one seed; all others derive from it.")]
Lens = Annotated[
    str,
    typer.Option(
        help="logit, a folder that `depthscope fit` wrote, or several with commas; the first is the run's."
    ),
]
Data = Annotated[str, typer.Option(help="Folder with data sets; the same as DEPTHSCOPE_DATA.")]
Force = Annotated[bool, typer.Option(help="Go on although a law is broken.")]
Report = Annotated[bool, typer.Option(help="Write report.html at the end.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Model = Annotated[str, typer.Argument(help="Hub id, folder, .gguf file, embedded name, or tiny-FAMILY.")]


@dataclass(frozen=True)
class Loading:
    """How a verb loads its models."""

    dtype: Dtype = "auto"
    device: Device = None
    attn: Attention = None
    trust_remote_code: Remote = False

    def open(self, model: str, revision: str | None = None, device_map: str | None = None) -> Loaded:
        """The model of this name; see `runtime.load.load`."""
        from depthscope.runtime.load import load

        return load(
            model, revision=revision, dtype=self.dtype, device=self.device, device_map=device_map,
            attn_implementation=self.attn, trust_remote_code=self.trust_remote_code,
        )  # fmt: skip


@dataclass(frozen=True)
class Corpus:
    """What text a verb reads, and how it is cut."""

    text: TextOption = ""
    tokens: Tokens = 8192
    window: Window = 256
    field: Field = "text"
    max_length: MaxLength = None
    bos: Bos = "auto"
    chat: Chat = False

    def reading(self) -> Reading:
        """The text as an `engine.reading.Reading`."""
        from depthscope.engine.reading import Reading

        return Reading(**self.arguments())

    def arguments(self) -> dict[str, Any]:
        """The same by name; `Reading.windows` refuses a BOS policy that is none."""
        return {**asdict(self), "text": self.text or None}


@dataclass(frozen=True)
class Work:
    """How a verb works that leaves a run: the seed, where data are looked for, and how it speaks."""

    seed: Seed = 0
    data: Data = ""
    force: Force = False
    as_json: Json = False

    def begin(self) -> float:
        """Make --data the place of named data; the time on the clock in seconds."""
        use_data(self.data)
        return time.perf_counter()

    def said(self) -> dict[str, Any]:
        """Seed, force and command line, as an audit and a study take them."""
        return {"seed": self.seed, "force": self.force, "command": command_line()}


def numbers(flag: str, text: str, kind: type[int] | type[float] = float) -> tuple[Any, ...]:
    """The numbers of a list with commas; empty for an empty text.

    Raises:
        BadInput: for anything that is no number of this kind.
    """
    try:
        return tuple(kind(piece) for piece in text.split(",") if piece.strip())
    except ValueError as error:
        example = "1,2,3" if kind is int else "0.001,0.01"
        raise BadInput(f"{flag} {text!r} holds something that is no number; write it as {example}") from error


def assigned(text: str, example: str) -> tuple[str, str]:
    """Name and value of NAME=VALUE.

    Raises:
        BadInput: for a text without "="; the message shows the example.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise BadInput(f"--set {text!r}: write it as NAME=VALUE, such as {example}")
    return name, value


def read_as(text: str, value: str, kind: type[Any]) -> Any:  # noqa: ANN401  (a field's value)
    """A value as a bool, a number or a word; `text` is what was given, for the message.

    Raises:
        BadInput: for a value that is none of this kind.
    """
    try:
        return {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
    except (ValueError, KeyError) as error:
        raise BadInput(f"--set {text!r}: {value!r} is no {kind.__name__}") from error


def use_data(folder: str) -> None:
    """Make a folder the place where named data are looked for; nothing changes for an empty name."""
    if not folder:
        return
    if not Path(folder).is_dir():
        raise BadInput(f"--data {folder}: there is no such folder")
    os.environ[ROOT] = str(Path(folder).resolve())


def parse_layers(text: str, n_layers: int, flag: str = "--layers") -> tuple[int, ...]:
    """Layer numbers of `0,4-8,-1`, sorted; `flag` is what gave them, for the message.

    Raises:
        BadInput: for anything else, or a layer that does not exist.
    """
    found: set[int] = set()
    for piece in text.split(","):
        first, dash, last = piece.strip().rpartition("-")
        try:
            if dash and first:
                found.update(range(int(first), int(last) + 1))
            else:
                found.add(int(piece) % n_layers if -n_layers <= int(piece) < 0 else int(piece))
        except ValueError as error:
            raise BadInput(f"{flag} {text!r}: {piece!r} is no layer; write it as 0,4-8,-1") from error
    wrong = sorted(k for k in found if not 0 <= k < n_layers)
    if wrong:
        raise BadInput(f"{flag} {text!r}: {wrong} do not exist, the model has layers 0 to {n_layers - 1}")
    return tuple(sorted(found))
