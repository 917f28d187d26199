"""An image segmented into colours, and images compared by their colours.

A pixel is a sample of three features: red, green and blue. A mixture of all pixels describes the
colours of an image.

1. Train a mixture of 32 Gaussians on a photograph. Each pixel is painted in the mean colour of its
   most likely component.
2. Merge the components down to 12, two at a time. Merging keeps the moments of the two (Runnalls,
   2007). A few more steps of EM follow.
3. Segment by a few strokes, as in a drawing program: some pixels have a label (sky, water, roofs,
   walls, trees), the others have none. The labels make a mixture without any training, and the
   mixture segments the whole photograph.
4. Compare both halves of two photographs by their colours. Goldberger, Gordon and Greenspan (2003)
   search for images like this: the nearest to a half is the other half of the same photograph.

The photographs are scikit-learn's, by danielbuechele and vultilion (CC BY 2.0). Reading them needs
Pillow. The picture that is written shows the photograph and the segments of the first three steps.

Run it from anywhere::

    python examples/colours.py [--picture FILE]
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_sample_image

from gmmkit import GMMMachine, GMMStats
from gmmkit.distances import jensen_shannon, wasserstein

try:
    from PIL import Image
except ImportError:
    sys.exit(
        "This example reads and writes pictures, for which it needs Pillow: pip install pillow"
    )

N_COLOURS, N_FEWER = 32, 12
SETTINGS = {"covariance_type": "full", "convergence_threshold": 1e-3}
STROKES = {  # rectangles of the photograph: first row, last row, first column, last column
    "sky": [(10, 40, 20, 180), (60, 120, 400, 600), (150, 190, 350, 540)],
    "water": [(250, 290, 370, 520)],
    "roofs": [(255, 275, 180, 290), (90, 110, 150, 260)],
    "walls": [(200, 230, 110, 300)],
    "trees": [(350, 420, 20, 200), (300, 420, 380, 620)],
}


def pixels(image):
    """The colours of an image, (N, 3), from 0 to 1."""
    return image.reshape(-1, 3).astype(np.float32) / 255


def painted(machine, image):
    """The image with the mean colour of each pixel's most likely component."""
    colours = np.uint8(np.round(255 * machine.means_))
    return colours[machine.predict(pixels(image))].reshape(image.shape)


def report(name, machine, image):
    """Print how well a mixture describes the colours."""
    difference = np.sqrt(np.mean((painted(machine, image).astype(float) - image) ** 2))
    likelihood = machine.score(pixels(image))
    print(f"{name:24}  log-likelihood {likelihood:.2f} per pixel, painted within {difference:.1f}")


def train(image):
    """Mixtures of many colours, of these merged into fewer, and of as few trained at once."""
    many = GMMMachine(N_COLOURS, **SETTINGS).fit(pixels(image))
    fewer = many.merge(N_FEWER)
    report(f"{N_COLOURS} colours", many, image)
    report(f"merged into {N_FEWER}", fewer, image)
    fewer.fit(pixels(image))
    report("  and trained", fewer, image)
    report(f"{N_FEWER} colours at once", GMMMachine(N_FEWER, **SETTINGS).fit(pixels(image)), image)
    return many, fewer


def segment_by_strokes(image):
    """A mixture with a component for each kind of stroke, from the labels of its pixels."""
    labels = np.full(image.shape[:2], -1)  # no label
    for label, rectangles in enumerate(STROKES.values()):
        for top, bottom, left, right in rectangles:
            labels[top:bottom, left:right] = label
    stats = GMMStats.from_responsibilities(pixels(image), labels.ravel(), covariance_type="full")
    machine = GMMMachine(len(STROKES), covariance_type="full").m_step(stats)
    segments = machine.predict(pixels(image)).reshape(labels.shape)
    correct = np.mean((segments == labels)[labels >= 0])
    shares = np.bincount(segments.ravel(), minlength=len(STROKES)) / segments.size
    print(
        f"\nStrokes mark {np.mean(labels >= 0):.0%} of the pixels; {correct:.0%} of these", end=" "
    )
    print("are found in their segment. Shares of the segments:")
    print(", ".join(f"{name} {share:.0%}" for name, share in zip(STROKES, shares, strict=True)))
    return machine


def compare(images):
    """Distances between the halves of images, by the mixtures of their colours."""
    halves = {}
    for name, image in images.items():
        middle = image.shape[1] // 2
        for side, half in (("left", image[:, :middle]), ("right", image[:, middle:])):
            halves[f"{name}, {side}"] = GMMMachine(8, **SETTINGS).fit(pixels(half))
    print("\nWasserstein distance (0 to 442) and Jensen-Shannon divergence (0 to 0.693 nats)")
    for name, machine in halves.items():
        print(f"{name:14}", end="")
        for other in halves.values():
            distance = 255 * wasserstein(machine, other)
            divergence = jensen_shannon(machine, other, n_samples=20_000).value
            print(f"  {distance:6.1f} {divergence:5.3f}", end="")
        print()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--picture", type=Path, help="where to write the picture, e.g. colours.png")
    picture = parser.parse_args().picture
    china, flower = load_sample_image("china.jpg"), load_sample_image("flower.jpg")
    many, fewer = train(china)
    strokes = segment_by_strokes(china)
    compare({"china": china, "flower": flower})
    panels = [china, *(painted(machine, china) for machine in (many, fewer, strokes))]
    if picture is None:
        picture = Path(tempfile.mkdtemp()) / "colours.png"
    rows = [np.hstack(panels[:2]), np.hstack(panels[2:])]
    Image.fromarray(np.vstack(rows)).save(picture)
    print(f"\nThe photograph and its segments: {picture}")


if __name__ == "__main__":
    main()
