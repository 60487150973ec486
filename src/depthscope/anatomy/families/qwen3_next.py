"""Qwen 3 Next: gated delta-rule layers, every fourth with gated attention; experts with a shared expert."""

from depthscope.anatomy.family import Family

FAMILY = Family(
    model_types=("qwen3_next",),
    blocks="layers",
    attn=("self_attn",),
    attn_proj=("self_attn.o_proj",),
    ssm=("linear_attn",),
    mlp=("mlp",),
    mlp_proj=("mlp.down_proj",),
    routed=True,
    final_norm="norm",
    left_padding=True,
    config_class="Qwen3NextConfig",
    tiny={
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "head_dim": 16,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "mlp_only_layers": [1],
        "layer_types": [
            "linear_attention",
            "full_attention",
            "linear_attention",
            "linear_attention",
            "full_attention",
        ],
        "experts_implementation": "eager",  # the grouped kernel knows no float64
    },
)
