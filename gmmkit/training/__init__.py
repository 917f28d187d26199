"""Training: from a source of samples to parameters, without scikit-learn's conventions."""
