"""The value models, one file each, and the estimator that carries one with its autoencoder."""

from worldvalue.models.estimator import Estimator, EstimatorConfig, from_wan, load_model

__all__ = ["Estimator", "EstimatorConfig", "from_wan", "load_model"]
