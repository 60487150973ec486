"""Gemma 2: norms before and after each sublayer, alternating windows, soft caps on scores and logits."""

from depthscope.anatomy.family import Family

FAMILY = Family(
    model_types=("gemma2",),
    blocks="layers",
    attn=("self_attn",),
    attn_proj=("self_attn.o_proj",),
    attn_write=("post_attention_layernorm",),
    mlp=("mlp",),
    mlp_write=("post_feedforward_layernorm",),
    mlp_proj=("mlp.down_proj",),
    final_norm="norm",
    logit_cap="final_logit_softcapping",
    # not left-padded: soft caps need eager attention; its float32 softmax makes NaN of float64's minimum
    config_class="Gemma2Config",
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
        "query_pre_attn_scalar": 16,
        "sliding_window": 5,
        "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 3.0,
    },
)
