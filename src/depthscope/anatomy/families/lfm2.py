"""LFM 2: short gated convolutions, some blocks with attention; the final norm is called embedding_norm."""

from depthscope.anatomy.family import Family

FAMILY = Family(
    model_types=("lfm2",),
    blocks="layers",
    attn=("self_attn",),
    attn_proj=("self_attn.out_proj",),
    ssm=("conv",),
    mlp=("feed_forward",),
    mlp_proj=("feed_forward.w2",),
    final_norm="embedding_norm",
    left_padding=True,
    config_class="Lfm2Config",
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
        "layer_types": ["conv", "full_attention", "conv", "conv", "full_attention"],
        "block_auto_adjust_ff_dim": False,
    },
)
