"""Scores of models on data, made comparable and judged: from mixtures to decisions."""

from gmmkit.scoring.linear import linear_scoring
from gmmkit.scoring.normalisation import s_norm, t_norm, z_norm, zt_norm

__all__ = [
    "linear_scoring",
    "s_norm",
    "t_norm",
    "z_norm",
    "zt_norm",
]
