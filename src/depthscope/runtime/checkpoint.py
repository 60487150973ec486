"""A transformers checkpoint, from a folder or the hub, as a network without a weight that is not in it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
import transformers
from huggingface_hub import constants
from huggingface_hub.utils import logging as hub
from torch import nn
from transformers.models.auto import modeling_auto
from transformers.utils import logging as library

from depthscope.anatomy.family import Family
from depthscope.anatomy.guess import families_by_type
from depthscope.errors import DepthscopeError, LoadError, Refused
from depthscope.registry import FAMILIES

_BY_HEAD = {
    "causal": "AutoModelForCausalLM",
    "masked": "AutoModelForMaskedLM",
    "image": "AutoModel",
    "base": "AutoModel",
}
_DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Options:
    """How to open a checkpoint; the names and meanings are those of `from_pretrained` in transformers."""

    revision: str | None = None
    dtype: torch.dtype | None = None
    device_map: Any = None
    attn_implementation: str | None = None
    trust_remote_code: bool = False
    quantization: Any = None

    def arguments(self) -> dict[str, Any]:
        """What is handed to `from_pretrained`."""
        optional = {
            "device_map": self.device_map,
            "attn_implementation": self.attn_implementation,
            "quantization_config": self.quantization,
        }
        given = {key: value for key, value in optional.items() if value is not None}
        return {"dtype": self.dtype or "auto", **self.source(), **given}

    def source(self) -> dict[str, Any]:
        """The arguments that configuration, weights and tokenizer share."""
        given = {} if self.revision is None else {"revision": self.revision}
        return {"trust_remote_code": self.trust_remote_code, **given}


def open_config(where: str, options: Options) -> Any:  # noqa: ANN401  (a transformers configuration)
    """The configuration of a folder or hub id, with the values that its family's laws need.

    Raises:
        LoadError: when there is none.
    """
    folder = Path(where)
    if folder.is_dir() and not (folder / "config.json").exists():
        there = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        raise LoadError(
            f"{folder} is no model folder: it has no config.json (it holds {there}); give the folder "
            "that holds config.json and the weights, or a .gguf file"
        )
    with _explained(where, "configuration", options), quiet():
        config = transformers.AutoConfig.from_pretrained(where, **options.source())
    family = declared_family(config)
    for key, value in ({} if family is None else family.overrides).items():
        setattr(config, key, value)
        setattr(config.get_text_config(), key, value)
    return config


def declared_family(config: Any) -> Family | None:  # noqa: ANN401
    """The family that declares a configuration's model type, or None."""
    name = families_by_type().get(str(config.get_text_config().model_type))
    return None if name is None else FAMILIES[name]


def open_net(where: str, config: Any, options: Options) -> nn.Module:  # noqa: ANN401
    """The network in evaluation mode, with the head that its checkpoint holds.

    Raises:
        LoadError: when the weights cannot be read, or some of them are not in the files.
        Refused: when the weights are quantised, or spread over several devices.
    """
    candidates = auto_classes(config, declared_family(config))
    missing: list[str] = []
    for name in candidates:
        with _explained(where, "weights", options), quiet():
            net, report = getattr(transformers, name).from_pretrained(
                where, config=config, output_loading_info=True, weights_only=True, **options.arguments()
            )
        missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
        if not missing:
            _usable(net, where)
            return net.eval()
    raise LoadError(
        f"{where} lacks {len(missing)} weights that {candidates[-1]} needs ({', '.join(missing[:3])}, ...); "
        "they would be random. Is the checkpoint whole, and is `architectures` in its config.json right?"
    )


def auto_classes(config: Any, family: Family | None) -> tuple[str, ...]:  # noqa: ANN401
    """Auto classes to try: what the checkpoint says; else what the family usually is, then without a head."""
    named = tuple(config.architectures or ())
    if _has_head(named, modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, "ForCausalLM"):
        return ("AutoModelForCausalLM",)
    if _has_head(named, modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES, "ForMaskedLM"):
        return ("AutoModelForMaskedLM",)
    if named:
        return ("AutoModel",)
    usual = "AutoModelForCausalLM" if family is None else _BY_HEAD[family.head_class]
    return tuple(dict.fromkeys((usual, "AutoModel")))


def _has_head(named: tuple[str, ...], known: Any, ending: str) -> bool:  # noqa: ANN401
    return any(name in known.values() or name.endswith(ending) for name in named)


def open_tokenizer(where: str, options: Options) -> Any:  # noqa: ANN401  (a transformers tokenizer or None)
    """The tokenizer, or None where the checkpoint has none: such a model is given token ids.

    Raises:
        LoadError: when there are tokenizer files that cannot be read.
    """
    names = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt")
    if not any(_has(where, name, options) for name in names):
        return None
    with _explained(where, "tokenizer", options), quiet():
        return transformers.AutoTokenizer.from_pretrained(where, **options.source())


def commit_of(where: str, options: Options) -> str | None:
    """The commit that a hub id was resolved to, read from its place in the hub's cache; None for a folder."""
    if Path(where).is_dir():
        return None
    found = huggingface_hub.try_to_load_from_cache(where, "config.json", revision=options.revision)
    return Path(found).parent.name if isinstance(found, str) else None


def _has(where: str, name: str, options: Options) -> bool:
    """True where a folder or a hub id has a file; of a hub id it is then in the cache."""
    if Path(where).is_dir():
        return (Path(where) / name).exists()
    try:
        huggingface_hub.hf_hub_download(where, name, revision=options.revision)
    except (OSError, ValueError):  # not there, or not reachable
        return False
    return True


def _usable(net: nn.Module, where: str) -> None:
    devices = {str(parameter.device) for parameter in net.parameters()}
    if len(devices) > 1 or "meta" in devices:
        raise Refused(
            f"{where} was spread over {', '.join(sorted(devices))}: states of all layers are compared on one "
            "device and every weight is read, so a model must fit on one; use device_map={'': 'cuda:0'} or a "
            "smaller dtype"
        )
    strange = sorted({str(p.dtype) for p in net.parameters() if p.dtype not in _DTYPES})
    if strange or getattr(net, "is_quantized", False):
        raise Refused(
            f"the weights of {where} are quantised ({', '.join(strange) or 'packed'}): heads and unembedding "
            "are read as plain matrices; load the unquantised checkpoint, a .gguf file (it is unpacked), or "
            "pass a quantization config with dequantize=True"
        )


@contextmanager
def quiet() -> Generator[None]:
    """Run a block of code without the progress bars and warnings of transformers and the hub's client."""
    bars, level, client = library.is_progress_bar_enabled(), library.get_verbosity(), hub.get_verbosity()
    library.disable_progress_bar()
    library.set_verbosity_error()
    hub.set_verbosity_error()
    try:
        yield
    finally:
        hub.set_verbosity(client)
        library.set_verbosity(level)
        if bars:
            library.enable_progress_bar()


@contextmanager
def _explained(where: str, part: str, options: Options) -> Generator[None]:
    """Say of whatever transformers stumbles over what was asked, where it was looked for and what to do."""
    try:
        yield
    except (DepthscopeError, MemoryError):
        raise
    except Exception as error:  # transformers raises OSError, ValueError, KeyError, ImportError, ...
        said = " ".join(line.strip() for line in str(error).strip().splitlines()[:2]).rstrip(".")
        raise LoadError(
            f"the {part} of {where!r} could not be read. {_looked_in(where, options)} "
            f"{type(error).__name__}: {said[:300]}. {_advice(where, str(error))}"
        ) from error


def _looked_in(where: str, options: Options) -> str:
    if Path(where).is_dir():
        return f"Looked in the folder {Path(where).resolve()}."
    hub = "offline (HF_HUB_OFFLINE is set)" if constants.HF_HUB_OFFLINE else "asked"
    return (
        f"Looked for revision {options.revision or 'main'} in the hub cache {constants.HF_HUB_CACHE}; "
        f"the hub was {hub}."
    )


def _advice(where: str, said: str) -> str:
    if "trust_remote_code" in said:
        return "Its code would run on this machine: read it first, then pass trust_remote_code."
    if "weights_only" in said or "Unsupported operand" in said or "WeightsUnpickler" in said:
        return "Its weights are a pickle of more than tensors; only safetensors or plain tensors are read."
    if Path(where).is_dir():
        return "Is the folder whole, and made by a version of transformers that this one reads?"
    return "Check the name, connect once to download it, or give a folder, a .gguf file or an embedded name."
