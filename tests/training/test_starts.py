"""Where training starts: models grown, k-means of several kinds, attempts that fail."""

import logging

import dask.array as da
import numpy as np
import pytest
from material import (
    STRUCTURES,
    D,
    K,
    assert_same_mixture,
    every_structure,
    learned,
    machine,
    machine_at,
    problem,
    random_data,
    random_mixture,
)
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, clone
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.datasets import load_digits

from gmmkit import Blocks, GMMMachine, KMeansMachine

STEP = 0.5  # deviations between a component and its halves
K_STRUCTURE = STRUCTURES[0]


def overall(mixture):
    """Mean and covariance of a mixture."""
    mean = mixture.weights @ mixture.means
    offsets = mixture.means - mean
    within = np.einsum("k,kij->ij", mixture.weights, mixture.covariances)
    return mean, within + np.einsum("k,ki,kj->ij", mixture.weights, offsets, offsets)


# ----------------------------------------------------------------------------------------- growing


@every_structure
@pytest.mark.parametrize("n_gaussians", [K, K + 1, 2 * K, 11])
def test_growing_keeps_the_overall_mean_and_nearly_the_covariance(structure, n_gaussians):
    mixture = random_mixture(structure)
    grown = learned(machine_at(mixture, structure).grow(n_gaussians), structure)
    assert grown.weights.shape == (n_gaussians,)
    assert grown.weights.sum() == pytest.approx(1, abs=1e-15)
    (mean, covariance), (old_mean, old_covariance) = overall(grown), overall(mixture)
    assert_allclose(mean, old_mean, atol=1e-14 * np.abs(mixture.means).max())
    # a component that is split r times gains at most r STEP^2 of its own covariance
    splits = np.ceil(np.log2(n_gaussians))
    bound = splits * STEP**2 * np.linalg.eigvalsh(old_covariance).max()
    assert np.linalg.eigvalsh(covariance - old_covariance).max() < bound
    assert np.linalg.eigvalsh(covariance - old_covariance).min() > -1e-12


@every_structure
def test_halves_lie_half_a_deviation_to_either_side(structure):
    mixture = random_mixture(structure)
    grown = learned(machine_at(mixture, structure).grow(K + 1), structure)
    heaviest = mixture.weights.argmax()
    assert_allclose(grown.weights[[heaviest, K]], mixture.weights[heaviest] / 2)
    others = np.arange(K) != heaviest
    assert_array_equal(grown.weights[:K][others], mixture.weights[others])
    assert_array_equal(grown.means[:K][others], mixture.means[others])
    assert_allclose(grown.means[[heaviest, K]].mean(axis=0), mixture.means[heaviest])
    offset = grown.means[heaviest] - mixture.means[heaviest]
    covariance = mixture.covariances[heaviest]
    assert offset @ np.linalg.solve(covariance, offset) == pytest.approx(STEP**2)
    assert_allclose(grown.covariances[[heaviest, K]], [covariance] * 2, rtol=1e-12)


@every_structure
def test_density_of_a_grown_model_is_near_the_one_it_grew_from(structure):
    mixture = random_mixture(structure)
    X = random_data(mixture, 2000)
    small = machine_at(mixture, structure)
    gap = small.score(X) - small.grow(2 * K).score(X)
    # of one Gaussian and its halves at a distance d it is d^4 / 4 to first order
    assert -0.01 < gap < STEP**4 / 4 + 0.01


def test_heaviest_components_are_split_first():
    small = GMMMachine(3)
    small.means, small.weights = np.array([[0.0], [10.0], [20.0]]), [0.6, 0.1, 0.3]
    grown = small.grow(6)
    # 0.6 -> 0.3 + 0.3, then of those that are as heavy the first, twice: 0.3 -> 0.15 + 0.15
    assert_allclose(np.sort(grown.weights_), [0.1, 0.15, 0.15, 0.15, 0.15, 0.3], rtol=1e-12)
    assert_array_equal(np.sort(np.round(grown.means_.ravel(), -1)), [0, 0, 0, 10, 20, 20])


def test_growing_to_as_many_is_the_same_model():
    X, start = problem(K_STRUCTURE)
    small = machine(start, K_STRUCTURE, steps=3).fit(X)
    assert small.grow(K) == small


@every_structure
def test_training_a_grown_model_raises_the_likelihood(structure):
    X = random_data(random_mixture(structure, n_gaussians=8), 1500)
    small = GMMMachine(2, covariance_type=structure.covariance_type)
    small.set_params(block_size=structure.block_size, max_fitting_steps=500).fit(X)
    grown = small.grow(4)
    before, start = small.score(X), grown.score(X)
    assert before - start < 0.1
    grown.fit(X)
    assert grown.lower_bounds_[0] == pytest.approx(start, rel=1e-12)
    assert np.diff(grown.lower_bounds_).min() > -1e-9
    assert grown.score(X) > before + 0.01


def test_training_goes_on_where_halves_must_move_far():
    # halves that lie close together move so slowly at first that training would look converged
    X = np.repeat([[0.0], [20.0]], 200, axis=0) + np.random.default_rng(0).normal(size=(400, 1))
    grown = GMMMachine(1).fit(X).grow(2).fit(X)
    assert_allclose(np.sort(grown.means_.ravel()), [0, 20], atol=0.2)


@every_structure
def test_seed_alone_decides_directions(structure):
    mixture = random_mixture(structure)
    one, same, other = (
        machine_at(mixture, structure, random_state=seed).grow(2 * K) for seed in (1, 1, 2)
    )
    assert_array_equal(one.means_, same.means_)
    assert not np.array_equal(one.means_, other.means_)


@every_structure
def test_clone_of_a_grown_machine_keeps_its_start(structure):
    X, start = problem(structure)
    grown = machine_at(start, structure, random_state=1).grow(5)
    twin = clone(grown).set_params(max_fitting_steps=2)
    assert not hasattr(twin, "means_")
    at_start = learned(twin.initialize_gaussians(X), structure)
    assert_same_mixture(at_start, learned(grown, structure), rtol=1e-14)
    assert_same_mixture(
        learned(twin.fit(X), structure),
        learned(grown.set_params(max_fitting_steps=2).fit(X), structure),
        rtol=0,
    )


def test_settings_of_a_grown_machine_are_those_of_the_small_one():
    X, start = problem(K_STRUCTURE)
    small = machine(start, K_STRUCTURE, weight_floor=0.01, random_state=4).fit(X)
    before = small.get_params()
    grown = small.grow(5)
    changed = ("n_gaussians", "weights_init", "means_init", "covariances_init")
    for name, value in grown.get_params().items():
        assert name in changed or value == before[name], name
    assert small.shape == (K, D)
    assert all(small.get_params()[name] is before[name] for name in before)


@pytest.mark.filterwarnings("ignore::gmmkit.FloorWarning")
def test_floors_of_components_go_to_their_halves():
    X, start = problem(K_STRUCTURE)
    floors = np.arange(1.0, K * D + 1).reshape(K, D)
    grown = machine_at(start, K_STRUCTURE, variance_thresholds=floors).grow(6)
    nearest = np.linalg.norm(grown.means_[:, None] - start.means, axis=2).argmin(axis=1)
    assert_array_equal(grown.variance_thresholds, floors[nearest])
    grown.set_params(max_fitting_steps=1).fit(X)
    assert np.all(grown.covariances_ >= grown.variance_thresholds)


@pytest.mark.parametrize(
    "n_gaussians, error, said",
    [
        *((number, ValueError, f"at least {K}, got {number}") for number in (K - 1, 0, -1)),
        *((value, TypeError, f"whole number, got {value!r}") for value in (2.5, "4", None)),
    ],
)
def test_fewer_components_are_refused(n_gaussians, error, said):
    small = machine_at(random_mixture(K_STRUCTURE), K_STRUCTURE)
    with pytest.raises(error, match=said):
        small.grow(n_gaussians)


def test_growing_an_adapted_machine_is_refused():
    X, start = problem(K_STRUCTURE)
    adapted = GMMMachine(trainer="map", ubm=machine_at(start, K_STRUCTURE)).fit(X)
    with pytest.raises(ValueError, match="Grow the ubm"):
        adapted.grow(6)


@pytest.mark.filterwarnings("ignore::gmmkit.FloorWarning")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_features_that_never_vary_stay_harmless(dtype):
    # their means approach the one value step by step; what rounding leaves is no variance
    X = load_digits().data.astype(dtype)
    grown = GMMMachine(1, random_state=3).fit(X)
    for n_gaussians in (2, 4, 8, 16):
        grown = grown.grow(n_gaussians).fit(X)
        assert np.diff(grown.lower_bounds_).min() > -1e-3
    constant = np.ptp(X, axis=0) == 0
    assert_array_equal(grown.covariances_[:, constant], 1e-6)


# ------------------------------------------------------------------------------------ user's starts


def clusters(n_clusters, size=60, seed=0):
    """Unit Gaussians, and their centres: pairs of pairs of pairs, as often as there are any."""
    rng = np.random.default_rng(seed)
    pairs = n_clusters & -n_clusters
    centres = np.zeros((n_clusters, 3))
    centres[:, 0] = np.arange(n_clusters) // pairs * 1000.0
    for level in range(pairs.bit_length() - 1):
        centres[:, level % 3] += 300.0 * 0.4**level * (np.arange(n_clusters) >> level & 1)
    X = np.repeat(centres, size, axis=0) + rng.normal(size=(n_clusters * size, 3))
    return rng.permutation(X), centres


def assert_found(means, centres, atol=0.7):
    """Each centre has a mean of its own."""
    distances = np.linalg.norm(means[:, None] - centres, axis=2)
    assert_array_equal(np.sort(distances.argmin(axis=1)), np.arange(len(centres)))
    assert distances.min(axis=1).max() < atol


TRAINERS = {
    "default": None,
    "k-means++": KMeansMachine(init_method="k-means++"),
    "lbg": KMeansMachine(init_method="lbg"),
    "scikit-learn": KMeans(n_init=1, random_state=0),
    "batches": MiniBatchKMeans(n_init=5, random_state=0),
}


@pytest.mark.parametrize("trainer", TRAINERS)
def test_trainers_find_separate_clusters(trainer):
    X, centres = clusters(6)
    gmm = GMMMachine(6, k_means_trainer=TRAINERS[trainer])
    assert_found(gmm.initialize_gaussians(X).means_, centres, atol=1.5)
    assert_found(gmm.fit(X).means_, centres)


def test_random_samples_can_be_the_start():
    X, _ = clusters(6)
    trainer = KMeansMachine(init_method="random", max_iter=0, random_state=5)
    gmm = GMMMachine(6, k_means_trainer=trainer, variance_thresholds=0)
    start = gmm.initialize_gaussians(X)
    assert set(map(tuple, start.means_)) <= set(map(tuple, X))
    labels = np.linalg.norm(X[:, None] - start.means_, axis=2).argmin(axis=1)
    assert_allclose(start.weights_, np.bincount(labels) / len(X))
    assert_allclose(start.covariances_, [X[labels == k].var(axis=0) for k in range(6)])


def test_given_parameters_and_k_means_make_one_start():
    X, centres = clusters(2)
    weights, variances = np.array([0.3, 0.7]), np.full((2, 3), 9.0)
    gmm = GMMMachine(2, weights_init=weights, covariances_init=variances).initialize_gaussians(X)
    assert_found(gmm.means_, centres)
    assert_array_equal(gmm.weights_, weights)
    assert_array_equal(gmm.covariances_, variances)
    gmm = GMMMachine(2, means_init=centres).initialize_gaussians(X)
    assert_array_equal(gmm.means_, centres)
    assert_allclose(gmm.weights_, 0.5)
    assert_allclose(gmm.covariances_, 1, atol=0.7)


@pytest.mark.filterwarnings("ignore::gmmkit.FloorWarning")
def test_warm_start_goes_on_from_the_model():
    X = load_digits().data[:, 20:24]
    options = {"convergence_threshold": None, "warm_start": True}
    twice = GMMMachine(4, max_fitting_steps=3, **options).fit(X).fit(X)
    once = GMMMachine(4, max_fitting_steps=6, **options).fit(X)
    assert_array_equal(twice.means_, once.means_)
    assert_array_equal(twice.lower_bounds_, once.lower_bounds_[3:])
    cold = clone(once).fit(X)
    assert_array_equal(cold.lower_bounds_, once.lower_bounds_)


def test_adaptation_starts_from_the_prior():
    X, start = problem(K_STRUCTURE)
    ubm = machine_at(start, K_STRUCTURE)
    adapted = GMMMachine(trainer="map", ubm=ubm, max_fitting_steps=5, convergence_threshold=None)
    assert adapted.initialize_gaussians(X) == ubm
    assert adapted.fit(X).lower_bounds_[0] == pytest.approx(ubm.score(X), rel=1e-12)


# -------------------------------------------------------------------------------- linde, buzo, gray

SOURCES = {
    "numpy": np.asarray,
    "dask": lambda X: da.from_array(X, chunks=(37, -1)),
    "Blocks": lambda X: Blocks([X[:50], X[50:]]),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n_clusters", [1, 2, 3, 4, 5, 7, 8, 12, 16])
def test_lbg_finds_separate_clusters(n_clusters, dtype):
    X, centres = clusters(n_clusters)
    km = KMeansMachine(n_clusters, init_method="lbg", init_max_iter=20)
    assert_found(km.fit(X.astype(dtype)).centroids_, centres)


@pytest.mark.parametrize("n_clusters", [1, 4, 6])
def test_lbg_is_the_same_on_any_source(n_clusters):
    X, _ = clusters(6)
    machines = {
        name: KMeansMachine(n_clusters, init_method="lbg", max_iter=0).fit(wrap(X))
        for name, wrap in SOURCES.items()
    }
    for km in machines.values():
        assert_allclose(km.centroids_, machines["numpy"].centroids_, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n_clusters", [4, 6])
def test_lbg_takes_weights(n_clusters):
    X, centres = clusters(n_clusters)
    strange = X + 1000.0
    weights = np.repeat([2.0, 0.0], len(X))
    km = KMeansMachine(n_clusters, init_method="lbg")
    km.fit(np.vstack([X, strange]), sample_weight=weights)
    assert_found(km.centroids_, centres)


def test_lbg_starts_from_the_overall_mean():
    X, _ = clusters(4)
    w = np.random.default_rng(1).uniform(0.1, 2, len(X))
    km = KMeansMachine(1, init_method="lbg", max_iter=0).fit(X, sample_weight=w)
    assert_allclose(km.centroids_[0], np.average(X, axis=0, weights=w), rtol=1e-12)


# --------------------------------------------------------------------------- starts that degenerate


TIGHT = np.full(3, -5000.0)


class Fickle(BaseEstimator):
    """K-means whose first attempts, told by their seeds, fail in a way."""

    seeds: list = []  # noqa: RUF012, of all clones

    def __init__(self, n_clusters=2, random_state=None, failure="nan", failures=1):
        self.n_clusters, self.random_state = n_clusters, random_state
        self.failure, self.failures = failure, failures

    def fit(self, X, y=None, sample_weight=None):
        self.seeds.append(self.random_state)
        centres = np.array(X[: self.n_clusters], dtype=float)
        if len(self.seeds) <= self.failures:
            bad = {"nan": np.nan, "duplicate": centres[0], "tight": TIGHT}[self.failure]
            centres[: 1 if self.failure == "tight" else None] = bad
        self.cluster_centers_ = centres
        return self


@pytest.fixture(autouse=True)
def _no_seeds():
    Fickle.seeds.clear()


@pytest.mark.parametrize("failure", ["nan", "duplicate", "tight"])
def test_start_that_degenerates_is_tried_again(failure, caplog):
    # two samples far from the others are alike: a component of their own has no covariance
    X = np.vstack([clusters(4)[0], TIGHT, TIGHT])
    trainer = Fickle(failure=failure, failures=2)
    options = {"max_fitting_steps": 500, "variance_thresholds": 0}
    with caplog.at_level(logging.INFO, logger="gmmkit"):
        gmm = GMMMachine(4, k_means_trainer=trainer, n_init=3, **options).fit(X)
    assert np.isfinite(gmm.means_).all()
    assert len(Fickle.seeds) == 3 + 2  # three starts, two attempts that failed
    assert len(set(Fickle.seeds)) == 5
    told = [record.getMessage() for record in caplog.records if record.msg.startswith("attempt")]
    assert [line.partition(" failed")[0] for line in told] == [
        "attempt 1 of 3",
        "attempt 2 of 3",
    ]
    expected = GMMMachine(4, means_init=X[:4], **options).fit(X)
    assert_allclose(gmm.means_, expected.means_)


def test_start_that_always_degenerates_is_an_error_that_says_why():
    X, _ = clusters(4)
    gmm = GMMMachine(4, k_means_trainer=Fickle(failures=99), n_init=3)
    with pytest.raises(
        ValueError, match=r"All 3 attempts \(n_init\) .* Fickle found .* not finite"
    ):
        gmm.fit(X)
    assert len(Fickle.seeds) == 3
    assert not hasattr(gmm, "means_")


def test_single_start_that_degenerates_is_an_error():
    X, _ = clusters(4)
    with pytest.raises(ValueError, match=r"Fickle found .* not finite"):
        GMMMachine(4, k_means_trainer=Fickle(failures=1)).fit(X)
    assert len(Fickle.seeds) == 1


def test_attempts_that_fail_in_training_have_room_for_their_steps():
    # without a floor, components collapse on rows that repeat
    X = np.repeat(np.random.default_rng(0).normal(size=(5, 5)), 20, axis=0)
    machine = GMMMachine(3, n_init=3, max_fitting_steps=1, variance_thresholds=0)
    with pytest.raises(ValueError, match=r"All 3 attempts .* positive definite"):
        machine.fit(X)
