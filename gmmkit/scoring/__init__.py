"""Scores of models on data, made comparable and judged: from mixtures to decisions."""

from gmmkit.scoring.linear import linear_scoring

__all__ = [
    "linear_scoring",
]
