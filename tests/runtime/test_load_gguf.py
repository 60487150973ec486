"""GGUF files: converted once, exactly, atomically, by one process at a time."""

from __future__ import annotations

import errno
import json
import threading
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from depthscope.errors import LoadError, StoreFull
from depthscope.runtime import gguf as conversion
from depthscope.runtime.load import load

LAYERS, WIDTH, HEADS, MLP = 2, 32, 4, 64
TOKENS = ["<unk>", "<s>", "</s>", *(chr(c) for c in range(33, 127)), "Ġ", "he", "Ġt"]
LETTERS = {"attn_q": "q_proj", "attn_k": "k_proj", "attn_v": "v_proj", "attn_output": "o_proj"}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPTHSCOPE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    """Random matrices that bfloat16 holds exactly, so that the conversion must not change a bit."""
    draw = torch.Generator().manual_seed(0)
    shapes = {"token_embd": (len(TOKENS), WIDTH), "output_norm": (WIDTH,)}
    for k in range(LAYERS):
        shapes |= {f"blk.{k}.attn_norm": (WIDTH,), f"blk.{k}.ffn_norm": (WIDTH,)}
        shapes |= {f"blk.{k}.{name}": (WIDTH, WIDTH) for name in LETTERS}
        shapes |= {f"blk.{k}.ffn_gate": (MLP, WIDTH), f"blk.{k}.ffn_up": (MLP, WIDTH)}
        shapes |= {f"blk.{k}.ffn_down": (WIDTH, MLP)}
    return {n: torch.randn(s, generator=draw).bfloat16().float().numpy() for n, s in shapes.items()}


@pytest.fixture
def file(tmp_path: Path, weights: dict[str, np.ndarray]) -> Path:
    path = tmp_path / "little.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(MLP)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3, *([1] * (len(TOKENS) - 3))])
    writer.add_token_merges(["h e", "Ġ t"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, array in weights.items():
        writer.add_tensor(f"{name}.weight", array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def folders(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in (tmp_path / "cache").iterdir() if p.is_dir())


def test_the_converted_weights_are_those_of_the_file(file: Path, weights: dict[str, np.ndarray]):
    model = load(file)
    assert model.dtype == torch.bfloat16
    assert (model.anatomy.n_layers, model.anatomy.n_heads, model.anatomy.d_mlp) == (LAYERS, HEADS, MLP)
    net = model.net.float()
    block = net.model.layers[1]
    np.testing.assert_array_equal(net.model.embed_tokens.weight.detach().numpy(), weights["token_embd"])
    np.testing.assert_array_equal(block.mlp.down_proj.weight.detach().numpy(), weights["blk.1.ffn_down"])
    np.testing.assert_array_equal(block.self_attn.v_proj.weight.detach().numpy(), weights["blk.1.attn_v"])
    # GGUF keeps rotary pairs as neighbours within a head, Llama half a head apart
    halves = (
        weights["blk.1.attn_q"]
        .reshape(HEADS, WIDTH // HEADS // 2, 2, WIDTH)
        .swapaxes(1, 2)
        .reshape(WIDTH, WIDTH)
    )
    np.testing.assert_array_equal(block.self_attn.q_proj.weight.detach().numpy(), halves)


def test_the_tokenizer_comes_out_of_the_file(file: Path):
    tokenizer = load(file).tokenizer
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("he t", add_special_tokens=False)) == ["he", "Ġt"]


def test_the_second_load_does_not_convert_again(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = load(file)
    monkeypatch.setattr(conversion, "_convert_into", lambda *_: pytest.fail("converted twice"))
    again = load(file)
    assert again.provenance == first.provenance
    assert len(folders(tmp_path)) == 1


def test_another_file_of_the_same_name_is_another_model(
    file: Path, tmp_path: Path, weights: dict[str, np.ndarray]
):
    load(file)
    data = bytearray(file.read_bytes())
    data[-2] ^= 1
    file.write_bytes(data)
    load(file)
    assert len(folders(tmp_path)) == 2


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "unsealed"])
def test_a_damaged_conversion_is_made_again(damage: str, file: Path, tmp_path: Path):
    before = load(file).provenance["weights_hash"]
    (folder,) = (p for p in (tmp_path / "cache").iterdir() if p.is_dir())
    stored = folder / "model.safetensors"
    if damage == "flipped":
        data = bytearray(stored.read_bytes())
        data[-1] ^= 64
        stored.write_bytes(data)
    elif damage == "cut":
        stored.write_bytes(stored.read_bytes()[:-100])
    elif damage == "gone":
        stored.unlink()
    else:
        (folder / conversion.SEAL).write_text("{")
    assert not conversion.intact(folder)
    assert load(file).provenance["weights_hash"] == before
    assert conversion.intact(folder)


def test_what_a_killed_conversion_left_behind_is_cleared(file: Path, tmp_path: Path):
    folder = conversion.converted([file], "little")
    left = folder.with_name(f".{folder.name}.unfinished")
    folder.rename(left)
    (left / "model.safetensors").write_bytes(b"half")
    load(file)
    assert folders(tmp_path) == [folder.name]


def test_of_two_at_once_one_converts_and_the_other_waits(file: Path, monkeypatch: pytest.MonkeyPatch):
    begun, real = [], conversion._convert_into
    monkeypatch.setattr(conversion, "_convert_into", lambda *a: (begun.append(1), real(*a)))
    threads = [threading.Thread(target=conversion.converted, args=([file], "little")) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert begun == [1]


def test_parts_are_joined_and_checked(file: Path, tmp_path: Path):
    data = file.read_bytes()
    parts = [tmp_path / "a", tmp_path / "b"]
    for part, piece in zip(parts, (data[:5000], data[5000:]), strict=True):
        part.write_bytes(piece)
    digest = conversion.sha256_of([file])
    assert conversion.sha256_of(parts) == digest
    folder = conversion.converted(parts, "joined", digest)
    assert "joined.gguf" not in json.loads((folder / conversion.SEAL).read_text())
    assert not (folder / "joined.gguf").exists()
    with pytest.raises(LoadError, match="join to sha256"):
        conversion.converted(parts[:1] * 2, "torn", digest)


@pytest.mark.parametrize("kept", [0, 3, 1500, 0.5], ids=["empty", "three bytes", "half a header", "half"])
def test_a_torn_file_is_a_load_error_and_leaves_nothing(kept: float, file: Path, tmp_path: Path):
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * kept) if kept == 0.5 else int(kept)])
    with pytest.raises(LoadError, match="could not be read as a GGUF model"):
        load(file)
    assert folders(tmp_path) == []


def test_a_full_disk_is_said_and_leaves_nothing(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(conversion, "_seal", full)
    with pytest.raises(StoreFull, match="DEPTHSCOPE_CACHE"):
        load(file)
    assert folders(tmp_path) == []


def test_a_cache_that_cannot_be_made_is_said(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("DEPTHSCOPE_CACHE", str(tmp_path / "taken" / "cache"))
    with pytest.raises(LoadError, match="cannot be used"):
        load(file)


def test_nothing_is_said_on_the_way(file: Path, capfd: pytest.CaptureFixture[str]):
    load(file)
    assert capfd.readouterr() == ("", "")
