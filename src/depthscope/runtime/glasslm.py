"""GlassLM: a model written in NumPy, its arrays carried over exactly into a Llama network.

The two differ in three ways only: matrices stand transposed (x W there, W x here), rotary pairs are
neighbours there and half a head apart here, and the tokenizer is a byte-pair code over characters with "▁"
for the space.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_SPECIALS = ("<pad>", "<unk>", "<bos>", "<eos>")
_SPACE = "▁"
_PIECES = r"\n|▁*[^▁\n]+|▁+"
"""What merges never cross: a line break, or a word with the spaces before it, or spaces alone."""


def glasslm(file: Path) -> tuple[Any, Any]:
    """The network (float32, which holds the stored float16 exactly) and the tokenizer of a GlassLM file.

    Args:
        file: the `.npz`; its tokenizer lies beside it as `.tokenizer.json`.
    """
    with np.load(file) as stored:
        settings = json.loads(str(stored["__config__"]))
        names = [name for name in stored if not name.startswith("_")]
        arrays = {name: torch.from_numpy(stored[name].astype(np.float32)) for name in names}
    return _network(settings, arrays), _tokenizer(file.with_name(f"{file.stem}.tokenizer.json"))


def _network(settings: Mapping[str, Any], arrays: Mapping[str, Tensor]) -> Any:  # noqa: ANN401
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=settings["vocab_size"],
        hidden_size=settings["d_model"],
        intermediate_size=arrays["blocks.0.ffn.W1"].shape[1],
        num_hidden_layers=settings["n_layers"],
        num_attention_heads=settings["n_heads"],
        num_key_value_heads=settings["n_kv_heads"],
        max_position_embeddings=settings["max_len"],
        rms_norm_eps=settings["eps"],
        rope_parameters={"rope_type": "default", "rope_theta": settings["rope_base"]},
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
    )
    net = LlamaForCausalLM(config)
    net.load_state_dict(_renamed(arrays, settings["n_heads"], settings["n_kv_heads"]), strict=True)
    return net.eval()


def _renamed(arrays: Mapping[str, Tensor], n_heads: int, n_kv_heads: int) -> dict[str, Tensor]:
    """GlassLM's arrays under Llama's names."""
    places = {
        "norm1.gamma": ("input_layernorm", None),
        "norm2.gamma": ("post_attention_layernorm", None),
        "attn.W_Q": ("self_attn.q_proj", n_heads),
        "attn.W_K": ("self_attn.k_proj", n_kv_heads),
        "attn.W_V": ("self_attn.v_proj", None),
        "attn.W_O": ("self_attn.o_proj", None),
        "ffn.W1": ("mlp.gate_proj", None),
        "ffn.W3": ("mlp.up_proj", None),
        "ffn.W2": ("mlp.down_proj", None),
    }
    named = {"lm_head.weight": arrays["E"], "model.embed_tokens.weight": arrays["E"]}
    named["model.norm.weight"] = arrays["norm_f.gamma"]
    for name, array in arrays.items():
        if name.startswith("blocks."):
            _, layer, rest = name.split(".", 2)
            place, heads = places[rest]
            matrix = array.T if array.dim() == 2 else array
            named[f"model.layers.{layer}.{place}.weight"] = _halved(matrix, heads) if heads else matrix
    return named


def _halved(weight: Tensor, heads: int) -> Tensor:
    """Rows of each head reordered from neighbouring rotary pairs (2i, 2i+1) to (i, i + d_head/2)."""
    width = weight.shape[0] // heads
    return weight.reshape(heads, width // 2, 2, -1).transpose(1, 2).reshape(weight.shape)


def _tokenizer(file: Path) -> Any:  # noqa: ANN401  (a transformers tokenizer)
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    stored = json.loads(file.read_text(encoding="utf-8"))
    merges = [(a, b) for a, b in stored["merges"]]
    tokens = [*_SPECIALS, *stored["alphabet"], *(a + b for a, b in merges)]
    code = Tokenizer(models.BPE({t: k for k, t in enumerate(tokens)}, merges, unk_token="<unk>"))
    code.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(" ", _SPACE)])
    code.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECES), behavior="isolated")
    code.decoder = decoders.Sequence([decoders.Replace(_SPACE, " "), decoders.Fuse()])
    names = dict(zip(("pad_token", "unk_token", "bos_token", "eos_token"), _SPECIALS, strict=True))
    # A text that spells "<bos>" is text, as in GlassLM's own encoder.
    return PreTrainedTokenizerFast(
        tokenizer_object=code, clean_up_tokenization_spaces=False, split_special_tokens=True, **names
    )
