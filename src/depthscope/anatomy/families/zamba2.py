"""Zamba 2: Mamba 2 blocks; some first add a shared transformer's output to what their mixer reads.

The shared transformer (attention and MLP, one set of weights for several layers) never writes to the stream:
its output is added to the mixer's input only. So the mixer's write is the only write of every block.
"""

from depthscope.anatomy.family import Family

_REASON = "its attention is in a shared transformer that feeds the mixer and writes nothing to the stream"

FAMILY = Family(
    model_types=("zamba2",),
    blocks="layers",
    ssm=("mamba", "mamba_decoder.mamba"),
    final_norm="final_layernorm",
    left_padding=True,
    refusals={3: _REASON, 6: _REASON},
    config_class="Zamba2Config",
    tiny={
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 128,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid", "mamba"],
        "n_mamba_heads": 4,
        "mamba_headdim": 16,
        "mamba_d_state": 8,
        "chunk_size": 4,
        "num_mem_blocks": 1,
        "use_mamba_kernels": False,
    },
)
