"""Random problems for the laws: data of every kind from any source, and a mixture to begin with.

A recipe is a few words and numbers that make a problem: what Hypothesis draws, shrinks and prints.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import count, pairwise

import dask.array as da
import h5py
import numpy as np
from hypothesis import strategies as st
from reference import FORMULAS, Mixture, Structure, constrain, groups

from gmmkit import Blocks
from gmmkit.model.structures import COVARIANCE_TYPES, make_structure

MOST_SAMPLES, MOST_FEATURES, MOST_GAUSSIANS = 200, 8, 6
STEP = 2.0**-10  # data are multiples of it: exact in float32 as well, and after a shift

# the simplest ones first, where Hypothesis ends when it shrinks
REGULAR = ["clusters", "mixed units"]
FAR = ["offset", "outlier"]
DEGENERATE = ["integers", "few rows", "one row", "constant feature", "collinear"]
KINDS = REGULAR + FAR + DEGENERATE
DTYPES = ["float64", "float32"]
SOURCES = ["array", "Fortran order", "dask", "dask of unknown length", "Blocks", "h5py"]
WEIGHTS = [None, "integers", "reals", "large and small"]

_FILE_NUMBERS = count()

# Every structure of the package's table: what enters it enters the tests. None is left out, since
# one that the textbook does not know cannot be checked.
assert FORMULAS.keys() == set(COVARIANCE_TYPES), "tests/reference.py has a formula for each type"
PLAIN = [Structure(name) for name in COVARIANCE_TYPES]
BLOCKED = [each for each in PLAIN if make_structure(each.covariance_type, 1).blocked]
IN_SCIKIT_LEARN = [
    each for each in PLAIN if make_structure(each.covariance_type, 1).scikit_learn is not None
]


def every_structure(n_features):
    """Each type without blocks, and with blocks of one size and of several.

    Of six features those are, with "full", the groups {0, 1}, {2, 3}, {4, 5} and {0}, {1},
    {2, 3, 4, 5}; with "diag" {0, 2, 4}, {1, 3, 5} and {0, 1}, {2}, {3}, {4}, {5}.
    """
    sizes = [2, (1, 1, n_features - 2)]
    return PLAIN + [each._replace(block_size=size) for each in BLOCKED for size in sizes]


def of_features(structure, n_features):
    """The same structure for so many features: the last of several blocks has the others."""
    if not isinstance(structure.block_size, tuple):
        return structure
    *sizes, _ = structure.block_size
    return structure._replace(block_size=(*sizes, n_features - sum(sizes)))


@dataclass(frozen=True)
class Recipe:
    """What a problem is made of."""

    kind: str
    structure: Structure
    n_samples: int
    n_features: int
    n_gaussians: int
    dtype: str
    source: str
    weights: str | None
    seed: int
    gaps: bool = False  # whether values are missing from what the source gives

    def generator(self, purpose):
        """Random numbers for one purpose, the same whatever the others take."""
        return np.random.default_rng([self.seed, *purpose.encode()])

    @cached_property
    def X(self):
        """The samples, (N, D)."""
        X = MAKERS[self.kind](self.generator("X"), self.n_samples, self.n_features)
        if self.kind == "outlier":
            distance = 1e6 if self.dtype == "float64" else 300.0
            X[self.generator("outlier").integers(len(X))] += distance
        if self.kind == "offset":
            X += 2.0**20 if self.dtype == "float64" else 2.0**12
        return X.astype(self.dtype)

    @cached_property
    def observed_X(self):
        """The samples with NaN for three of ten values, if there are gaps; one row stays whole."""
        if not self.gaps:
            return self.X
        missing = self.generator("gaps").random(self.X.shape) < 0.3
        missing[np.argmax(self.effective_weight)] = False
        return np.where(missing, np.nan, self.X).astype(self.dtype)

    @property
    def missing(self):
        """The setting for such samples."""
        return "marginalize" if self.gaps else None

    @cached_property
    def sample_weight(self):
        """The weights, (N,), or None."""
        rng = self.generator("weights")
        if self.weights is None:
            return None
        if self.weights == "integers":
            weights = rng.integers(0, 4, self.n_samples).astype(float)
            weights[rng.permutation(self.n_samples)[: self.n_gaussians]] += 1  # rows enough
            return weights
        weights = rng.uniform(0.1, 3.0, self.n_samples)
        return weights if self.weights == "reals" else weights * 10 ** rng.uniform(-6, 6)

    @property
    def effective_weight(self):
        """The weights; ones where there are none."""
        return np.ones(self.n_samples) if self.sample_weight is None else self.sample_weight

    @cached_property
    def scale(self):
        """A deviation of each feature without outliers, (D,); 1 where it is constant."""
        X = np.asarray(self.X, float)
        low, high = np.quantile(X, [0.25, 0.75], axis=0)
        scale = np.where(high > low, high - low, X.max(axis=0) - X.min(axis=0))
        return np.where(scale > 0, scale, 1.0)

    @property
    def unit(self):
        """The power of two next to each feature's deviation, (D,): to multiply by it is exact.

        One for all features where their variances are averaged.
        """
        scale = self.scale
        if FORMULAS[self.structure.covariance_type].averaged:
            scale = np.full_like(scale, scale.max())
        return 2.0 ** np.round(np.log2(scale))

    @property
    def centre(self):
        """A middle value of each feature, (D,): to subtract it is exact, or nearly so."""
        return np.sort(np.asarray(self.X, float), axis=0)[self.n_samples // 2]

    @property
    def standard_X(self):
        """The samples about the centre and in units, (N, D): easy for the textbook."""
        return (np.asarray(self.X, float) - self.centre) / self.unit

    def standardised(self, mixture):
        """The mixture of the standard samples."""
        means = (mixture.means - self.centre) / self.unit
        return Mixture(mixture.weights, means, mixture.covariances / self.unit_products)

    def restored(self, mixture):
        """The mixture of the samples, from that of the standard ones."""
        means = mixture.means * self.unit + self.centre
        return Mixture(mixture.weights, means, mixture.covariances * self.unit_products)

    @property
    def unit_products(self):
        """Products of two features' units, (D, D)."""
        return np.outer(self.unit, self.unit)

    @cached_property
    def start(self):
        """A mixture near the data, of the recipe's structure."""
        rng, (K, D) = self.generator("start"), (self.n_gaussians, self.n_features)
        rows = np.asarray(self.X, float)[rng.permutation(self.n_samples)[:K]]
        factors = rng.normal(size=(K, D, 2 * D)) / np.sqrt(2 * D)
        covariances = factors @ factors.transpose(0, 2, 1) + 0.1 * np.eye(D)
        covariances *= np.outer(self.scale, self.scale) * 4 ** rng.uniform(-1, 1, (K, 1, 1))
        steps = np.round(rng.normal(scale=0.3, size=(K, D)) / STEP) * STEP
        return Mixture(
            rng.dirichlet([2] * K),
            rows + steps * self.unit,
            constrain(covariances, np.ones(K), self.structure),
        )

    @property
    def cuts(self):
        """Where the rows are cut into blocks; some may be empty."""
        rng = self.generator("cuts")
        inner = np.sort(rng.integers(0, self.n_samples + 1, rng.integers(0, 5)))
        return np.r_[0, inner, self.n_samples]

    def given(self):
        """The samples as the source gives them, and the weights beside them."""
        return from_source(self.source, self.observed_X, self.sample_weight, self.cuts)


# ---------------------------------------------------------------------------------- kinds of data


def _rounded(X):
    return np.round(X / STEP) * STEP


def _clusters(rng, N, D):
    centres = rng.normal(scale=3, size=(4, D))
    return _rounded(centres[rng.integers(4, size=N)] + rng.normal(size=(N, D)))


def _mixed_units(rng, N, D):
    return _clusters(rng, N, D) * 2.0 ** rng.integers(-10, 11, D)


def _integers(rng, N, D):
    return rng.integers(-2, 3, (N, D)).astype(float)


def _few_rows(rng, N, D):
    return _clusters(rng, 3, D)[rng.integers(3, size=N)]


def _one_row(rng, N, D):
    return np.repeat(_clusters(rng, 1, D), N, axis=0)


def _constant_feature(rng, N, D):
    X = _clusters(rng, N, D)
    X[:, rng.integers(D)] = 0.1  # no binary fraction: the mean of many of them rounds
    return X


def _collinear(rng, N, D):
    return _clusters(rng, N, 1) * rng.integers(1, 4, D)


MAKERS = {
    "clusters": _clusters,
    "mixed units": _mixed_units,
    "offset": _clusters,
    "outlier": _clusters,
    "integers": _integers,
    "few rows": _few_rows,
    "one row": _one_row,
    "constant feature": _constant_feature,
    "collinear": _collinear,
}


# ----------------------------------------------------------------------------------------- sources


def from_source(source, X, sample_weight, cuts):
    """Samples and weights as a source gives them, cut at some rows."""
    lengths = tuple(int(length) for length in np.diff(cuts))
    if source == "Blocks":
        rows = [slice(a, b) for a, b in pairwise(cuts)]
        if sample_weight is None:
            return Blocks([X[part] for part in rows]), None
        return Blocks([(X[part], sample_weight[part]) for part in rows]), None
    if source == "h5py":
        return _dataset(X), sample_weight
    if source == "Fortran order":
        return np.asfortranarray(X), sample_weight
    if source == "array":
        return X, sample_weight
    if source == "dask of unknown length":  # dask itself repeats rows that follow empty chunks here
        lengths = tuple(length for length in lengths if length)
    x = da.from_array(X, chunks=(lengths, -1))
    w = None if sample_weight is None else da.from_array(sample_weight, chunks=(lengths,))
    if source == "dask":
        x = x.rechunk({1: max(1, X.shape[1] // 2)})  # features split, too
        return x, None if w is None else w.rechunk(-1)  # and the weights cut otherwise
    every = da.ones(len(X), chunks=(lengths,), dtype=bool)
    return x[every], None if w is None else w[every]


def _dataset(X):
    """A dataset of a file that is never written."""
    name = f"in memory {next(_FILE_NUMBERS)}"
    file = h5py.File(name, "w", driver="core", backing_store=False)
    return file.create_dataset("X", data=X)


# -------------------------------------------------------------------------------------- strategies


@st.composite
def structures(draw, n_features):
    """A covariance structure for so many features."""
    structure = draw(st.sampled_from(PLAIN + BLOCKED + BLOCKED))
    if structure in BLOCKED and draw(st.booleans()):
        sizes = [size for size in range(1, n_features + 1) if n_features % size == 0]
        structure = structure._replace(block_size=draw(st.sampled_from(sizes)))
    elif structure in BLOCKED and n_features > 1:
        cuts = sorted(draw(st.sets(st.integers(1, n_features - 1), min_size=1)))
        sizes = np.diff([0, *cuts, n_features]).tolist()
        structure = structure._replace(block_size=tuple(sizes))
    return structure


@st.composite
def recipes(
    draw, kinds=KINDS, dtypes=DTYPES, sources=SOURCES, weights=WEIGHTS, samples=1, gaps=False
):
    """Any recipe, of so many samples at least; with `gaps`, some of them have missing values."""
    n_samples = draw(st.integers(samples, MOST_SAMPLES))
    n_features = draw(st.integers(1, MOST_FEATURES))
    return Recipe(
        kind=draw(st.sampled_from(kinds)),
        structure=draw(structures(n_features)),
        n_samples=n_samples,
        n_features=n_features,
        n_gaussians=draw(st.integers(1, min(MOST_GAUSSIANS, n_samples))),
        dtype=draw(st.sampled_from(dtypes)),
        source=draw(st.sampled_from(sources)),
        weights=draw(st.sampled_from(weights)),
        seed=draw(st.integers(0, 2**32 - 1)),
        gaps=gaps and draw(st.booleans()),
    )


# --------------------------------------------------------------------------------------- tolerances


def rounding(recipe, mixture=None):
    """What rounding may cost a log density of the recipe's samples, in nats: at least 1e-10.

    A log density sums terms as large as |P_ij| (|x_i - o_i| + |mu_i - o_i|) (...)_j, with P a
    precision and o the mixture's mean; each rounds to the data type's eps, and random signs make
    of F terms' roundings about sqrt(F) times one's: 16 eps covers all of them up to 8 features.
    """
    mixture = recipe.start if mixture is None else mixture
    X = np.asarray(recipe.X, float)
    origin = mixture.weights @ mixture.means
    size = 0.0
    for mean, covariance in zip(mixture.means, mixture.covariances, strict=True):
        reach = np.abs(X - origin).max(axis=0) + np.abs(mean - origin)
        for group in groups(recipe.structure, recipe.n_features):
            precision = np.linalg.inv(covariance[np.ix_(group, group)])
            size = max(size, float(reach[group] @ np.abs(precision) @ reach[group]))
    eps = np.finfo(recipe.dtype).eps
    return max(1e-10 if recipe.dtype == "float64" else 1e-5, 16 * eps * size)
