"""OPT: learned positions, LayerNorm before each sublayer, the MLP's projections right in the block.

The block flattens rows for its MLP; what is read there is put back into [row token width]. The 350M
checkpoint norms after each add instead (`do_layer_norm_before` false): there law 1 is broken.
"""

from depthscope.anatomy.family import Family

FAMILY = Family(
    model_types=("opt",),
    blocks="decoder.layers",
    attn=("self_attn",),
    attn_proj=("self_attn.out_proj",),
    mlp=("fc1",),
    mlp_write=("fc2",),
    mlp_proj=("fc2",),
    final_norm="decoder.final_layer_norm",
    left_padding=True,
    config_class="OPTConfig",
    tiny={
        "vocab_size": 96,
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "ffn_dim": 64,
        "word_embed_proj_dim": 32,
    },
)
