"""Anomalies in a table: tumours unlike the benign ones, and the measurements that give them away.

1. train a detector on benign tumours only; nobody tells it what a malignant one looks like;
2. calibrate its threshold on other benign tumours, so that at most 5 % of benign ones are taken for
   anomalies, whatever the distribution of the measurements (Laxhammar and Falkman, 2010);
3. judge tumours not used so far, and compare with two detectors of scikit-learn, whose thresholds
   are set by the same rule;
4. ask which measurements make a tumour abnormal. What a measurement adds to the improbability of
   a tumour is compared with what it adds for benign ones.

The table is scikit-learn's ``load_breast_cancer``: 569 tumours, and ten measurements of the most
abnormal nuclei of each. The one Gaussian that is trained here knows how the measurements of benign
tumours go together. This is an example of a method, and no medical advice.

Run it from anywhere; with matplotlib, it can draw a picture::

    python examples/anomalies.py [--picture FILE.png]
"""

import argparse

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.preprocessing import StandardScaler

from gmmkit import GMMOutlierDetector

FALSE_ALARMS = 0.05


def read_tumours():
    """Benign tumours to train on, to calibrate with and to judge; malignant ones; names.

    Measurements are in deviations of those to train on.
    """
    tumours = load_breast_cancer()
    columns = slice(20, 30)
    names = [name.removeprefix("worst ") for name in tumours.feature_names[columns]]
    table, is_benign = tumours.data[:, columns], tumours.target == 1
    benign = np.random.default_rng(0).permutation(table[is_benign])
    parts = *np.split(benign, [160, 260]), table[~is_benign]
    scaler = StandardScaler().fit(parts[0])
    return *(scaler.transform(part) for part in parts), names


def calibrated(scores, rate):
    """The threshold for a rate of false alarms, by the scores of ordinary samples."""
    return np.sort(scores)[int(rate * (len(scores) + 1)) - 1]


def report(name, detector, threshold, ordinary, strange):
    """Print how many samples of each kind lie below the threshold, and the area under the ROC."""
    scores = [detector.score_samples(X) for X in (ordinary, strange)]
    false, found = (np.mean(each < threshold) for each in scores)
    is_ordinary = np.repeat([1, 0], [len(ordinary), len(strange)])
    area = roc_auc_score(is_ordinary, np.concatenate(scores))
    print(f"{name:22}  false alarms {false:4.0%}  found {found:4.0%}  ROC area {area:.3f}")


def compare(train, held_out, ordinary, strange):
    """Print the figures of three detectors, each calibrated on the same samples."""
    detector = GMMOutlierDetector().fit(train)
    detector.calibrate(held_out, false_alarm_rate=FALSE_ALARMS)
    report("one Gaussian", detector, detector.offset_, ordinary, strange)
    others = {
        "isolation forest": IsolationForest(random_state=0),
        "local outlier factor": LocalOutlierFactor(novelty=True),
    }
    for name, other in others.items():
        threshold = calibrated(other.fit(train).score_samples(held_out), FALSE_ALARMS)
        report(name, other, threshold, ordinary, strange)
    return detector


def reasons(detector, held_out, strange):
    """What each measurement adds beyond what it adds for benign tumours, in nats, (N, D)."""
    usual = detector.feature_contributions(held_out).mean(axis=0)
    return detector.feature_contributions(strange) - usual


def print_reasons(added, found, names):
    """Print the most frequent first reasons, and those of the strangest tumour."""
    first = np.bincount(added[found].argmax(axis=1), minlength=len(names))
    often = ", ".join(f"{names[d]} {first[d]}" for d in np.argsort(-first)[:4])
    print(f"\nThe first reason of the {found.sum()} that were found: {often}.")
    strangest = added.sum(axis=1).argmax()
    order = np.argsort(-added[strangest])[:3]
    parts = ", ".join(f"{names[d]} {added[strangest, d]:.0f}" for d in order)
    print(f"The strangest is {added[strangest].sum():.0f} nats less probable than usual: {parts}.")


def draw_picture(path, detector, groups, added, names):
    """Scores of benign and malignant tumours with the threshold, and the reasons of some."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5))
    scores = {name: detector.score_samples(X) for name, X in groups.items()}
    lowest = detector.offset_ - 40
    bins = np.linspace(lowest, max(each.max() for each in scores.values()), 40)
    for (name, each), colour in zip(scores.items(), ["0.6", "C3"], strict=True):
        left.hist(np.maximum(each, lowest), bins, density=True, alpha=0.7, color=colour, label=name)
    left.axvline(detector.offset_, color="k", linestyle="--", label="calibrated threshold")
    left.set(xlabel="log-likelihood (nats); the lowest are all in the first bar", ylabel="density")
    left.legend(loc="upper center")
    order = np.argsort(-added.sum(axis=1))
    rows = added[order[np.linspace(0, (added.sum(axis=1) > 10).sum() - 1, 15).astype(int)]]
    shares = rows / rows.sum(axis=1, keepdims=True)
    shown = right.imshow(shares, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    right.set_xticks(range(len(names)), names, rotation=40, ha="right")
    right.set(ylabel="fifteen tumours, the strangest above", yticks=[])
    figure.colorbar(shown, label="share of the improbability beyond the usual")
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    print(f"\nPicture: {path}")


def main():
    """Run all steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--picture", help="where to write the picture")
    options = parser.parse_args()
    train, held_out, ordinary, strange, names = read_tumours()
    print(f"{len(train)} benign tumours to train on, {len(held_out)} to calibrate with", end="; ")
    print(f"{len(ordinary)} benign and {len(strange)} malignant ones to judge\n")
    detector = compare(train, held_out, ordinary, strange)
    added = reasons(detector, held_out, strange)
    print_reasons(added, detector.predict(strange) == -1, names)
    if options.picture:
        draw_picture(
            options.picture, detector, {"benign": ordinary, "malignant": strange}, added, names
        )


if __name__ == "__main__":
    main()
