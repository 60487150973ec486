"""GPT-NeoX and Pythia: both sublayers read the block's input (parallel) unless the config says otherwise."""

from depthscope.anatomy.family import Family

FAMILY = Family(
    model_types=("gpt_neox",),
    blocks="layers",
    attn=("attention",),
    attn_proj=("attention.dense",),
    mlp=("mlp",),
    mlp_proj=("mlp.dense_4h_to_h",),
    final_norm="final_layer_norm",
    parallel="use_parallel_residual",
    left_padding=True,
    config_class="GPTNeoXConfig",
    tiny={
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
)
