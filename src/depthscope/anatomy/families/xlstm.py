"""xLSTM: a matrix-memory LSTM and a gated feed-forward a block, no attention; logits pass a soft cap.

In bfloat16 the chunkwise kernel of transformers fails by itself from `chunk_size` (64) tokens on.
"""

from depthscope.anatomy.family import Family

FAMILY = Family(
    model_types=("xlstm",),
    blocks="blocks",
    ssm=("mlstm_layer",),
    mlp=("ffn",),
    mlp_proj=("ffn.proj_down",),
    final_norm="out_norm",
    logit_cap="output_logit_soft_cap",
    # in pieces, the model calls each block several times with a carried state: a replay needs one call
    overrides={"max_inference_chunksize": 10**9},
    config_class="xLSTMConfig",
    tiny={
        "vocab_size": 96,
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "num_heads": 4,
        "qk_dim_factor": 1.0,
        "v_dim_factor": 1.0,
        "max_inference_chunksize": 1000000000,
    },
)
