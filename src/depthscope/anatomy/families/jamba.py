"""Jamba: blocks with attention or a Mamba mixer, each followed by a dense or an expert MLP."""

from depthscope.anatomy.family import Family

FAMILY = Family(
    model_types=("jamba",),
    blocks="layers",
    attn=("self_attn",),
    attn_proj=("self_attn.o_proj",),
    ssm=("mamba",),
    mlp=("feed_forward",),
    mlp_proj=("feed_forward.down_proj",),
    routed=True,
    final_norm="final_layernorm",
    left_padding=True,
    config_class="JambaConfig",
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
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "attn_layer_period": 3,
        "attn_layer_offset": 1,
        "use_mamba_kernels": False,
        "mamba_d_state": 8,
        "experts_implementation": "eager",  # the grouped kernel knows no float64
    },
)
