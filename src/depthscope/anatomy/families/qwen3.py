"""Qwen 3: Llama's layout with norms on queries and keys, windows in the upper layers where asked."""

from depthscope.anatomy.family import Family

FAMILY = Family(
    model_types=("qwen3",),
    blocks="layers",
    attn=("self_attn",),
    attn_proj=("self_attn.o_proj",),
    mlp=("mlp",),
    mlp_proj=("mlp.down_proj",),
    final_norm="norm",
    left_padding=True,
    config_class="Qwen3Config",
    tiny={
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "head_dim": 16,
        "use_sliding_window": True,
        "sliding_window": 5,
        "max_window_layers": 2,
    },
)
