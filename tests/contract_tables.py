"""What every analysis gives and which family cannot answer it: read by the contract and by the test of the pages.

A new analysis has a row in MEASUREMENTS, and in REFUSALS where a family cannot answer it.
"""

from __future__ import annotations

Row = tuple[tuple[str, ...], str]

DEPTHS = ("first", "stable", "persistent")
SCORES = {"entropy": "nats", "entropy_norm": "1", "distance": "tokens"}
MASSES = (
    *("previous", "first", "self", "local_8", "local_32", "local_128", "bos", "sep", "punct", "newline"),
    *(f"{name}_weighted" for name in ("previous", "first", "self", "local_8", "local_32")),
)
RARE = ("next", "far_mass", "kv_spread", "distance_nosink")
"""Scores of heads that only some models or texts have."""
PROFILE = (
    "prompt_entropy",
    "prompt_entropy_s2",
    "effective_rank",
    "top_share",
    "vanished_share",
    "anisotropy",
)
ONSETS, CELLS = ("definition", "k", "mode"), ("bucket", "token")
ASKED = ("task", "mode")
GRADED = ("task", "score", "mode")
WRITES = ("layer", "sublayer")
EDITS = ("repetition", "randomness", "length", "truncation", "copies")
RANKS = ("participation_ratio", "entropy_rank", "stable_rank", "k90", "k99")
ANSWERS: dict[str, Row] = {
    **dict.fromkeys(("onset", "onset_median"), ((*ONSETS, *CELLS), "1")),
    "censored": (("k", "mode", *CELLS), "probability"),
    "share_in_top": (("k", *CELLS, "state"), "probability"),
    **dict.fromkeys(("difference", "token_effect"), ((*ONSETS, "token"), "1")),
    "first_minus_single": (ONSETS, "1"),
    "entropy_slope": (ONSETS, "1/nats"),
    "accuracy": (CELLS, "probability"),
}

ABLATED = ("mode", "criterion", "k")
INDUCED = ("prefix_matching", "induction", "induction_argmax", "duplicate", "echo", "own_share")
RETRIEVED = (
    *("retrieval", "needle_mass", "activation_frequency", "sink_argmax", "sink_when_wrong"),
    *("echo", "echo_induction"),
)
WHEN = ("", "future_")
PAIRS = (
    *("effect_on_later", "future_effect_on_later", "local_effect"),
    *(f"{when}effect_{how}" for when in WHEN for how in ("p95", "largest")),
)

MASSIVE: dict[str, Row] = {
    **dict.fromkeys(("first_position_share", "channel_share"), (("state",), "probability")),
    **dict.fromkeys(("massive_channel", "variation", "sign"), (("state",), "1")),
    **dict.fromkeys(("loss", "loss_increase"), (("variant",), "nats")),
    "sink_share": (("variant",), "probability"),
    "entropy_norm": (("variant",), "1"),
    **dict.fromkeys(("producer_neuron", "producer_share"), (("layer",), "1")),
    "bias_constancy": (("layer", "variant"), "1"),
}
"""What only texts with a massive entry have; tiny models have none."""

MEASUREMENTS: dict[str, dict[str, Row]] = {
    "corpus_statistics": {
        **dict.fromkeys(
            ("norm_median", "norm_p99", "norm_max", "peak_ratio", "massive_channel"), (("state",), "1")
        ),
        **dict.fromkeys(("sink_share", "massive_channel_share"), (("state",), "probability")),
        "norm_max_position": (("state",), "tokens"),
        "sink_writer": (("layer",), "1"),
    },
    "logit_lens": {
        **dict.fromkeys(
            (
                "kl_to_final",
                "kl_median",
                "kl_p95",
                "reverse_kl_to_final",
                "jsd_to_final",
                "cross_entropy",
                "excess_cross_entropy",
                "entropy",
            ),
            (("state",), "nats"),
        ),
        **dict.fromkeys(
            ("top1_agreement", "top5_overlap", "top5_in_order", "copy_current", "shared_mass"),
            (("state",), "probability"),
        ),
        "convergence_depth": (("variant", "mode", "definition"), "1"),
        "convergence_censored": (("variant", "mode", "definition"), "probability"),
        "overlap_depth": (("definition",), "1"),
        "overlap_censored": (("definition",), "probability"),
        **dict.fromkeys(("median_rank", "log10_rank", "perplexity"), (("state",), "1")),
        **dict.fromkeys(("agreement_area", "agreement_half", "kl_half", "overlap_third"), ((), "1")),
    },
    "lens_quality": {
        **dict.fromkeys(
            (
                "kl_to_final",
                "kl_median",
                "kl_p95",
                "cross_entropy",
                "excess_cross_entropy",
                "entropy",
                "kl_difference",
                "cross_entropy_difference",
                "entropy_difference",
                "marginal_bias",
            ),
            (("lens", "state"), "nats"),
        ),
        **dict.fromkeys(("top1_agreement", "top5_overlap"), (("lens", "state"), "probability")),
        **dict.fromkeys(
            (
                "median_rank",
                "log10_rank",
                "agreement_difference",
                "log10_rank_difference",
                "weight_norm",
                "bias_norm",
            ),
            (("lens", "state"), "1"),
        ),
        "mass_above_final": (("lens", "state", "bucket"), "1"),
        **dict.fromkeys(("gate_share", "gate_sure_share"), (("lens",), "probability")),
        "gate_worst_difference": (("lens",), "nats"),
        **dict.fromkeys(("gate_worst_state", "gate"), (("lens",), "1")),
    },
    "lens_validation": {
        **dict.fromkeys(("mass", "top1_share"), (("lens", "state", "bucket"), "probability")),
        "mass_above_final": (("lens", "state", "bucket"), "1"),
        "token_mass_gap": (("lens", "state"), "nats"),
        "converged_share": (("lens",), "probability"),
        "set_share": (("lens", "state"), "probability"),
        "set_share_retained": (("lens", "state"), "1"),
        **dict.fromkeys(
            ("kl_on_set", "kl_on_set_difference", "kl_off_set", "kl_off_set_difference"),
            (("lens", "state"), "nats"),
        ),
    },
    "settle_depth": {
        **dict.fromkeys(DEPTHS, ((), "1")),
        **{f"{n}_median": ((), "1") for n in DEPTHS},
        **{f"{n}_censored": ((), "probability") for n in DEPTHS},
        **{f"{n}_histogram": (("state",), "probability") for n in DEPTHS},
        "flip_rate": (("state",), "probability"),
    },
    "frequency_onset": {
        "share": (("state", "bucket"), "probability"),
        "share_above_final": (("state", "bucket"), "1"),
        "onset": (("definition", "bucket"), "1"),
        "corpus_share": (("bucket",), "probability"),
        "blank_share": ((), "probability"),
    },
    "decision_flips": {
        **dict.fromkeys(("flip_rate", "chance_flip_rate"), (("state", "bucket"), "probability")),
        "constant_flip_rate": ((), "probability"),
        "bucket_transition": (("state", "bucket", "transition"), "probability"),
        "outcome": (("state", "transition"), "probability"),
        **dict.fromkeys(("changes", "distinct_tokens"), ((), "1")),
        "reentry_rate": ((), "probability"),
    },
    "pos_depth": {
        **dict.fromkeys(("onset", "onset_depth", "onset_dropped"), (("word_class", "definition", "k"), "1")),
        "onset_censored": (("word_class", "definition", "k"), "probability"),
        "onset_median": (("word_class", "definition"), "1"),
        "reached": (("word_class", "state"), "probability"),
        "reexit_rate": (("word_class", "k"), "probability"),
        **dict.fromkeys(("difference", "difference_matched"), (("definition", "k"), "1")),
        **dict.fromkeys(("share", "accuracy"), (("word_class",), "probability")),
        "types": (("word_class",), "1"),
        "final_entropy": (("word_class",), "nats"),
        "onset_by_position": (("word_class", "position"), "1"),
        "onset_by_probability": (("word_class", "bucket"), "1"),
    },
    "early_exit": {
        **dict.fromkeys(("agreement", "accuracy"), (("policy", "every", "target"), "probability")),
        **dict.fromkeys(
            ("gross_saving", "net_saving", "exit_state", "threshold"), (("policy", "every", "target"), "1")
        ),
        "cross_entropy": (("policy", "every", "target"), "nats"),
        **dict.fromkeys(("oracle_gross_saving", "oracle_net_saving"), (("policy", "every"), "1")),
        "full_accuracy": ((), "probability"),
        "full_cross_entropy": ((), "nats"),
        "check_cost": ((), "1"),
    },
    "residual_contribution": {
        **{
            f"{writer}_{kind}": (("layer",), "1")
            for writer in ("attention", "mlp", "block")
            for kind in ("relative_norm", "cosine")
        },
        **{
            f"{kind}_{how}": (WRITES, "1")
            for kind in ("relative_norm", "cosine")
            for how in ("p10", "median", "p90")
        },
        **{f"{kind}_by_sinks": (("sinks", *WRITES), "1") for kind in ("relative_norm", "cosine")},
        **dict.fromkeys(
            ("write_norm", "stream_norm", "norm_ratio", "relative_norm_max", "write_norm_max", "mode"),
            (WRITES, "1"),
        ),
        **dict.fromkeys(
            ("growth", "parallel_gain", "orthogonal_energy", "growth_gap", "stream_cosine"), (("layer",), "1")
        ),
        "mode_share": ((*WRITES, "mode"), "probability"),
        "mode_support": (WRITES, "probability"),
        **dict.fromkeys(
            ("cosine_crossing", "norm_change_layer", "norm_change_ratio", "norm_change_p"), ((), "1")
        ),
        "cosine_crossing_support": ((), "probability"),
    },
    "residual_width": {
        **dict.fromkeys((*RANKS, "intrinsic_dimension", "causal_width"), (("state",), "1")),
        "width_share": (("state", "mode"), "1"),
        **dict.fromkeys(("new_direction_share", "new_direction_chance"), (("layer",), "1")),
        **dict.fromkeys(("isotropic_limit", "late_minus_middle"), ((), "1")),
        **dict.fromkeys(("loss_increase", "output_kl"), (("state", "k"), "nats")),
        "noise_floor": ((), "nats"),
    },
    "layer_skip": {
        **dict.fromkeys(
            ("output_kl", "loss_increase", "future_kl", "future_loss"), (("layer", "sublayer"), "nats")
        ),
        **{f"{when}shift{how}": (("layer", "sublayer"), "1") for when in WHEN for how in ("", "_largest")},
        **dict.fromkeys(PAIRS, (("layer", "later_layer"), "1")),
        **{f"sublayer_{name}": (("layer", "later_layer", "sublayer"), "1") for name in PAIRS[:3]},
        **dict.fromkeys(("half_ratio", "depth_holding_90", "depth_score"), (("variant",), "1")),
        "half_ratio_difference": ((), "1"),
        **dict.fromkeys(("noise_floor", "future_noise_floor"), ((), "nats")),
    },
    "surgery": {
        **{
            f"{group}{name}": ((axis, "variant"), unit)
            for group, axis in (("", "kept"), ("single_", "layer"))
            for name, unit in (("loss_increase", "nats"), ("agreement", "probability"))
        },
        "intact_loss": ((), "nats"),
    },
    "surgery_options": {
        "accuracy": (("kept", "variant", "task"), "probability"),
        "normalised": (("kept", "variant", "task"), "1"),
        **dict.fromkeys(("intact_accuracy", "chance"), (("task",), "probability")),
    },
    "pruning_criteria": {
        **dict.fromkeys(("influence", "future_shift", "sink_write", "protected"), (("layer",), "1")),
        **dict.fromkeys(("loss_increase", "taylor"), (("layer",), "nats")),
        "sublayer_influence": (("layer", "sublayer"), "1"),
        "angular": (("kept", "layer"), "1"),
        "angular_start": (("kept",), "1"),
        "rank": (("criterion", "layer"), "1"),
        "rank_correlation": (("mode", "criterion", "other"), "1"),
    },
    "pruning_damage": {
        "loss_increase": (("mode", "criterion", "kept"), "nats"),
        "agreement": (("mode", "criterion", "kept"), "probability"),
    },
    "representation_profile": {
        **dict.fromkeys(PROFILE, (("state", "mode"), "1")),
        **dict.fromkeys(("curvature", "curvature_change"), (("state", "mode"), "radians")),
        "largest_token_share": (("state",), "1"),
    },
    "dataset_geometry": {
        **dict.fromkeys(
            ("dataset_entropy", "effective_rank", "participation_ratio"), (("state", "mode"), "1")
        ),
        **dict.fromkeys(("rankme", "nesum", "spectral_anisotropy", "cosine_anisotropy"), (("state",), "1")),
        **dict.fromkeys(("self_cluster", "uniformity", "kurtosis"), (("state",), "1")),
        **dict.fromkeys(("outlier_dimensions", "outlier_share"), (("state",), "1")),
        **dict.fromkeys(("decay", "decay_fit", "intrinsic_dimension"), (("state", "definition"), "1")),
        "entropy_by_count": (("state", "kept"), "1"),
        "spectrum": (("state", "k"), "1"),
        "duplicates": ((), "1"),
    },
    "augmentation_invariance": {
        **dict.fromkeys(("infonce_loss", "infonce_bound"), (("state", "variant", "mode"), "nats")),
        "infonce_normalised": (("state", "variant", "mode"), "1"),
        "partner_top1": (("state", "variant"), "probability"),
        **dict.fromkeys(
            (
                *("positive_cosine", "negative_cosine", "lidar", "lidar_normalised", "lidar_mean_eigenvalue"),
                *("lidar_corrected", "lidar_above", "dime_normalised"),
            ),
            (("state", "variant"), "1"),
        ),
        **dict.fromkeys(("lidar_entropy", "dime", "dime_2"), (("state", "variant"), "nats")),
        "loss_above_last": (("state",), "nats"),
        **dict.fromkeys(("lidar_noise_mean", "lidar_noise_edge"), ((), "1")),
        "changed_share": ((), "probability"),
    },
    "layer_similarity": {
        **dict.fromkeys(
            ("cka", "debiased_cka", "knn_overlap", "procrustes_distance", "svcca"),
            (("state", "other_state", "mode"), "1"),
        ),
        "svcca_kept": (("state", "mode"), "1"),
        "change": (("layer", "mode"), "1"),
        "knn_chance": ((), "1"),
    },
    "extreme_inputs": {
        **{f"{kind}_entropy": (("state", "level", "mode"), "1") for kind in EDITS},
        **{f"{kind}_raw_entropy": (("state", "level", "mode"), "nats") for kind in EDITS[2:]},
        **{f"{raw}slope": (("variant", "state", "mode"), u) for raw, u in (("", "1"), ("raw_", "nats"))},
        **{
            f"{raw}slope_by_depth": (("variant", "depth", "mode"), u)
            for raw, u in (("", "1"), ("raw_", "nats"))
        },
        "early_minus_late": (("variant", "mode"), "1"),
        "degenerate": (("variant", "state", "mode"), "probability"),
    },
    "layer_quality": {
        "main_score": (("task", "mode", "state"), "1"),
        **dict.fromkeys(("score", "as_good"), ((*GRADED, "state"), "1")),
        "best_share": ((*GRADED, "state"), "probability"),
        **dict.fromkeys(("best_state", "gain", "gain_seen"), (GRADED, "1")),
        "control": (("task", "score", "variant"), "1"),
    },
    "entropy_modes": {
        "entropy": (("state", "mode"), "1"),
        "histogram": (("state", "mode", "bucket"), "probability"),
        **dict.fromkeys(
            (
                *("dip", "bic_gain", "parts", "ashman_d", "bimodality_coefficient"),
                *("valley", "threshold", "bimodal"),
            ),
            (("state", "mode", "variant"), "1"),
        ),
        **dict.fromkeys(("dip_p", "minor_weight"), (("state", "mode", "variant"), "probability")),
        **dict.fromkeys(("feature_correlation", "auc"), (("state", "feature"), "1")),
        "auc_q": (("state", "feature"), "probability"),
        **dict.fromkeys(("logistic_auc", "tree_auc"), (("state",), "1")),
        "high_share": (("state",), "probability"),
        "mode_agreement": (("state", "other_state"), "1"),
        "flip_share": (("state", "variant", "bucket"), "probability"),
    },
    "fact_depth": {
        **{f"{who}{name}": row for who in ("", "control_") for name, row in ANSWERS.items()},
        "answer_accuracy": (("bucket",), "probability"),
        **dict.fromkeys(("relation_accuracy", "relation_baseline"), (("relation",), "probability")),
    },
    "option_depth": {
        **dict.fromkeys(
            ("option_rank", "option_rank_median", "option_rank_geometric"), ((*ASKED, "state"), "1")
        ),
        "all_in_top": ((*ASKED, "k", "state"), "probability"),
        **dict.fromkeys(
            ("option_mass", "restricted_accuracy", "restricted_agreement"), ((*ASKED, "state"), "probability")
        ),
        "option_entropy": ((*ASKED, "state"), "nats"),
        "majority_baseline": (("task",), "probability"),
        **dict.fromkeys(("collection", "collection_median"), ((*ASKED, "definition"), "1")),
        "collected_early": ((*ASKED, "definition"), "probability"),
        **dict.fromkeys(("overtake", "overtake_median", "overtake_gold", "lead_changes"), (ASKED, "1")),
        "chosen_late": (ASKED, "probability"),
    },
    "option_patch": {
        **dict.fromkeys(("output_share", "output_mass"), (("state", "option"), "probability")),
        **dict.fromkeys(("donor_answers", "target_answers"), ((), "probability")),
        **dict.fromkeys(
            ("transition", "transition_median", "lens_transition", "lens_transition_median", "lens_later"),
            ((), "1"),
        ),
    },
    "residual_erasure": {
        "effect": (("state", "bucket"), "probability"),
        "kl": (("state", "bucket"), "nats"),
        "last_needed": (("task", "bucket"), "1"),
        **dict.fromkeys(("point_of_no_return", "operand_order"), (("task",), "1")),
        **dict.fromkeys(("accuracy", "gold_probability"), (("task",), "probability")),
        "noise_floor": ((), "nats"),
    },
    "integrated_gradients": {
        **dict.fromkeys(
            ("attribution", "attribution_share"), (("layer", "sublayer", "bucket"), "probability")
        ),
        **dict.fromkeys(("difference", "gap", "incomplete"), (("layer", "sublayer"), "probability")),
        "steps": (("layer", "sublayer"), "1"),
        "handover": (("task",), "1"),
        **dict.fromkeys(("accuracy", "gold_probability"), (("task",), "probability")),
    },
    "depth_by_difficulty": {
        "depth_score": (("score", "kept", "level"), "1"),
        "answered": (("level",), "probability"),
        "effect_share": (("score", "layer", "level"), "1"),
        **dict.fromkeys(("rank_p", "ordered_p", "equivalence_p"), (("score", "kept"), "probability")),
        **dict.fromkeys(
            (
                "slope",
                "slope_alone",
                "shuffled_slope",
                "rank_correlation",
                "ordered_z",
                "detectable_slope",
                "verdict",
            ),
            (("score", "kept"), "1"),
        ),
    },
    "adaptive_compute": {
        **dict.fromkeys(("deep_share", "early_share"), (("definition",), "probability")),
        "settled": (("definition",), "1"),
        "settled_histogram": (("definition", "state"), "probability"),
        "jsd": (("state",), "nats"),
        "write_cosine": (("layer", "later_layer"), "1"),
        "repeat_cosine": (("mode",), "1"),
        "block": (("layer",), "1"),
    },
    "attention_sinks": {
        "sink_share": (("source", "mode", "level", "position"), "probability"),
        "sink_by_layer": (("source", "mode", "level", "layer"), "probability"),
        **dict.fromkeys(
            ("first_share_by_input", "learned_sink"), (("source", "mode", "layer", "head"), "probability")
        ),
        "first_share": (("layer", "head"), "probability"),
        **dict.fromkeys(("sink_mass", "sink_mass_weighted"), (("source", "mode", "layer"), "probability")),
        "sink_keys": (("source", "mode"), "1"),
    },
    "massive_activations": {
        **dict.fromkeys(
            ("top_magnitude", "median_magnitude", "ratio", "log_score", "massive_entries"), (("state",), "1")
        ),
        **dict.fromkeys(("massive_share", "onset_share"), (("state",), "probability")),
        **MASSIVE,
    },
    "streaming_cache": {
        "full_loss": ((), "nats"),
        **dict.fromkeys(("loss", "excess"), (("variant", "kept", "sinks"), "nats")),
    },
    "grammar_heads": {
        **dict.fromkeys(
            (
                *("relation_accuracy", "relation_seen", "relation_offset_accuracy", "relation_gain"),
                *("relation_weight", "relation_sink_with", "relation_sink_none"),
            ),
            (("relation", "mode"), "probability"),
        ),
        **dict.fromkeys(("relation_layer", "relation_head", "relation_offset"), (("relation", "mode"), "1")),
        "accuracy": (("relation", "mode", "layer", "head"), "probability"),
        **dict.fromkeys(
            ("best_accuracy", "gain", "sink_share", "tree_uas"), (("layer", "head"), "probability")
        ),
        **dict.fromkeys(("uas", "uas_offset", "uas_gain", "single_head_uas"), ((), "probability")),
        **dict.fromkeys(("tree_best_uas", "tree_gain"), ((), "probability")),
        "tree_rival_uas": (("variant",), "probability"),
    },
    "predictability": {
        "r2": (("layer", "definition"), "1"),
        "baseline_r2": (("layer", "variant"), "1"),
        **dict.fromkeys(("mse", "variance"), (("layer",), "1")),
        **dict.fromkeys(("novelty", "told"), (("layer",), "nats")),
        **dict.fromkeys(("mse_by_position", "relative_novelty", "cosine"), (("layer", "position"), "1")),
        **dict.fromkeys(("surprisal_correlation", "partial_correlation"), (("layer", "position"), "1")),
        "correlation": (("layer", "mode"), "1"),
        "correlation_by_offset": (("layer", "offset"), "1"),
    },
    "component_probes": {
        "f1": (("task", "score", "feature", "layer"), "1"),
        "difference": (("task", "score", "variant", "layer"), "1"),
        "ordering": (("task", "score", "variant"), "1"),
        "penalty": (("task", "feature", "layer"), "1"),
        "majority": (("task", "score"), "1"),
    },
    "function_vectors": {
        **dict.fromkeys(
            ("in_context", "in_context_probability", "shared_first", "intact"), (("task",), "probability")
        ),
        **dict.fromkeys(("norm", "dropped"), (("task",), "1")),
        "indirect_effect": (("layer", "head"), "probability"),
        "indirect_effect_by_task": (("task", "layer", "head"), "probability"),
        **dict.fromkeys(
            ("zero_shot", "zero_shot_probability"), (("task", "variant", "state"), "probability")
        ),
        "zero_shot_mean": (("variant", "state"), "probability"),
        **dict.fromkeys(("accuracy_mean", "vector_ahead"), (("variant",), "probability")),
        **dict.fromkeys(
            ("accuracy", "top3", "probability", "shuffled"), (("task", "variant"), "probability")
        ),
        "chosen_state": (("task", "variant"), "1"),
        "cosine": (("task", "option"), "1"),
        "vector": (("task", "feature"), "1"),
    },
    "function_transfer": {
        "transfer": (("task", "option"), "probability"),
        **dict.fromkeys(("accuracy", "composition"), (("task", "variant"), "probability")),
        "vector_ahead": (("variant",), "probability"),
        "answers_said": (("task",), "probability"),
        "said_difference": (("task",), "nats"),
        "rebuilt_cosine": (("task",), "1"),
    },
    "function_texts": {
        "hit": (("task", "variant"), "probability"),
        **dict.fromkeys(("hit_mean", "hit_ahead"), (("variant",), "probability")),
    },
    "function_offsets": {
        **dict.fromkeys(("accuracy", "group_accuracy", "vector_ahead"), (("task", "variant"), "probability")),
        "involution": (("task",), "probability"),
        "offset_length": (("task", "variant"), "1"),
        "closed": (("task",), "1"),
    },
    "function_reach": {
        **dict.fromkeys(("accuracy", "lost"), (("task", "bucket", "variant"), "probability")),
        "accuracy_mean": (("bucket", "variant"), "probability"),
        "tokens": (("task", "bucket"), "tokens"),
        "frequency": (("task", "bucket"), "1"),
        "rule_share": (("task",), "1"),
    },
    "mlp_memory": {
        **dict.fromkeys(
            ("agreement", "agreement_chance", "value_probability"), (("layer", "mode"), "probability")
        ),
        "trigger_entropy": (("layer", "mode"), "nats"),
        "active_share": (("layer",), "probability"),
    },
    "fact_memory": {
        "accuracy": ((), "probability"),
        "confidence": (("bucket",), "probability"),
        "hit_share": (("token", "option", "bucket"), "probability"),
        **dict.fromkeys(("right_minus_wrong", "fact_minus_invented"), (("token", "option"), "probability")),
        "hit_by_confidence": (("token", "confidence", "bucket"), "probability"),
        **dict.fromkeys(
            ("fact_minus_invented_at_confidence", "drop_beyond_random"), (("token",), "probability")
        ),
        "hit_by_layer": (("token", "layer", "bucket"), "probability"),
        "ten_share": (("token", "layer"), "1"),
        "auc": (("score", "token"), "1"),
        "answer_drop": (("token", "variant"), "probability"),
    },
    "iteration_heads": {
        **{
            f"{place}_{name}": (("layer", "head"), unit)
            for place in ("input", "end")
            for name, unit in (("share", "probability"), ("weight", "probability"), ("same", "1"))
        },
        **dict.fromkeys(("accuracy", "step_accuracy"), (("level",), "probability")),
        "ablated_accuracy": (("layer", "head", "variant"), "probability"),
        "mlp_ablated_accuracy": (("layer",), "probability"),
        "shifted_weight": (("layer", "head", "offset"), "probability"),
        "position_r2": (("state",), "1"),
    },
    "sink_content": {
        "label_accuracy": (("state", "sinks"), "probability"),
        "own_cosine": (("state", "sinks"), "1"),
        "position_error": (("state", "sinks"), "tokens"),
        "label_gap": (("state",), "probability"),
        "own_gap": (("state",), "1"),
        "position_gap": (("state",), "tokens"),
        "first_spread": (("state",), "1"),
        "label_majority": ((), "probability"),
        "tokens": (("sinks",), "1"),
    },
    "minimal_pairs": {
        "accuracy": ((), "probability"),
        "paradigm_accuracy": (("task",), "probability"),
        "field_accuracy": (("feature",), "probability"),
        "margin": ((), "nats"),
        "paradigm_margin": (("task",), "nats"),
        "good_loss": ((), "nats"),
    },
    "head_atlas": {
        **dict.fromkeys(
            (
                *(
                    "previous",
                    "self",
                    "first",
                    "first_weighted",
                    "local_32",
                    "far_mass",
                    "best_offset_mass",
                    "sink",
                ),
                *(
                    "retrieval",
                    "activation_frequency",
                    "needle_mass",
                    "echo",
                    "gate",
                    "prefix_matching",
                    "induction",
                ),
                *("duplicate", "grammar", "grammar_gain", "grammar_gain_low", "function_vector", "iteration"),
                "iteration_end",
                "write_share",
            ),
            (("layer", "head"), "probability"),
        ),
        **dict.fromkeys(("distance", "best_offset"), (("layer", "head"), "tokens")),
        **dict.fromkeys(
            ("entropy_norm", "copying", "ov_eigenvalue", "function_vector_errors"), (("layer", "head"), "1")
        ),
        **dict.fromkeys(("mean_write", "ablation_errors"), (("layer", "head"), "1")),
        "ablation": (("layer", "head"), "nats"),
        "role": (("role", "layer", "head"), "1"),
        "role_share": (("role",), "probability"),
        "role_depth": (("role",), "1"),
        **dict.fromkeys(("correlation", "correlation_given_layer"), (("score", "other"), "1")),
        "overlap": (("role", "other"), "1"),
        "overlap_p": (("role", "other"), "probability"),
    },
    "head_patterns": {
        **{name: (("layer", "head"), unit) for name, unit in SCORES.items()},
        **dict.fromkeys(MASSES, (("layer", "head"), "probability")),
        **dict.fromkeys(("next", "far_mass", "best_offset_mass"), (("layer", "head"), "probability")),
        "kv_spread": (("layer", "head"), "nats"),
        "entropy_norm_weighted": (("layer", "head"), "1"),
        **dict.fromkeys(
            ("distance_nosink", "distance_weighted", "best_offset"), (("layer", "head"), "tokens")
        ),
        "offset_profile": (("layer", "head", "offset"), "probability"),
    },
    "induction_heads": {
        **dict.fromkeys(INDUCED, (("layer", "head"), "probability")),
        **dict.fromkeys(("copying", "ov_eigenvalue"), (("layer", "head"), "1")),
        **dict.fromkeys(("first_copy_loss", "second_copy_loss"), ((), "nats")),
        "second_copy_accuracy": ((), "probability"),
        "loss": (("position",), "nats"),
    },
    "induction_ablation": {
        **dict.fromkeys(
            ("first_copy_loss_increase", "second_copy_loss_increase"), (("mode", "criterion", "k"), "nats")
        ),
        "second_copy_accuracy": (("mode", "criterion", "k"), "probability"),
        **dict.fromkeys(("text_loss_increase", "in_context_score"), (("criterion", "k"), "nats")),
        **{
            f"intact_{name}": ((), "nats")
            for name in ("first_copy_loss", "second_copy_loss", "text_loss", "in_context_score")
        },
        "intact_second_copy_accuracy": ((), "probability"),
    },
    "fuzzy_induction": {
        "advantage": (("relation", "layer", "head"), "probability"),
        "accuracy": (("relation",), "probability"),
        "nearest": (("relation", "state"), "probability"),
    },
    "head_composition": {
        "key_drop": (("other", "layer", "head"), "probability"),
        **dict.fromkeys(("key_composition", "key_composition_z"), (("other", "layer", "head"), "1")),
        **dict.fromkeys(("previous_drop", "weights_drop"), ((), "1")),
    },
    "retrieval_heads": {
        **dict.fromkeys(RETRIEVED, (("layer", "head"), "probability")),
        "full_cache": (("layer", "head"), "1"),
        **dict.fromkeys(("token_accuracy", "exact", "accepted"), (("length", "depth"), "probability")),
        "cache": (("variant", "length"), "bytes"),
    },
    "retrieval_ablation": {
        **dict.fromkeys(("recall", "exact", "margin"), (ABLATED, "probability")),
        **dict.fromkeys(("intact_recall", "intact_exact"), ((), "probability")),
        "answer_kind": (("criterion", "k", "option"), "probability"),
        "policy_recall": (("policy",), "probability"),
    },
}

NO_HEADS = "no layer has softmax attention heads (its layers are: ssm)"
REFUSALS: dict[tuple[str, str], str] = {
    (family, name): NO_HEADS
    for family in ("mamba", "mamba2", "rwkv", "xlstm", "zamba2")
    for name in (
        *("head_patterns", "grammar_heads", "head_atlas"),
        *("iteration_heads", "attention_sinks", "streaming_cache"),
    )
}
REFUSALS["bert", "streaming_cache"] = "it is no causal language model: it keeps no cache of what came before"
REFUSALS["bert", "depth_by_difficulty"] = "it is no causal language model, so no answer follows a problem"
REFUSALS["bert", "option_depth"] = "it is no causal language model, so no option follows a prompt"
REFUSALS["bert", "option_patch"] = (
    "it is no causal language model: a patched last position changes all others too"
)
REFUSALS["bert", "fact_depth"] = (
    "it is no causal language model, so it does not predict an answer token by token"
)
REFUSALS["bert", "pos_depth"] = "it is no causal language model: there is no next word"
for asking in ("residual_erasure", "integrated_gradients"):
    REFUSALS["bert", asking] = "it is no causal language model, so no answer follows a prompt"
REFUSALS["bert", "surgery_options"] = "it is no causal language model, so no option follows a prompt"
for asking in ("predictability", "component_probes"):
    REFUSALS["bert", asking] = (
        "it is no causal language model: a state has seen the tokens it would be predicted before"
    )
for asking in (
    "function_vectors",
    "function_transfer",
    "function_texts",
    "function_offsets",
    "function_reach",
):
    REFUSALS["bert", asking] = "it is no causal language model, so no answer follows a prompt"
REFUSALS["bert", "mlp_memory"] = (
    "it is no causal language model: there is no next token that a value could say"
)
for sparse in ("gpt_oss", "mamba", "mamba2", "mixtral", "zamba2"):
    for asking in ("mlp_memory", "fact_memory"):
        REFUSALS[sparse, asking] = "its MLPs have no one last projection whose columns could be memories"
REFUSALS["bert", "fact_memory"] = "it is no causal language model, so no answer follows a prompt"
REFUSALS["bert", "iteration_heads"] = "it is no causal language model, so it writes no steps"
NO_NEXT_TOKEN = "it is no causal language model: there is no next token whose loss could rise"
for name in ("surgery", "pruning_criteria", "pruning_damage"):
    REFUSALS["bert", name] = NO_NEXT_TOKEN
OF_HEADS = (
    "induction_heads",
    "induction_ablation",
    "head_composition",
    "retrieval_heads",
    "retrieval_ablation",
    "fuzzy_induction",
)
for name in OF_HEADS:
    REFUSALS |= {(family, name): NO_HEADS for family in ("mamba", "mamba2", "rwkv", "xlstm", "zamba2")}
for name in OF_HEADS[:3]:
    REFUSALS["bert", name] = (
        "it is no causal language model: what comes again stands on both sides of a token"
    )
for name in OF_HEADS[3:]:
    REFUSALS["bert", name] = "it is no causal language model, so no answer follows a question"
REFUSALS["bert", "fuzzy_induction"] = "it is no causal language model, so no label follows a prompt"
KEPT_MORE = {"falcon_h1": "both", "recurrent_gemma": "ssm, local"}
for family in ("jamba", "lfm2", "falcon_h1", "qwen3_next", "recurrent_gemma"):
    kinds = KEPT_MORE.get(family, "ssm, attention")
    reason = f"its layers keep more than keys and values ({kinds}), so one prompt cannot serve many ablations"
    REFUSALS[family, "retrieval_ablation"] = reason
NEEDLES = {"source": "short", "lengths": (24,), "depths": (0.5,), "limit": 1}
ONE_BLOCK = {"length": 4, "examples": 1, "texts": 1, "text_length": 16}
PARAMETERS = {
    "predictability": {"late": 4, "fewest": 3},
    "component_probes": {"window": 24, "probed": 2, "controls": (), "penalties": (1.0,), "steps": 10},
    "layer_quality": {"limit": 10, "modes": ("mean+norm",), "draws": 1, "scores": ("few_shot", "knn")},
    "dataset_geometry": {"modes": ("wei",)},
    "residual_width": {"fit": 200, "tokens": 64, "sixteenths": (4, 8)},
    "surgery": {"tokens": 64, "sublayer_tokens": 64, "kept": (1,)},
    "pruning_criteria": {"tokens": 64, "future_tokens": 64, "gradient_tokens": 64, "future": 1},
    "pruning_damage": {"sizes": (1,), "tokens": 32},
    "surgery_options": {"items": 2, "shots": 0, "kept": (1,)},
    "layer_skip": {"tokens": 64, "sublayer_tokens": 64, "local": True},
    "logit_lens": {"positions": 64},
    "lens_quality": {"positions": 64},
    "lens_validation": {"positions": 64},
    "settle_depth": {"positions": 64},
    "frequency_onset": {"positions": 64},
    "decision_flips": {"positions": 64},
    "pos_depth": {"positions": 64, "kept": "all", "ranks": (1, 10)},
    "extreme_inputs": {
        "prompts": 2,
        "longest": 8,
        "levels": (2, 2, 2),
        "lengths": (8, 16),
        "draws": 1,
        "copies": (3, 8),
    },
    "entropy_modes": {"prompts": 3, "longest": 12},
    "fact_depth": {"facts": 6},
    "option_depth": {"items": 4, "shots": 0},
    "option_patch": {"pairs": 2, "shots": 0},
    "depth_by_difficulty": {
        "source": "brackets",
        "levels": (1, 4),
        "per_level": 3,
        "shots": 0,
        "fewest": 3,
        "draws": 10,
    },
    "augmentation_invariance": {"texts": 5, "views": 2, "words": 3, "draws": 1},
    "layer_similarity": {"texts": 8, "words": 3, "poolings": ("mean",)},
    "early_exit": {"positions": 64, "targets": (90, 95), "every": (1, 2)},
    "residual_erasure": {"prompts": 2, "longest": 16},
    "integrated_gradients": {"prompts": 1, "longest": 16, "steps": 4, "cap": 4},
    "adaptive_compute": {"positions": 64},
    "head_patterns": {"every_query": 4, "stream": (1, 4), "offsets": 8},
    "induction_heads": {"length": 4, "short": 3, "examples": 1},
    "induction_ablation": {"sizes": (1,), "modes": ("mean",), "draws": 1, **ONE_BLOCK},
    "head_composition": {"readers": 1, "length": 4, "examples": 1},
    "fuzzy_induction": {"relations": ("same",), "prompts": 1, "shown": 2},
    "retrieval_heads": {**NEEDLES, "echo": 4, "echoes": 1},
    "retrieval_ablation": {**NEEDLES, "sizes": (1,), "draws": 1},
    "function_vectors": {
        "tasks": ("next_item",),
        "shots": 1,
        "taken": 1,
        "corrupted": 1,
        "queries": 1,
        "heads": 1,
        "solved": 0.0,
    },
    "function_transfer": {"tasks": ("next_item",), "words": 2, "steps": 1},
    "function_texts": {"tasks": ("next_item",), "words": 1, "sentences": 1},
    "function_offsets": {"tasks": ("next_item",), "pairs": 2, "fewest": 2},
    "function_reach": {"tasks": ("next_item",), "words": 1, "shots": 1, "fewest": 1},
    "iteration_heads": {"lengths": (2,), "sequences": 2, "shots": 1, "few": 0},
    "mlp_memory": {"neurons": 4, "contexts": 2},
    "fact_memory": {"facts": 3, "others": 1, "texts": 1, "length": 8, "fewest": 1},
    "attention_sinks": {"texts": 3, "controls": 1, "length": 16},
    "massive_activations": {"tokens": 32, "documents": 2},
    "streaming_cache": {"texts": 1, "length": 24, "budgets": (8,)},
    "grammar_heads": {"source": "", "sentences": 4, "fewest": 1},
    "head_atlas": {"sentences": 4, "arcs": 2},
    "minimal_pairs": {"pairs": 2},
    "sink_content": {"documents": 9, "length": 16, "most": 10},
}
UNTRUE = ("accuracy", "full_accuracy", "full_cross_entropy")
"""Measurements against the true next token, which only causal models have."""
BY_DATA = {
    *(("massive_activations", name) for name in MASSIVE),
    *(("head_patterns", name) for name in RARE),
    *(("attention_sinks", name) for name in MEASUREMENTS["attention_sinks"]),
    *(("streaming_cache", name) for name in ("loss", "excess")),
    ("layer_quality", "control"),
    *(("augmentation_invariance", name) for name in MEASUREMENTS["augmentation_invariance"]),
    *(("layer_skip", n) for n in ("half_ratio", "half_ratio_difference", "depth_holding_90", "depth_score")),
    ("frequency_onset", "onset"),
    *(("entropy_modes", name) for name in MEASUREMENTS["entropy_modes"]),
    *(("extreme_inputs", f"{raw}slope_by_depth") for raw in ("", "raw_")),
    ("extreme_inputs", "early_minus_late"),
    ("lens_validation", "set_share_retained"),
    *(("lens_validation", f"kl_{side}_set{more}") for side in ("on", "off") for more in ("", "_difference")),
    *(("decision_flips", name) for name in ("flip_rate", "chance_flip_rate", "bucket_transition")),
    ("early_exit", "threshold"),
    *(
        (asked, name)
        for asked in ("surgery", "surgery_options", "pruning_criteria", "pruning_damage")
        for name in MEASUREMENTS[asked]
    ),
    *(
        ("residual_contribution", name)
        for name in ("cosine_crossing", "norm_change_layer", "norm_change_ratio", "norm_change_p")
    ),
    *((name, each) for name in OF_HEADS for each in MEASUREMENTS[name]),
    *(("pos_depth", name) for name in MEASUREMENTS["pos_depth"]),
    *(("dataset_geometry", name) for name in ("decay", "decay_fit", "intrinsic_dimension")),
    *(("residual_width", name) for name in MEASUREMENTS["residual_width"]),
    *((asked, name) for asked in ("predictability", "component_probes") for name in MEASUREMENTS[asked]),
    *(
        (asked, name)
        for asked in (
            "fact_depth",
            "option_depth",
            "option_patch",
            "depth_by_difficulty",
            "residual_erasure",
            "integrated_gradients",
            "grammar_heads",
            "function_vectors",
            "function_transfer",
            "function_texts",
            "function_offsets",
            "function_reach",
            "iteration_heads",
            "fact_memory",
            "head_atlas",
            "sink_content",
        )
        for name in MEASUREMENTS[asked]
    ),
}
"""Measurements with cells that some text leaves empty, such as a bucket without any guess."""
OWN_LABELS = {
    *(("mlp_memory", name) for name in MEASUREMENTS["mlp_memory"]),
    ("iteration_heads", "position_r2"),
    *(("fact_memory", name) for name in ("hit_by_layer", "ten_share")),
}
"""Measurements of some layers or states only: those with an MLP, those around the first layer."""
