"""BERT: an encoder whose stream itself is normalised after each add; attention sees both sides."""

from depthscope.anatomy.family import Family

FAMILY = Family(
    model_types=("bert",),
    blocks="encoder.layer",
    attn=("attention.self",),
    attn_write=("attention.output.dense",),
    attn_proj=("attention.output.dense",),
    attn_norm="attention.output.LayerNorm",
    mlp=("intermediate",),
    mlp_write=("output.dense",),
    mlp_proj=("output.dense",),
    mlp_norm="output.LayerNorm",
    post_norm=True,
    causal=False,
    readout=("cls.predictions.transform",),
    config_class="BertConfig",
    head_class="masked",
    tiny={
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
        "pad_token_id": 0,
    },
)
