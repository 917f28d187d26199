"""Handwritten digits: which digit is it, and is it one that was learnt?

A Gaussian mixture for each digit says how likely an image is under each of them, and Bayes' rule
makes that a probability. Such a classifier knows what it has learnt: an image that no mixture
explains is of no known class.

The data are the 1,797 images of 8 x 8 pixels that come with scikit-learn, projected to 20 principal
components. Run it from anywhere::

    python examples/digits.py
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline

from gmmkit import GMMClassifier

CLASSIFIERS = {
    "1 diagonal Gaussian a digit": GMMClassifier(1),
    "4 diagonal Gaussians": GMMClassifier(4),
    "4 with one full matrix": GMMClassifier(4, covariance_type="tied"),
    "1 full Gaussian": GMMClassifier(1, covariance_type="full"),
    "64 of all digits, adapted": GMMClassifier(64, adapt=True),
}
RATE = 0.05  # of images of unknown digits that may be taken for known ones


def compare(X, y):
    """Print the accuracy of several mixtures in five folds."""
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    print("Mixture                        accuracy   worst fold")
    for name, classifier in CLASSIFIERS.items():
        model = make_pipeline(PCA(20, random_state=0), classifier)
        scores = cross_val_score(model, X, y, cv=folds)
        print(f"{name:30} {scores.mean():8.1%} {scores.min():12.1%}")


def reject(X, y):
    """Learn the digits up to 7; calibrate on images of the 8; then meet the 9 for the first time.

    The images of each learnt digit are in three parts: to train, to calibrate, to test.
    """
    X = PCA(20, random_state=0).fit(X[y < 8]).transform(X)
    train, rest = train_test_split(np.flatnonzero(y < 8), random_state=0, stratify=y[y < 8])
    calibrate, test = train_test_split(rest, test_size=0.5, random_state=0, stratify=y[rest])
    calibrate, test = (
        np.concatenate([part, np.flatnonzero(y == new)])
        for part, new in ((calibrate, 8), (test, 9))
    )
    classifier = GMMClassifier(1, covariance_type="full").fit(X[train], y[train])
    classifier.calibrate(X[calibrate], y[calibrate], false_acceptance_rate=RATE)
    decided, truth = classifier.predict(X[test], unknown=-1), y[test]
    known = truth < 8
    print(f"\nDigits 0 to 7 are known; {RATE:.0%} of the 8s may pass for one of them")
    print(f"Known digits accepted    {(decided[known] >= 0).mean():6.1%}")
    right = decided[known] == truth[known]
    print(f"  of these, right        {right[decided[known] >= 0].mean():6.1%}")
    print(f"9s taken for known ones  {(decided[~known] >= 0).mean():6.1%}")


if __name__ == "__main__":
    images, digits = load_digits(return_X_y=True)
    compare(images, digits)
    reject(images, digits)
