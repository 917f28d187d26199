"""Voice conversion: the frames of one voice, changed into those that another voice would have.

The classical recipe of Kain and Macon (Spectral voice conversion for text-to-speech synthesis,
ICASSP 1998) and Toda, Black and Tokuda (IEEE Transactions on Audio, Speech, and Language
Processing 15, 2007), frame by frame:

1. align the frames of prompts that both voices have recorded, by dynamic time warping;
2. train a mixture of pairs [x, y] of aligned frames, in which the i-th coefficients of the two
   voices correlate (``block_size``);
3. convert frames of prompts not used so far by the conditional mixture of y given x.

The speech: telephone prompts, as frames of 20 mel-frequency cepstral coefficients, of voices that
share some prompts by name (see ``data/LICENSE.txt``). Two pairs of voices are converted. The
Italian voices say the same words, but share three prompts only, a second each. The French and the
Russian voice share sixteen, but their words differ. Warping then pairs the frames that sound most
alike in about the same order, and what is learned is the colour of the voice and of its recording.

The distortion is the mean over frames of ``10 / ln(10) sqrt(2 sum of (c - c')^2)``, along the best
path of each version against the target. It is in the units of these coefficients, so compare the
figures with each other, not with those of other features.

Run it from anywhere::

    python examples/voice_conversion.py [--picture FILE]
"""

import argparse
from pathlib import Path

import h5py
import numpy as np

from gmmkit import GMMMachine, GMMRegressor

VOICES = ("it-core", "it-paola"), ("fr-june", "ru-maxim")  # source and target
SPEECH = Path(__file__).parent / "data" / "prompts.h5"
FOLDS = 4
BAND = 0.15  # share of a prompt by which its two recordings may be apart
FRAMES_EACH = 60  # for a component of the mixture


def read_shared(path, source, target):
    """The prompts that two voices share: names, and the frames (n_frames, 20) of each voice."""
    with h5py.File(path) as file:
        names = sorted(set(file[source]) & set(file[target]))
        return names, *([file[voice][name][:] for name in names] for voice in (source, target))


def warp(x, y):
    """The rows of x and of y that dynamic time warping pairs, two arrays of numbers."""
    costs = np.linalg.norm(x[:, None] - y[None], axis=-1)
    lag = np.linspace(0, 1, len(x))[:, None] - np.linspace(0, 1, len(y))
    costs[np.abs(lag) > BAND] = np.inf  # the two may not drift apart (Sakoe and Chiba, 1978)
    total = np.full((len(x) + 1, len(y) + 1), np.inf)
    total[0, 0] = 0
    for i, row in enumerate(costs):
        ways = np.minimum(total[i, :-1], total[i, 1:])
        for j, cost in enumerate(row):
            total[i + 1, j + 1] = cost + min(ways[j], total[i + 1, j])
    path = [(len(x), len(y))]
    while path[-1] != (1, 1):
        i, j = path[-1]
        steps = [(i - 1, j - 1), (i - 1, j), (i, j - 1)]
        path.append(min(steps, key=lambda step: total[step]))
    return np.array(path[::-1]).T - 1


def standardised(utterances):
    """Frames in units of the voice's own mean and deviation, in which voices can be compared."""
    frames = np.concatenate(utterances)
    return [(each - frames.mean(axis=0)) / frames.std(axis=0) for each in utterances]


def pairs(sources, targets, paths):
    """Aligned frames of several prompts, x and y, without the steps that repeat a frame."""
    steps = [path[:, np.diff(path, prepend=-1).all(axis=0)] for path in paths]
    x = np.concatenate([each[i] for each, (i, _) in zip(sources, steps, strict=True)])
    y = np.concatenate([each[j] for each, (_, j) in zip(targets, steps, strict=True)])
    return x, y


def distortions(converted, target):
    """The distortion of each pair of frames along the best path."""
    i, j = warp(converted, target)
    squares = ((converted[i] - target[j]) ** 2).sum(axis=1)
    return 10 / np.log(10) * np.sqrt(2 * squares)


def converters(x, y):
    """Ways to convert frames, learned from aligned frames, and the mixture."""
    n_gaussians, n_features = 1 + len(x) // FRAMES_EACH, x.shape[1]
    line = GMMRegressor().fit(x, y)
    lines = GMMRegressor(GMMMachine(1, block_size=n_features)).fit(x, y)
    mixture = GMMRegressor(GMMMachine(n_gaussians, block_size=n_features)).fit(x, y)
    scale = y.std(axis=0) / x.std(axis=0)
    return {
        "not converted": lambda frames: frames,
        "mean and deviation": lambda frames: (frames - x.mean(axis=0)) * scale + y.mean(axis=0),
        "linear, all coefficients": line.predict,
        "linear, each by itself": lines.predict,
        "mixture, most likely": lambda frames: mixture.convert(frames)[0],
        "mixture, mean": mixture.predict,
    }, mixture


def cross_validate(names, sources, targets):
    """Distortions of held-out prompts, by converter, and the last fold's mixture and prompts."""
    paths = [warp(x, y) for x, y in zip(standardised(sources), standardised(targets), strict=True)]
    found, numbers, folds = {}, np.arange(len(names)), min(FOLDS, len(names))
    for fold in range(folds):
        train, held_out = numbers[numbers % folds != fold], numbers[numbers % folds == fold]
        parts = ([each[k] for k in train] for each in (sources, targets, paths))
        ways, mixture = converters(*pairs(*parts))
        for k in held_out:
            for way, convert in ways.items():
                found.setdefault(way, []).append(distortions(convert(sources[k]), targets[k]))
    figures = {way: np.concatenate(parts).mean() for way, parts in found.items()}
    return figures, mixture, held_out


def report(figures):
    """Print the distortions, and by how much they are lower than without conversion."""
    print("   held-out prompts            distortion  change")
    for way, distortion in figures.items():
        change = distortion / figures["not converted"] - 1
        print(f"   {way:26} {distortion:11.1f} {change:7.1%}")


def draw(path, figures, mixture, source, target, name):
    """A held-out prompt before and after, and the distortions."""
    from matplotlib.figure import Figure

    converted, deviation = mixture.predict(source, return_std=True)
    i, j = warp(converted, target)
    figure = Figure(figsize=(10, 7), layout="constrained")
    top, middle, bottom = figure.subplots(3, height_ratios=[2, 2, 1.2])
    time = np.arange(len(i)) / 100
    for axes, coefficient in ((top, 0), (middle, 1)):
        axes.plot(time, source[i, coefficient], color="tab:gray", label="source", lw=1)
        axes.plot(time, target[j, coefficient], color="tab:green", label="target", lw=1.2)
        line, spread = converted[i, coefficient], deviation[i, coefficient]
        axes.plot(time, line, color="tab:blue", label="converted", lw=1.5)
        axes.fill_between(time, line - spread, line + spread, alpha=0.2, label="its deviation")
        axes.set_ylabel(f"coefficient {coefficient + 1}")
    top.set_title(f"the held-out prompt {name}, aligned")
    figure.legend(*top.get_legend_handles_labels(), ncols=4, loc="outside upper right")
    middle.set_xlabel("time along the path, s")
    ways = list(figures)[::-1]
    bottom.barh(ways, [figures[way] for way in ways], color="tab:blue")
    bottom.set_xlabel("distortion of held-out prompts")
    figure.savefig(path, dpi=110)
    print(f"   picture in {path}")


def main(picture):
    """Convert voices into others, and say how far that goes."""
    for source, target in VOICES:
        names, sources, targets = read_shared(SPEECH, source, target)
        seconds = [sum(map(len, utterances)) / 100 for utterances in (sources, targets)]
        print(
            f"{source} -> {target}: {len(names)} prompts, {seconds[0]:.0f} and {seconds[1]:.0f} s"
        )
        figures, mixture, held_out = cross_validate(names, sources, targets)
        report(figures)
        if picture is not None and (source, target) == VOICES[0]:
            k = max(held_out, key=lambda number: len(sources[number]))
            draw(picture, figures, mixture, sources[k], targets[k], names[k])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw it, with matplotlib")
    main(parser.parse_args().picture)
