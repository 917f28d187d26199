"""Scores of models on data, made comparable and judged: from mixtures to decisions."""

from gmmkit.scoring.linear import linear_scoring
from gmmkit.scoring.metrics import VerificationMetrics, verification_metrics
from gmmkit.scoring.normalisation import s_norm, t_norm, z_norm, zt_norm
from gmmkit.scoring.ratio import log_likelihood_ratio

__all__ = [
    "VerificationMetrics",
    "linear_scoring",
    "log_likelihood_ratio",
    "s_norm",
    "t_norm",
    "verification_metrics",
    "z_norm",
    "zt_norm",
]
