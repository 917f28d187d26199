"""Estimators: scikit-learn's conventions around the training. No formulas."""
