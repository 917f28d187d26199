"""Speaker verification: who is speaking, and is it who they say they are?

The classical recipe of Reynolds, Quatieri and Dunn (Speaker verification using adapted Gaussian
mixture models, Digital Signal Processing 10, 2000), on real speech:

1. train a universal background model (UBM) on everybody's speech, here from a dask array;
2. adapt it to each speaker by MAP, which takes well under a minute of speech;
3. score speech not used so far by its log-likelihood ratio per frame, speaker against UBM;
4. save the models, read them back, and get the very same scores.

The speech: 240 telephone prompts in six voices, as frames of 20 cepstral coefficients; half of each
voice's prompts train and the other half test. The voices differ in language or recording too, which
makes them easier to tell apart than strangers on the same line, and two of them, the English and
the Spanish one, are credited to the same speaker (see ``data/LICENSE.txt``). So the figures show
that the recipe works, not how well it does on a standard task.

Run it from anywhere::

    python examples/speaker_verification.py [--models FOLDER]
"""

import argparse
import tempfile
from itertools import chain
from pathlib import Path

import dask.array as da
import h5py
import numpy as np
from sklearn.metrics import det_curve

from gmmkit import GMMMachine

SPEECH = Path(__file__).parent / "data" / "prompts.h5"
FRAMES_PER_SECOND = 100


def read_speech(path):
    """The utterances of each voice: {voice: [(n_frames, 20), ...]}."""
    with h5py.File(path) as file:
        return {
            voice: [utterance[:] for utterance in group.values()] for voice, group in file.items()
        }


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


def adapt(ubm, enrolment):
    """A model of each voice: the UBM, its means moved towards the voice's frames."""
    return {
        voice: GMMMachine(trainer="map", ubm=ubm).fit(np.concatenate(utterances))
        for voice, utterances in enrolment.items()
    }


def log_likelihood_ratios(ubm, speakers, utterances):
    """Every utterance against every speaker, in nats per frame: (n_utterances, n_speakers)."""
    return np.array(
        [
            [speaker.score(utterance) - ubm.score(utterance) for speaker in speakers.values()]
            for utterance in utterances
        ]
    )


def equal_error_rate(is_own, scores):
    """The rate at the threshold where as many true claims are refused as false ones accepted."""
    accepted, refused, _ = det_curve(is_own.ravel(), scores.ravel())
    return np.interp(0, refused - accepted, refused)


def report(voices, truth, scores):
    """Print how well the scores (n_utterances, n_speakers) tell the voices apart."""
    right = scores.argmax(axis=1) == truth
    is_own = truth[:, None] == np.arange(len(voices))
    print("\nVoice        recognised   own score   best other")
    for index, voice in enumerate(voices):
        mine = scores[truth == index]
        others = np.delete(mine, index, axis=1).max(axis=1)
        count = f"{right[truth == index].sum()} of {len(mine)}"
        print(f"{voice:12} {count:>10} {mine[:, index].mean():11.2f} {others.mean():12.2f}")
    print(f"\nIdentification accuracy  {right.mean():6.1%}")
    print(f"Equal error rate         {equal_error_rate(is_own, scores):6.1%}")


def save(folder, ubm, speakers):
    """One HDF5 file a model."""
    ubm.save(folder / "ubm.h5")
    for voice, speaker in speakers.items():
        speaker.save(folder / f"{voice}.h5")


def load(folder, voices):
    """The models that `save` wrote."""
    ubm = GMMMachine.from_hdf5(folder / "ubm.h5")
    return ubm, {voice: GMMMachine.from_hdf5(folder / f"{voice}.h5", ubm=ubm) for voice in voices}


def main(folder):
    """Train, adapt, score; save the models to the folder, and score with what comes back."""
    speech = read_speech(SPEECH)
    enrolment = {voice: utterances[::2] for voice, utterances in speech.items()}
    test = {voice: utterances[1::2] for voice, utterances in speech.items()}
    training, held_out = (list(chain(*half.values())) for half in (enrolment, test))
    truth = np.repeat(np.arange(len(speech)), [len(utterances) for utterances in test.values()])
    for name, part in (("Training", training), ("Held out", held_out)):
        seconds = sum(map(len, part)) / FRAMES_PER_SECOND
        print(f"{name}    {len(part)} utterances, {seconds:.0f} s of speech")

    ubm = train_ubm(training)
    speakers = adapt(ubm, enrolment)
    scores = log_likelihood_ratios(ubm, speakers, held_out)
    report(list(speech), truth, scores)

    save(folder, ubm, speakers)
    again = log_likelihood_ratios(*load(folder, speech), held_out)
    assert np.array_equal(again, scores)
    print(f"\n{1 + len(speakers)} models saved and read back: all {scores.size} scores the same")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", type=Path, metavar="FOLDER", help="keep the models there")
    models = parser.parse_args().models
    if models is None:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
    else:
        models.mkdir(parents=True, exist_ok=True)
        main(models)
