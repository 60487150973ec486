"""Mixtral: Llama's layout with routed experts; the sparse block's output is the weighted sum over experts."""

from depthscope.anatomy.family import Family

FAMILY = Family(
    model_types=("mixtral",),
    blocks="layers",
    attn=("self_attn",),
    attn_proj=("self_attn.o_proj",),
    mlp=("mlp",),
    routed=True,
    final_norm="norm",
    left_padding=True,
    config_class="MixtralConfig",
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
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "experts_implementation": "eager",  # the grouped kernel knows no float64
    },
)
