"""Languages: which one is spoken, or rather, whose voice is it?

A classifier with a Gaussian mixture for each class takes whole utterances. Three lessons:

1. The log-likelihood of an utterance is a sum over its frames, as if these were independent. But
   neighbouring frames are alike, so the probabilities are far too sure of themselves. A
   ``temperature``, about the number of frames that say the same, makes them honest.
2. Utterances of the voices that were heard in training are recognised.
3. An Italian voice that was not heard in training is taken for Italian hardly more often than by
   chance, which is one time in five. With one voice or two for a language, the mixtures learn
   voices. Held-out utterances of the same voices do not show that; a held-out voice does.

The speech: 240 telephone prompts in six voices and five languages, as frames of 20 cepstral
coefficients (see ``data/LICENSE.txt``). Run it from anywhere::

    python examples/languages.py
"""

from pathlib import Path

import h5py
import numpy as np

from gmmkit import GMMClassifier

SPEECH = Path(__file__).parent / "data" / "prompts.h5"
TEMPERATURES = 1, 5, 20, 80


def read_speech(path):
    """All utterances, in the file's order, with the name of each one's voice."""
    with h5py.File(path) as file:
        utterances = [utterance[:] for group in file.values() for utterance in group.values()]
        voices = [voice for voice, group in file.items() for _ in group]
    return utterances, np.array(voices)


def chosen(utterances, which):
    """The utterances at which a mask is true."""
    return [utterance for utterance, take in zip(utterances, which, strict=True) if take]


def held_out_utterances(utterances, languages):
    """Train on every second utterance, and print how well the others are recognised."""
    train = np.arange(len(utterances)) % 2 == 0
    training, test = chosen(utterances, train), chosen(utterances, ~train)
    print("Temperature   accuracy   log loss in nats")
    for temperature in TEMPERATURES:
        classifier = GMMClassifier(8, temperature=temperature)
        classifier.fit(training, languages[train])
        right = languages[~train, None] == classifier.classes_
        loss = -classifier.predict_log_proba(test)[right].mean()
        accuracy = classifier.score(test, languages[~train])
        print(f"{temperature:11} {accuracy:10.1%} {loss:10.2f}")


def held_out_voices(utterances, voices, languages):
    """Leave out each Italian voice, and print for which language it is then taken."""
    print("\nVoice left out   taken for")
    for voice in np.unique(voices[languages == "it"]):
        train = voices != voice
        classifier = GMMClassifier(8, priors="uniform")
        classifier.fit(chosen(utterances, train), languages[train])
        taken_for = classifier.predict(chosen(utterances, ~train))
        counts = (f"{(taken_for == each).sum():2} {each}" for each in classifier.classes_)
        print(f"{voice:16} {', '.join(counts)}")


if __name__ == "__main__":
    speech, speakers = read_speech(SPEECH)
    spoken = np.array([voice[:2] for voice in speakers])
    held_out_utterances(speech, spoken)
    held_out_voices(speech, speakers, spoken)
