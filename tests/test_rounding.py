"""Rounding is an input like any other: no result may hang on the last digit of a product.

Under the fixture `rounding` products round at random, and arrays are cut at random places. Samples,
features and components are put in another order besides. Everything stays as it was, to the
accuracy that docs/mathematics.rst promises.
"""

from typing import NamedTuple

import numpy as np
import pytest
from covering import covering
from material import STRUCTURES, assert_close, machine_at, random_data, random_mixture
from numpy.testing import assert_allclose, assert_array_equal
from recipes import of_features
from reference import Structure, groups, to_matrices
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits

from gmmkit import GMMMachine, KMeansMachine, select
from gmmkit.kernel import estep
from gmmkit.kernel.densities import centroid_distances
from gmmkit.kernel.plan import mixture_densities

pytestmark = [
    pytest.mark.filterwarnings("ignore::gmmkit.FloorWarning"),
    pytest.mark.filterwarnings("ignore:.*did not converge.*"),
    pytest.mark.filterwarnings("ignore:Number of distinct clusters"),
]
K = 4
NATS = {"float32": 1e-3, "float64": 1e-6}  # what rounding may cost a sample; docs/mathematics.rst
EPS = {"float32": 1e-7, "float64": 2e-16}
FEW = 3  # steps more or less

every_structure = pytest.mark.parametrize("structure", STRUCTURES, ids=str)
every_dtype = pytest.mark.parametrize("dtype", NATS)


# ----------------------------------------------------------------------------------------- material


def clusters(n_samples=160, n_features=4, n_clusters=K, seed=0):
    rng = np.random.default_rng(seed)
    centres = 2 * rng.normal(size=(n_clusters, n_features))
    return centres[np.arange(n_samples) % n_clusters] + rng.normal(size=(n_samples, n_features))


def constant_features():
    X = clusters()
    X[:, 1], X[:, 2] = 0.1, 0.0
    return X


def collinear():
    a, b = clusters(n_features=2).T
    return np.column_stack([a, b, a / 3, a + b])


DATA = {
    "clusters": clusters(),
    "digits": load_digits().data[:200],  # some pixels are always 0, others nearly
    "integers": np.round(clusters()),
    "offset": clusters() + 1e5,
    "duplicates": np.repeat(clusters(20), 8, axis=0),
    "constant features": constant_features(),
    "collinear": collinear(),
    "one sample a component": clusters(K),
    "far outlier": np.vstack([clusters(), np.full((1, 4), 1e5)]),
    "few distinct rows": np.repeat(clusters(K - 1), 20, axis=0),
}
every_data = pytest.mark.parametrize("name", DATA)


def start_in(X):
    """Means to start from: rows of X, moved a little where there are more of them than K."""
    rng = np.random.default_rng(1)
    rows = rng.choice(len(X), K, replace=False)
    return X[rows].astype(float) + 0.01 * (len(X) > K) * rng.normal(size=(K, X.shape[1]))


class Order(NamedTuple):
    """Where samples, features and components stand."""

    samples: np.ndarray
    features: np.ndarray
    components: np.ndarray

    @classmethod
    def at_random(cls, X, structure, seed):
        """Features that may correlate stay together."""
        rng, features = np.random.default_rng(seed), np.empty(X.shape[1], int)
        parts = groups(of_features(structure, X.shape[1]), X.shape[1])
        for size in sorted({len(part) for part in parts}):
            alike = [part for part in parts if len(part) == size]
            for part, other in zip(alike, rng.permutation(len(alike)), strict=True):
                features[part] = rng.permutation(alike[other])
        return cls(rng.permutation(len(X)), features, rng.permutation(K))

    def of(self, X):
        return X[self.samples][:, self.features]


class Model(NamedTuple):
    """A fitted mixture in the order of the data as they were, and what it says of them."""

    machine: GMMMachine
    weights: np.ndarray  # (K,)
    means: np.ndarray  # (K, D)
    covariances: np.ndarray  # (K, D, D)
    log_likelihoods: np.ndarray  # (N,)
    labels: np.ndarray  # (N,)


def fitted(X, structure, order=None, start=None, weight=None, **options):
    """The model of X in another order, from a start that is given or found."""
    if order is None:
        order = Order(*(np.arange(n) for n in (*X.shape, K)))
    if start is not None:
        options["means_init"] = start[order.components][:, order.features]
    options = {"covariance_type": structure.covariance_type} | options
    block_size = of_features(structure, X.shape[1]).block_size
    machine = GMMMachine(K, block_size=block_size, n_jobs=1, **options)
    rows = order.of(X)
    machine.fit(rows, sample_weight=None if weight is None else weight[order.samples])
    components, features, samples = (
        np.argsort(x) for x in (order.components, order.features, order.samples)
    )
    matrices = to_matrices(machine.covariances_, structure, K, X.shape[1])
    return Model(
        machine,
        machine.weights_[components],
        machine.means_[components][:, features],
        matrices[components][:, features][:, :, features],
        machine.score_samples(rows)[samples],
        order.components[machine.predict(rows)][samples],
    )


def assert_never_falls(model, dtype):
    """Not beyond rounding of this accuracy, after which gmmkit would warn, too."""
    assert np.diff(model.machine.lower_bounds_).min(initial=0) > -NATS[dtype]


def assert_labels_tie(machine, X, labels, dtype):
    """Each label is the most likely component except for rounding."""
    L = machine.log_weighted_likelihood(X)  # (K, N)
    behind = L.max(axis=0) - L[labels, np.arange(len(X))]
    # what has no density in float32 or 64 has a nearest component all the same
    assert np.nan_to_num(behind, nan=0.0).max() <= 2 * NATS[dtype] + 16 * EPS[dtype] * spread(L)


def spread(L):
    return np.abs(np.where(np.isfinite(L), L, 0)).max()


def assert_same_model(one, other, dtype, nats):
    """The same parameters, in units of each component's deviations, and the same densities."""
    deviations = np.sqrt(np.diagonal(one.covariances, axis1=1, axis2=2))  # (K, D)
    unit = deviations[:, :, None] * deviations[:, None, :]
    scale = 1e3 * NATS[dtype]  # of what rounding has moved in all steps so far
    assert_allclose(one.weights, other.weights, atol=nats)
    assert_allclose((one.means - other.means) / deviations, 0, atol=scale)
    assert_allclose((one.covariances - other.covariances) / unit, 0, atol=scale)
    assert abs(one.log_likelihoods.mean() - other.log_likelihoods.mean()) < nats


# -------------------------------------------------------------------------------- of the fixture


@every_dtype
@pytest.mark.parametrize("form", ["linear", "centred", "tied", "nearest"])
def test_the_fixture_reaches_every_kernel_and_moves_it_by_rounding(form, dtype, rounding):
    structure = Structure("tied" if form == "tied" else "full")
    mixture = random_mixture(structure)
    X = random_data(mixture).astype(dtype)
    densities = mixture_densities(machine_at(mixture, structure).parameters_, X.dtype)
    if form == "centred":
        object.__setattr__(densities, "linear", False)
    if form == "nearest":
        densities = centroid_distances(mixture.means, X.dtype)
    plain, again = (estep.EStep(densities)(X) for _ in range(2))
    assert_array_equal(plain.buffer, again.buffer)
    with rounding.of(0):
        moved = [estep.EStep(densities)(X) for _ in range(2)]
    assert_array_equal(estep.EStep(densities)(X).buffer, plain.buffer)  # the package as it was
    assert not np.array_equal(moved[0].buffer, moved[1].buffer)
    for stats in moved:
        assert (stats.first != plain.first).mean() > 0.5
        assert_close(stats.buffer, plain.buffer, 1e3 * EPS[dtype])


def test_the_fixture_rounds_as_much_as_sums_may(rounding):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 40, 40)).astype("float32")
    exact, terms = a.astype(float) @ b.astype(float), np.abs(a) @ np.abs(b)
    with rounding.of(0):
        share = (rounding.product(np.matmul, a, b) - exact) / terms / np.finfo("f4").eps
    assert 2 < np.abs(share).max() < 5
    assert np.abs(share.mean()) < 0.2
    zeros = rounding.product(np.matmul, a, np.zeros_like(b))
    assert_array_equal(zeros, 0)


# ------------------------------------------------------------------------------------- training


@pytest.mark.slow
@every_data
@every_dtype
@every_structure
def test_training_does_not_hang_on_rounding_often(name, structure, dtype, rounding):
    assert_training_does_not_hang(name, structure, dtype, rounding, range(1, 8))


@covering("structure, dtype, name", STRUCTURES, NATS, DATA)
def test_training_does_not_hang_on_rounding(structure, dtype, name, rounding):
    assert_training_does_not_hang(name, structure, dtype, rounding, [0])


def assert_training_does_not_hang(name, structure, dtype, rounding, seeds):
    X = DATA[name].astype(dtype)
    options = {"start": start_in(X), "convergence_threshold": None, "max_fitting_steps": 12}
    plain = fitted(X, structure, **options)
    assert_never_falls(plain, dtype)
    for seed in seeds:
        order = Order.at_random(X, structure, seed)
        with rounding.of(seed):
            other = fitted(X, structure, order, **options)
        assert_never_falls(other, dtype)
        assert_same_model(plain, other, dtype, NATS[dtype])
        assert_labels_tie(plain.machine, X, other.labels, dtype)
        floor = np.broadcast_to(plain.machine.variance_floor_, X.shape[1])
        assert_allclose(other.machine.variance_floor_, floor[order.features], rtol=1e-9)


@pytest.mark.slow
@every_data
@every_dtype
@every_structure
def test_own_starts_do_not_hang_on_rounding_often(name, structure, dtype, rounding):
    assert_own_start_does_not_hang(name, structure, dtype, rounding, range(1, 5))


@covering("structure, dtype, name", STRUCTURES, NATS, ["duplicates", "far outlier"])
def test_own_starts_do_not_hang_on_rounding(structure, dtype, name, rounding):
    assert_own_start_does_not_hang(name, structure, dtype, rounding, [0])


def assert_own_start_does_not_hang(name, structure, dtype, rounding, seeds):
    X = DATA[name].astype(dtype)
    plain = fitted(X, structure)
    for seed in seeds:
        with rounding.of(seed):
            other = fitted(X, structure)
        assert_never_falls(other, dtype)
        assert abs(other.machine.n_iter_ - plain.machine.n_iter_) <= FEW
        # a step more or less moves the likelihood by the threshold
        nats = FEW * plain.machine.convergence_threshold + NATS[dtype]
        assert abs(other.log_likelihoods.mean() - plain.log_likelihoods.mean()) < nats
        # where there are fewer rows than components, two of these are one, and either may be empty
        if other.machine.n_iter_ == plain.machine.n_iter_ and name != "few distinct rows":
            assert_same_model(plain, other, dtype, NATS[dtype])
            assert_labels_tie(plain.machine, X, other.labels, dtype)


@every_structure
@every_dtype
def test_squarem_does_not_hang_on_rounding(structure, dtype, rounding):
    X = DATA["clusters"].astype(dtype)
    options = {"start": start_in(X), "acceleration": "squarem", "max_fitting_steps": 500}
    plain = fitted(X, structure, convergence_threshold=1e-5, **options)
    with rounding.of(0):
        other = fitted(X, structure, convergence_threshold=1e-5, **options)
    assert_never_falls(other, dtype)
    assert abs(other.log_likelihoods.mean() - plain.log_likelihoods.mean()) < NATS[dtype]


@covering(
    "structure, dtype, name, map_prior",
    STRUCTURES,
    NATS,
    ["clusters", "far outlier"],
    ["reynolds", "gauvain"],
)
def test_adaptation_does_not_hang_on_rounding(map_prior, name, structure, dtype, rounding):
    X = DATA["clusters"].astype(dtype)
    ubm = fitted(X, structure, start=start_in(X), max_fitting_steps=5).machine
    options = {"trainer": "map", "ubm": ubm, "map_prior": map_prior}
    options |= {"update_variances": True, "update_weights": True, "covariance_type": None}
    options |= {"convergence_threshold": None, "max_fitting_steps": 8}
    X = DATA[name].astype(dtype)
    plain = fitted(X, structure, **options)
    order = Order(np.random.default_rng(0).permutation(len(X)), np.arange(4), np.arange(K))
    with rounding.of(0):
        other = fitted(X, structure, order, **options)
    assert_same_model(plain, other, dtype, NATS[dtype])
    assert_labels_tie(plain.machine, X, other.labels, dtype)


@every_structure
@every_dtype
def test_weighted_samples_do_not_hang_on_rounding(structure, dtype, rounding):
    X = DATA["clusters"].astype(dtype)
    weight = np.random.default_rng(0).exponential(size=len(X)) * (np.arange(len(X)) % 5 > 0)
    options = {"start": start_in(X), "weight": weight, "max_fitting_steps": 8}
    options |= {"convergence_threshold": None}
    plain = fitted(X, structure, **options)
    with rounding.of(0):
        other = fitted(X, structure, Order.at_random(X, structure, 0), **options)
    assert_never_falls(other, dtype)
    assert_same_model(plain, other, dtype, NATS[dtype])


@pytest.mark.parametrize("name", ["duplicates", "far outlier"])
@pytest.mark.parametrize("covariance_type", ["diag", "full"])
def test_selection_does_not_hang_on_rounding(covariance_type, name, rounding):
    X = DATA[name].astype("float32")
    plain = select(X, range(2, 5), covariance_type)
    with rounding.of(0):
        other = select(X, range(2, 5), covariance_type)
    assert other.best.n_gaussians == plain.best.n_gaussians
    assert_array_equal(other.table["n_at_floor"], plain.table["n_at_floor"])
    assert_allclose(
        other.table["log_likelihood"], plain.table["log_likelihood"], atol=FEW * 1e-4 + 1e-3
    )


# -------------------------------------------------------------------------------------- k-means


def inertia(X, centroids):
    """The sum of the squared distances, from differences."""
    return cdist(X.astype(float), centroids, "sqeuclidean").min(axis=1).sum()


def assert_nearest(X, centroids, labels):
    """No centroid is nearer than the label's, by more than a distance in float64 can tell."""
    distances = cdist(X.astype(float), centroids)
    own = distances[np.arange(len(X)), labels]
    assert (own - distances.min(axis=1)).max() <= 1e-13 * distances.max()


@every_data
@every_dtype
def test_k_means_from_a_given_start_does_not_hang_on_rounding(name, dtype, rounding):
    X = DATA[name].astype(dtype)
    start = start_in(X)
    options = {"convergence_threshold": None, "max_iter": 8, "n_jobs": 1}
    plain = KMeansMachine(K, init_method=start, **options).fit(X)
    for seed in range(3):
        order = Order.at_random(X, STRUCTURES[0], seed)
        rows, first = order.of(X), start[order.components][:, order.features]
        with rounding.of(seed):
            other = KMeansMachine(K, init_method=first, **options).fit(rows)
            labels = other.predict(rows)
        assert_nearest(rows, other.centroids_, labels)
        assert_array_equal(other.labels_, labels)
        centroids = other.centroids_[np.argsort(order.components)][:, np.argsort(order.features)]
        if name == "few distinct rows":  # which cluster is empty is nobody's business
            assert len(np.unique(np.round(other.centroids_, 6), axis=0)) == K - 1
            continue
        assert_allclose(centroids, plain.centroids_, atol=16 * EPS[dtype] * np.abs(X).max())
        squares = cdist(X, X.mean(axis=0, keepdims=True), "sqeuclidean").sum()
        wanted = inertia(X, plain.centroids_)
        assert abs(other.inertia_ - wanted) <= 16 * EPS[dtype] * squares


@covering("name, init_method, dtype", DATA, ["random", "k-means++", "k-means||", "lbg"], NATS)
def test_k_means_from_its_own_start_does_not_hang_on_rounding(name, init_method, dtype, rounding):
    X = DATA[name].astype(dtype)
    plain = KMeansMachine(K, init_method=init_method, n_jobs=1).fit(X)
    with rounding.of(0):
        other = KMeansMachine(K, init_method=init_method, n_jobs=1).fit(X)
    assert abs(other.n_iter_ - plain.n_iter_) <= FEW
    wanted, got = inertia(X, plain.centroids_), inertia(X, other.centroids_)
    assert abs(got - wanted) <= 1e-4 * wanted + 1e-10 * np.square(X, dtype=float).sum()
