"""Figures of value models as the WVM paper publishes them (tables 1 to 4): measured by its authors on their data."""

from __future__ import annotations

from collections.abc import Mapping

PUBLISHED: Mapping[str, Mapping[str, float | None]] = {
    "GVL": {"expert_voc": 0.93, "hesitation_rmse": 0.16, "retry_voc": 0.43},
    "VLAC": {"expert_voc": 0.50, "hesitation_rmse": 0.54, "retry_voc": None},
    "Robometer": {"expert_voc": 0.93, "hesitation_rmse": 0.16, "retry_voc": -0.37},
    "TopReward": {"expert_voc": 0.58, "hesitation_rmse": 0.33, "retry_voc": 0.00},
    "RoboReward": {"expert_voc": 0.84, "hesitation_rmse": 0.31, "retry_voc": None},
    "Robo-Dopamine": {"expert_voc": 0.76, "hesitation_rmse": 0.51, "retry_voc": None},
    "WVM": {"expert_voc": 0.99, "hesitation_rmse": 0.04, "retry_voc": 0.75},
}
"""By model and metric. Hesitation-RMSE and Retry-VOC are of the RoboSuite part of Suboptimal-Value-Bench, Expert-VOC of
the self-collected sets of three embodiments, which the paper reports together. None: ill-defined there."""

ABLATIONS: Mapping[str, Mapping[str, float]] = {
    "full": {"hesitation_rmse": 0.05, "retry_voc": 0.78, "expert_voc": 0.95},
    "no_video_loss": {"hesitation_rmse": 0.08, "retry_voc": 0.68, "expert_voc": 0.95},
    "scratch": {"hesitation_rmse": 0.08, "retry_voc": 0.62, "expert_voc": 0.96},
    "frozen": {"hesitation_rmse": 0.12, "retry_voc": 0.45, "expert_voc": 0.92},
    "prefix_0": {"hesitation_rmse": 0.09, "retry_voc": 0.67, "expert_voc": 0.98},
    "prefix_1": {"hesitation_rmse": 0.05, "retry_voc": 0.75, "expert_voc": 0.91},
    "hl_gaussian": {"hesitation_rmse": 0.06, "retry_voc": 0.59, "expert_voc": 0.87},
}
"""Table 4, averages over all embodiments, by variant and metric."""
