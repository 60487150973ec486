"""Qwen 3 mixture of experts: Qwen 3 with routed experts; a sparse block's output is the sum over them."""

from depthscope.anatomy.family import Family

FAMILY = Family(
    model_types=("qwen3_moe",),
    blocks="layers",
    attn=("self_attn",),
    attn_proj=("self_attn.o_proj",),
    mlp=("mlp",),
    mlp_proj=("mlp.down_proj",),
    routed=True,
    final_norm="norm",
    left_padding=True,
    config_class="Qwen3MoeConfig",
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
        "moe_intermediate_size": 16,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "mlp_only_layers": [1],
        "experts_implementation": "eager",  # the grouped kernel knows no float64
    },
)
