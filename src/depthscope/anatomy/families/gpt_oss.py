"""GPT-OSS: learned attention sinks (rows sum to less than 1), alternating windows, routed experts.

Its sublayers return a tuple; the write is its first element. Sinks need eager attention.
"""

from depthscope.anatomy.family import Family

FAMILY = Family(
    model_types=("gpt_oss",),
    blocks="layers",
    attn=("self_attn",),
    attn_proj=("self_attn.o_proj",),
    mlp=("mlp",),
    routed=True,
    final_norm="norm",
    left_padding=True,
    config_class="GptOssConfig",
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
        "head_dim": 8,
        "sliding_window": 5,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "experts_implementation": "eager",  # the grouped kernel knows no float64
    },
)
