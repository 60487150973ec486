"""Mamba 2: one state-space mixer with heads a block, no attention and no MLP."""

from depthscope.anatomy.family import Family

FAMILY = Family(
    model_types=("mamba2",),
    blocks="layers",
    ssm=("mixer",),
    final_norm="norm_f",
    left_padding=True,
    config_class="Mamba2Config",
    tiny={
        "vocab_size": 96,
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "num_heads": 4,
        "head_dim": 16,
        "state_size": 8,
        "n_groups": 2,
        "chunk_size": 4,
        "residual_in_fp32": False,
    },
)
