"""The value models, one file each, and the estimator that carries one with its autoencoder."""

from worldvalue.models.estimator import Estimator, EstimatorConfig, ModelConfig, load_model
from worldvalue.models.pretrained import on_pretrained

__all__ = ["Estimator", "EstimatorConfig", "ModelConfig", "load_model", "on_pretrained"]
