"""DINOv2: ViT's layout with a learned scale on each sublayer; the scale's output is what is added."""

from depthscope.anatomy.family import Family

FAMILY = Family(
    model_types=("dinov2", "dinov2_with_registers"),
    blocks="encoder.layer",
    attn=("attention",),
    attn_proj=("attention.o_proj",),
    attn_write=("layer_scale1",),
    mlp=("mlp",),
    mlp_write=("layer_scale2",),
    mlp_proj=("mlp.fc2",),
    final_norm="layernorm",
    causal=False,
    reads="image",
    config_class="Dinov2Config",
    head_class="image",
    tiny={
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "mlp_ratio": 2,
        "image_size": 16,
        "patch_size": 4,
        "num_channels": 3,
    },
)
