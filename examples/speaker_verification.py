"""Speaker verification: who is speaking, and is it who they say they are?

The classical recipe of Reynolds, Quatieri and Dunn (Speaker verification using adapted Gaussian
mixture models, Digital Signal Processing 10, 2000), and what was built on it, on real speech:

1. train a universal background model (UBM) on everybody's speech, here from a dask array;
2. adapt it to each speaker by MAP, which takes well under a minute of speech;
3. score utterances not used so far by their log-likelihood ratio per frame, speaker against UBM;
4. normalise these scores by a cohort (Z-norm, S-norm), or score in other ways: by linear scoring,
   and by support vector machines on supervectors and on Fisher vectors;
5. measure how well each way identifies speakers and verifies claims;
6. save the models, read them back, and get the very same scores.

The speech: 240 telephone prompts in six voices, as frames of 20 cepstral coefficients; half of each
voice's prompts train and the other half test. The voices differ in language or recording too, which
makes them easier to tell apart than strangers on the same line, and two of them, the English and
the Spanish one, are credited to the same speaker (see ``data/LICENSE.txt``). So the figures show
that the recipes work, not how well they do on a standard task. The support vector machines are
trained to tell these very voices apart; the models of the speakers know nothing of each other.

Run it from anywhere::

    python examples/speaker_verification.py [--models FOLDER] [--picture FILE]

The picture shows the errors at all thresholds, and needs matplotlib.
"""

import argparse
import tempfile
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import dask.array as da
import h5py
import numpy as np
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from gmmkit import (
    FisherVectorEncoder,
    GMMMachine,
    SupervectorEncoder,
    linear_scoring,
    log_likelihood_ratio,
)
from gmmkit.scoring import s_norm, verification_metrics, z_norm

SPEECH = Path(__file__).parent / "data" / "prompts.h5"
FRAMES_PER_SECOND = 100
PRIOR = 0.05  # of a true claim, where the detection cost is measured


def read_speech(path):
    """The utterances of each voice: {voice: [(n_frames, 20), ...]}."""
    with h5py.File(path) as file:
        return {
            voice: [utterance[:] for utterance in group.values()] for voice, group in file.items()
        }


def numbered(utterances_of):
    """All utterances in one list, and the number of each one's voice."""
    counts = [len(utterances) for utterances in utterances_of.values()]
    return list(chain(*utterances_of.values())), np.repeat(np.arange(len(counts)), counts)


def train_ubm(utterances):
    """A mixture of 64 Gaussians for the frames of all voices together.

    Each chunk of the dask array is a task of its own, here on dask's threads; on a cluster the same
    lines run where the data are.
    """
    frames = da.from_array(np.concatenate(utterances), chunks=(5_000, -1))
    ubm = GMMMachine(64).fit(frames)
    print(f"UBM         {ubm.n_iter_} steps over {frames.numblocks[0]} dask chunks", end=", ")
    print(f"log-likelihood {ubm.lower_bound_:.2f} per frame")
    return ubm


def adapt(ubm, frames):
    """The UBM with its means moved towards the frames."""
    return GMMMachine(trainer="map", ubm=ubm).fit(frames)


# Ways to score each held-out utterance for each voice: matrices (n_voices, n_utterances).


def normalised(ubm, speakers, cohort, cohort_voices, held_out, truth):
    """The log-likelihood ratios, and the same after Z-norm and S-norm.

    The cohort are the training utterances, and a model of each. A trial must not meet its own
    voices there, so each pair of voices has the cohort of all others.
    """
    cohort_models = [adapt(ubm, utterance) for utterance in cohort]
    ratios, model_cohort = (
        log_likelihood_ratio(speakers, ubm, utterances) for utterances in (held_out, cohort)
    )
    sequence_cohort = log_likelihood_ratio(cohort_models, ubm, held_out)
    by_z_norm, by_s_norm = np.empty_like(ratios), np.empty_like(ratios)
    for model in range(len(speakers)):
        for voice in np.unique(truth):
            others = ~np.isin(cohort_voices, [model, voice])
            trials = np.ix_([model], truth == voice)
            of_model = model_cohort[np.ix_([model], others)]
            of_utterances = sequence_cohort[np.ix_(others, truth == voice)]
            by_z_norm[trials] = z_norm(ratios[trials], of_model)
            by_s_norm[trials] = s_norm(ratios[trials], of_model, of_utterances)
    return ratios, by_z_norm, by_s_norm


def margins(encoder, training, voices, held_out):
    """A support vector machine for each voice, against the others, on encoded utterances."""
    centre = StandardScaler(with_std=False)
    machine = make_pipeline(encoder, centre, LinearSVC(random_state=0)).fit(training, voices)
    return machine.decision_function(held_out).T


def all_scores(ubm, speakers, training, voices, held_out, truth):
    """The scores of each method: {method: (n_voices, n_utterances)}."""
    ratios, by_z_norm, by_s_norm = normalised(ubm, speakers, training, voices, held_out, truth)
    stats = ubm.stats_per_sample(held_out)
    return {
        "Likelihood ratio": ratios,
        "Likelihood ratio, Z-norm": by_z_norm,
        "Likelihood ratio, S-norm": by_s_norm,
        "Linear scoring": linear_scoring(speakers, ubm, stats, frame_length_normalization=True),
        "SVM, supervectors": margins(SupervectorEncoder(ubm), training, voices, held_out),
        "SVM, Fisher vectors": margins(FisherVectorEncoder(ubm), training, voices, held_out),
    }


# What the scores are worth.


def calibrated(scores, is_own):
    """Scores as log-likelihood ratios, by logistic regressions trained on other utterances."""
    regression = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    utterances = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    ratios = cross_val_predict(
        regression,
        scores.reshape(-1, 1),
        is_own.ravel(),
        groups=utterances.ravel(),
        cv=GroupKFold(5),
        method="decision_function",
    )
    return ratios.reshape(scores.shape)


def report_voices(names, truth, scores):
    """Print how well the scores tell the voices apart."""
    right = scores.argmax(axis=0) == truth
    print("\nVoice        recognised   own score   best other")
    for index, name in enumerate(names):
        mine = scores[:, truth == index]
        others = np.delete(mine, index, axis=0).max(axis=0)
        count = f"{right[truth == index].sum()} of {mine.shape[1]}"
        print(f"{name:12} {count:>10} {mine[index].mean():11.2f} {others.mean():12.2f}")


def report_methods(is_own, scores_of):
    """Print how well each method identifies voices and verifies claims."""
    print("\nMethod                     accuracy     EER   minDCF     Cllr")
    for method, scores in scores_of.items():
        accuracy = is_own[scores.argmax(axis=0), np.arange(scores.shape[1])].mean()
        metrics = verification_metrics(scores[is_own], scores[~is_own], prior=PRIOR)
        ratios = calibrated(scores, is_own)
        cllr = verification_metrics(ratios[is_own], ratios[~is_own]).cllr
        errors = f"{metrics.eer:7.1%} {metrics.min_dcf:8.2f} {cllr:8.2f}"
        print(f"{method:26} {accuracy:8.1%} {errors}")


def draw(path, is_own, scores_of):
    """Draw the errors of each method at all thresholds, on the axes of a normal distribution."""
    from matplotlib.figure import Figure

    from gmmkit.plot import ScoreDisplay

    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.add_subplot()
    for method, scores in scores_of.items():
        trials = scores[is_own], scores[~is_own]
        ScoreDisplay.from_scores(*trials, kind="det", name=method, ax=axes)
    limits = norm.ppf([0.0015, 0.5])
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    figure.savefig(path)
    print(f"\nDET curves drawn: {path}")


def save(folder, ubm, speakers):
    """One HDF5 file a model."""
    ubm.save(folder / "ubm.h5")
    for voice, speaker in speakers.items():
        speaker.save(folder / f"{voice}.h5")


def load(folder, voices):
    """The models that `save` wrote."""
    ubm = GMMMachine.from_hdf5(folder / "ubm.h5")
    return ubm, {voice: GMMMachine.from_hdf5(folder / f"{voice}.h5", ubm=ubm) for voice in voices}


def main(folder, picture=None):
    """Train, adapt, score; save the models to the folder, and score with what comes back."""
    speech = read_speech(SPEECH)
    enrolment = {voice: utterances[::2] for voice, utterances in speech.items()}
    training, voices = numbered(enrolment)
    held_out, truth = numbered({voice: utterances[1::2] for voice, utterances in speech.items()})
    for name, part in (("Training", training), ("Held out", held_out)):
        seconds = sum(map(len, part)) / FRAMES_PER_SECOND
        print(f"{name}    {len(part)} utterances, {seconds:.0f} s of speech")

    ubm = train_ubm(training)
    speakers = {voice: adapt(ubm, np.concatenate(mine)) for voice, mine in enrolment.items()}
    models = list(speakers.values())
    scores_of = all_scores(ubm, models, training, voices, held_out, truth)
    is_own = np.arange(len(speech))[:, None] == truth
    ratios = scores_of["Likelihood ratio"]
    report_voices(speech, truth, ratios)
    report_methods(is_own, scores_of)
    if picture is not None:
        draw(picture, is_own, scores_of)

    save(folder, ubm, speakers)
    ubm, speakers = load(folder, speech)
    again = log_likelihood_ratio(list(speakers.values()), ubm, held_out)
    assert np.array_equal(again, ratios)
    print(f"\n{1 + len(speakers)} models saved and read back: all {ratios.size} scores the same")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", type=Path, metavar="FOLDER", help="keep the models there")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the DET curves there")
    options = parser.parse_args()
    if options.picture is not None and find_spec("matplotlib") is None:
        parser.error("--picture needs matplotlib")
    with tempfile.TemporaryDirectory() as temporary:
        models = Path(temporary) if options.models is None else options.models
        models.mkdir(parents=True, exist_ok=True)
        main(models, options.picture)
