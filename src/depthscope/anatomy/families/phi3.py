"""Phi-3: Llama's layout with fused q/k/v and fused gate/up projections, a sliding window."""

from depthscope.anatomy.family import Family

FAMILY = Family(
    model_types=("phi3",),
    blocks="layers",
    attn=("self_attn",),
    attn_proj=("self_attn.o_proj",),
    mlp=("mlp",),
    mlp_proj=("mlp.down_proj",),
    final_norm="norm",
    left_padding=True,
    config_class="Phi3Config",
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
        "sliding_window": 5,
    },
)
