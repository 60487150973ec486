"""ViT: an image encoder of patches and a class token, LayerNorm before each sublayer; no unembedding."""

from depthscope.anatomy.family import Family

FAMILY = Family(
    model_types=("vit",),
    blocks="layers",
    attn=("attention",),
    attn_proj=("attention.o_proj",),
    mlp=("mlp",),
    mlp_proj=("mlp.fc2",),
    final_norm="layernorm",
    causal=False,
    reads="image",
    config_class="ViTConfig",
    head_class="image",
    tiny={
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": 16,
        "patch_size": 4,
        "num_channels": 3,
    },
)
