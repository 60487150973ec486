"""GPT-2: learned positions, LayerNorm before each sublayer, fused q/k/v in a Conv1D that stores (in, out)."""

from depthscope.anatomy.family import Family

FAMILY = Family(
    model_types=("gpt2",),
    blocks="h",
    attn=("attn",),
    attn_proj=("attn.c_proj",),
    mlp=("mlp",),
    mlp_proj=("mlp.c_proj",),
    final_norm="ln_f",
    config_class="GPT2Config",
    tiny={
        "vocab_size": 96,
        "n_embd": 32,
        "n_layer": 4,
        "n_head": 4,
        "n_positions": 128,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
)
