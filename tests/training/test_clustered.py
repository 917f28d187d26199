"""The default start: it follows units, finds clusters, and is the same however it is computed."""

import numpy as np
import pytest
from material import every_structure
from numpy.testing import assert_allclose, assert_array_equal
from reference import Structure
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from gmmkit import GMMMachine
from gmmkit.sources.base import ArraySource
from gmmkit.training import draws, starts
from gmmkit.training.ward import merged


def clusters(n_clusters, n_features, seed=0, n_samples=900, distance=3.0):
    """Unit Gaussians at random places, and which of them each sample is of."""
    rng = np.random.default_rng(seed)
    centres = distance * rng.normal(size=(n_clusters, n_features))
    labels = rng.integers(n_clusters, size=n_samples)
    return centres[labels] + rng.normal(size=(n_samples, n_features)), labels


def among_noise(n_clusters, n_noise, seed, n_samples=1000):
    """Clusters six deviations apart in one feature, none in others, all of unlike scale."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(n_clusters, size=n_samples)
    X = rng.normal(size=(n_samples, 1 + n_noise))
    X[:, 0] += 6 * labels
    return X * 10.0 ** rng.uniform(-3, 3, 1 + n_noise), labels


def machine_of(structure, n_gaussians, **options):
    return GMMMachine(
        n_gaussians,
        covariance_type=structure.covariance_type,
        block_size=structure.block_size,
        **options,
    )


# -------------------------------------------------------------------------------------------- units


@every_structure
@pytest.mark.parametrize("n_gaussians", [1, 3, 7])
def test_powers_of_two_scale_the_start_bit_by_bit(structure, n_gaussians):
    X, _ = clusters(n_gaussians, 6, n_samples=400, distance=1.0)
    scale = 2.0 ** np.array([-10, 10, 0, 3, -7, 8])
    here, there = (
        machine_of(structure, n_gaussians).initialize_gaussians(rows) for rows in (X, X * scale)
    )
    assert_array_equal(there.means_, here.means_ * scale)
    assert_array_equal(there.weights_, here.weights_)


@every_structure
@pytest.mark.parametrize("seed", range(3))
def test_any_scale_scales_the_fit(structure, seed):
    X, _ = clusters(5, 6, seed, n_samples=500, distance=1.0)
    scale = 10.0 ** np.random.default_rng(seed).uniform(-3, 3, 6)
    if structure.covariance_type == "spherical":  # one scale for all features
        scale[:] = scale[0]
    here, there = (
        machine_of(structure, 5, max_fitting_steps=500).fit(rows) for rows in (X, X * scale)
    )
    assert here.n_iter_ == there.n_iter_
    assert_allclose(there.means_ / scale, here.means_, atol=1e-7)
    assert_allclose(there.weights_, here.weights_, atol=1e-7)
    bounds = there.lower_bounds_ + np.log(scale).sum()
    assert_allclose(bounds, here.lower_bounds_, atol=1e-7)


def test_units_decide_nothing_for_many_components_and_large_data():
    X, _ = clusters(40, 3, n_samples=5000, distance=2.0)
    scale = np.array([1e-3, 1.0, 1e3])
    here, there = (GMMMachine(40, max_fitting_steps=5, convergence_threshold=None).fit(rows)
                   for rows in (X, X * scale))  # fmt: skip
    assert_allclose(there.means_ / scale, here.means_, atol=1e-7)


@pytest.mark.parametrize("offset", [-1e6, 1e6])
def test_offsets_decide_nothing(offset):
    X, _ = clusters(6, 3)
    here, there = (GMMMachine(6).fit(rows) for rows in (X, X + offset))
    assert_allclose(there.means_ - offset, here.means_, atol=1e-6)


# ------------------------------------------------------------------------------------ what is found


@pytest.mark.parametrize("n_noise", [1, 4, 8])
def test_clusters_are_found_among_features_of_unlike_scale(n_noise):
    scores = []
    for seed in range(5):
        X, labels = among_noise(2, n_noise, seed)
        scores.append(adjusted_rand_score(labels, GMMMachine(2).fit_predict(X)))
    assert min(scores) > 0.97


@pytest.mark.filterwarnings("ignore::gmmkit.FloorWarning")
def test_a_far_row_hides_no_clusters():
    X, labels = clusters(4, 3, distance=8.0)
    X[0] = [1e6, 0, 0]
    found = GMMMachine(5).fit_predict(X)
    assert adjusted_rand_score(labels[1:], found[1:]) > 0.97


def test_each_of_many_separate_clusters_is_found():
    for seed in range(5):
        X, labels = clusters(30, 5, seed, n_samples=1500, distance=8.0)
        start = GMMMachine(30, random_state=seed).initialize_gaussians(X)
        assert adjusted_rand_score(labels, start.predict(X)) > 0.99


def test_likelihood_is_no_lower_than_from_the_start_of_scikit_learn():
    X, _ = clusters(12, 4, n_samples=1200, distance=2.0)
    ours, theirs = [], []
    for seed in range(6):
        machine = GMMMachine(12, random_state=seed, convergence_threshold=1e-3).fit(X)
        rival = GaussianMixture(12, covariance_type="diag", random_state=seed)
        ours.append(machine.score(X))
        theirs.append(rival.fit(X).score(X))
    assert np.mean(ours) > np.mean(theirs)


def test_starts_of_one_fit_differ(monkeypatch):
    made, likeliest = [], starts.likeliest

    def recorded(*args, **options):
        found = likeliest(*args, **options)
        made.append(found[0])
        return found

    monkeypatch.setattr(starts, "likeliest", recorded)
    X, _ = clusters(4, 3, distance=1.0)
    GMMMachine(4, n_init=6).fit(X)
    assert len(made) == 6
    spreads = [start.structure.diagonal(start.covariances).mean() for start in made]
    assert min(spreads[1::2]) > max(spreads[::2])  # random samples make looser components
    means = {np.sort(start.means.ravel()).round(6).tobytes() for start in made}
    assert len(means) == 6


def test_several_starts_find_what_k_means_would_not():
    X, labels = among_noise(3, 6, seed=2)
    best = GMMMachine(3, n_init=10).fit(X)
    assert adjusted_rand_score(labels, best.predict(X)) > 0.95


# --------------------------------------------------------------------------- however it is computed


@pytest.mark.parametrize("structure", [Structure("diag"), Structure("full", 2)], ids=str)
def test_threads_change_nothing(structure):
    X, _ = clusters(60, 4, n_samples=40_000)
    one, three = (machine_of(structure, 60, n_jobs=n).initialize_gaussians(X) for n in (1, 3))
    assert one == three


def test_ties_go_to_the_first_centroid():
    X = np.array([[1.0], [2.0], [3.0]])
    centroids, metrics = np.array([[[1.0], [3.0]]]), np.ones((1, 1))
    n, means = draws.settled(ArraySource(X), centroids, metrics, steps=1)
    assert_array_equal(n, [[2, 1]])
    assert_array_equal(means, [[[1.5], [3.0]]])
    moved = centroids * [[[1.0], [1 - 1e-14]]]  # nearer to 2, by rounding only
    assert_array_equal(draws.settled(ArraySource(X), moved, metrics, steps=1)[0], [[2, 1]])


def test_rows_drawn_are_far_apart_and_of_weight():
    X = np.repeat([[0.0], [10.0], [20.0], [30.0]], 50, axis=0)
    weight = np.where(X[:, 0] == 30, 0.0, 1.0)
    chosen = draws.drawn(ArraySource(X, weight), np.ones((5, 1)), 3, np.random.default_rng(0))
    assert_array_equal(np.sort(chosen[..., 0], axis=1), [[0, 10, 20]] * 5)


def test_weights_count_as_repeated_rows_in_lloyds_steps():
    X, _ = clusters(3, 2, n_samples=90)
    weight = np.random.default_rng(0).integers(1, 4, 90)
    begin, metrics = X[None, :3], np.array([[1.0, 4.0]])
    by_weight = draws.settled(ArraySource(X, weight.astype(float)), begin, metrics)
    repeated = draws.settled(ArraySource(np.repeat(X, weight, axis=0)), begin, metrics)
    for mine, theirs in zip(by_weight, repeated, strict=True):
        assert_allclose(mine, theirs, rtol=1e-12)


# ------------------------------------------------------------------------------------ Ward's method


@pytest.mark.parametrize("seed", range(4))
def test_merging_is_wards_of_scipy(seed):
    X = np.random.default_rng(seed).normal(size=(60, 3))
    labels = fcluster(linkage(X, "ward"), 7, "maxclust")
    expected = np.array([X[labels == k].mean(axis=0) for k in range(1, 8)])
    found = merged(X, np.ones(60), 7)
    for means in (found, expected):
        means[:] = means[np.argsort(means[:, 0])]
    assert_allclose(found, expected, atol=1e-9)


def test_merging_minds_counts():
    means = np.array([[0.0], [1.0], [2.1]])
    assert_allclose(merged(means, np.array([100.0, 100.0, 1.0]), 2), [[0.0], [102.1 / 101]])
    assert_allclose(merged(means, np.array([1.0, 100.0, 100.0]), 2), [[100 / 101], [2.1]])


def test_ties_of_merging_hang_on_no_digit():
    means = np.arange(8.0)[:, None]
    rng = np.random.default_rng(0)
    expected = merged(means, np.ones(8), 4)
    for _ in range(20):
        moved = means * (1 + 1e-14 * rng.uniform(-1, 1, (8, 1)))
        assert_allclose(merged(moved, np.ones(8), 4), expected, atol=1e-9)


def test_fewer_different_rows_than_components_are_warned_of():
    X = np.repeat([[0.0, 1.0], [4.0, 5.0]], 10, axis=0)
    with pytest.warns(UserWarning, match=r"distinct clusters \(2\) .* n_gaussians \(3\)"):
        GMMMachine(3).initialize_gaussians(X)
