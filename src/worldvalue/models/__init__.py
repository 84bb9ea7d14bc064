"""The value models, one file each, and the estimator that carries one with its autoencoder."""

from worldvalue.models.estimator import Estimator, EstimatorConfig, ModelConfig, load_model, read_config
from worldvalue.models.pretrained import going_on, new_estimator, on_pretrained

__all__ = [
    "Estimator",
    "EstimatorConfig",
    "ModelConfig",
    "going_on",
    "load_model",
    "new_estimator",
    "on_pretrained",
    "read_config",
]
