"""DeepSeek V3: queries and keys from low-rank latents; first layers dense, then shared and routed experts."""

from depthscope.anatomy.family import Family

FAMILY = Family(
    model_types=("deepseek_v3",),
    blocks="layers",
    attn=("self_attn",),
    attn_proj=("self_attn.o_proj",),
    mlp=("mlp",),
    mlp_proj=("mlp.down_proj",),
    routed=True,
    final_norm="norm",
    left_padding=True,
    config_class="DeepseekV3Config",
    tiny={
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 128,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "moe_intermediate_size": 16,
        "first_k_dense_replace": 1,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_shared_experts": 1,
        "n_group": 1,
        "topk_group": 1,
        "q_lora_rank": 16,
        "kv_lora_rank": 8,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 8,
        "v_head_dim": 12,
        "experts_implementation": "eager",  # the grouped kernel knows no float64
    },
)
