"""RWKV 4: a linear recurrence and a gated feed-forward a block; block 0 first norms the embedding."""

from depthscope.anatomy.family import Family

FAMILY = Family(
    model_types=("rwkv",),
    blocks="blocks",
    ssm=("attention",),
    mlp=("feed_forward",),
    mlp_proj=("feed_forward.value",),
    pre="pre_ln",
    final_norm="ln_out",
    # the model halves stream and weights every few layers, a guard for float16 that breaks the sum of writes
    overrides={"rescale_every": 0},
    config_class="RwkvConfig",
    tiny={
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "context_length": 128,
        "attention_hidden_size": 32,
        "rescale_every": 0,
    },
)
