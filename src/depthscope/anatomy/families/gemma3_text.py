"""Gemma 3 (text): Gemma 2's sandwich norms, norms on queries and keys, five windowed layers to one full."""

from depthscope.anatomy.family import Family

FAMILY = Family(
    model_types=("gemma3_text",),
    blocks="layers",
    attn=("self_attn",),
    attn_proj=("self_attn.o_proj",),
    attn_write=("post_attention_layernorm",),
    mlp=("mlp",),
    mlp_write=("post_feedforward_layernorm",),
    mlp_proj=("mlp.down_proj",),
    final_norm="norm",
    logit_cap="final_logit_softcapping",
    left_padding=True,
    config_class="Gemma3TextConfig",
    tiny={
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 7,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "sliding_window": 5,
    },
)
