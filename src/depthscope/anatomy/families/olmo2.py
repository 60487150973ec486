"""OLMo 2, OLMo 3 and EXAONE 4: no norm before a sublayer, one after it; its output is what is added."""

from depthscope.anatomy.family import Family

FAMILY = Family(
    model_types=("olmo2", "olmo3", "exaone4"),
    blocks="layers",
    attn=("self_attn",),
    attn_proj=("self_attn.o_proj",),
    attn_write=("post_attention_layernorm",),
    mlp=("mlp",),
    mlp_write=("post_feedforward_layernorm",),
    mlp_proj=("mlp.down_proj",),
    final_norm="norm",
    left_padding=True,
    config_class="Olmo2Config",
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
    },
)
