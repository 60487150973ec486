"""RecurrentGemma (Griffin): two gated linear recurrences, then windowed attention, all under one name."""

from depthscope.anatomy.family import Family

FAMILY = Family(
    model_types=("recurrent_gemma",),
    blocks="layers",
    attn=("temporal_block",),
    attn_proj=("temporal_block.o_proj",),
    ssm=("temporal_block",),
    mlp=("mlp_block",),
    mlp_proj=("mlp_block.down_proj",),
    final_norm="final_norm",
    logit_cap="logits_soft_cap",
    config_class="RecurrentGemmaConfig",
    tiny={
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "attention_window_size": 5,
        "lru_width": 32,
        "logits_soft_cap": 3.0,
    },
)
