"""Mamba: one selective state-space mixer a block, no attention and no MLP."""

from depthscope.anatomy.family import Family

FAMILY = Family(
    model_types=("mamba",),
    blocks="layers",
    ssm=("mixer",),
    final_norm="norm_f",
    left_padding=True,
    config_class="MambaConfig",
    tiny={
        "vocab_size": 96,
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "state_size": 8,
        "use_mambapy": False,
        "residual_in_fp32": False,
    },
)
