"""KMeansMachine: Lloyd's steps are scikit-learn's, starts are as good, empty clusters revive."""

import dask.array as da
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from gmmkit import Blocks, GMMMachine, KMeansMachine
from gmmkit.sources.dask_source import DaskSource
from gmmkit.training.seeding import farthest_rows

every_source = pytest.mark.parametrize(
    "wrap", [np.asarray, lambda X: da.from_array(X, chunks=(17, -1))], ids=["numpy", "dask"]
)
every_start = pytest.mark.parametrize("method", ["k-means||", "k-means++", "random"])


def clusters(n_clusters=20, size=25, spread=30.0, seed=0):
    """Clusters of unit variance whose centres are far apart, most of them."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(-spread, spread, (n_clusters, 3))
    return np.repeat(centres, size, axis=0) + rng.normal(size=(n_clusters * size, 3))


def from_start(centroids, steps, **options):
    """A machine that makes so many steps."""
    options = {"convergence_threshold": None, "max_iter": steps} | options
    return KMeansMachine(len(centroids), init_method=centroids, **options)


def inertia(X, centroids, weights=1.0):
    return (weights * cdist(X, centroids, "sqeuclidean").min(axis=1)).sum()


# ------------------------------------------------------------------------------------ Lloyd's steps


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # of scikit-learn's
@every_source
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_steps_are_scikit_learn_s(steps, weighted, wrap):
    X = np.random.default_rng(0).normal(size=(500, 3))
    start = X[:20]  # none of these is empty
    w = np.random.default_rng(2).uniform(0.1, 4, len(X)) if weighted else None
    theirs = KMeans(20, init=start, n_init=1, max_iter=steps, tol=0, algorithm="lloyd")
    theirs.fit(X, sample_weight=w)
    assert theirs.n_iter_ == steps
    ours = from_start(start, steps).fit(wrap(X), sample_weight=w)
    assert ours.n_iter_ == steps
    assert_allclose(ours.centroids_, theirs.cluster_centers_, rtol=1e-10, atol=1e-10)
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-10)
    assert_array_equal(np.asarray(ours.predict(wrap(X))), theirs.labels_)
    assert ours.score(wrap(X), sample_weight=w) == pytest.approx(-ours.inertia_)
    counts = np.bincount(theirs.labels_, minlength=20, weights=w)
    assert_allclose(ours.counts_, counts, rtol=1e-10)
    assert ours.average_min_distance == pytest.approx(theirs.inertia_ / counts.sum())


def test_steps_stop_when_the_inertia_no_longer_changes():
    X = clusters()
    machine = KMeansMachine(20, max_iter=100).fit(X)
    assert machine.converged_
    again = from_start(machine.centroids_, 1).fit(X)
    assert again.inertia_ == pytest.approx(machine.inertia_, rel=1e-5)


def test_no_steps_leave_the_start():
    X = clusters()
    machine = from_start(X[:4], 0).fit(X)
    assert_array_equal(machine.centroids_, X[:4])
    assert machine.n_iter_ == 0
    assert machine.inertia_ == pytest.approx(inertia(X, X[:4]))


# ----------------------------------------------------------------------------- labels and distances


@every_source
@pytest.mark.parametrize("dtype, atol", [(np.float64, 1e-10), (np.float32, 1e-5)])
def test_labels_and_distances_are_brute_force(wrap, dtype, atol):
    X = clusters().astype(dtype)
    machine = KMeansMachine(20).fit(wrap(X))
    expected = cdist(X.astype(float), machine.centroids_)
    distances = np.asarray(machine.transform(wrap(X)))
    assert distances.dtype == dtype
    assert_allclose(distances, expected, atol=atol)
    assert_array_equal(np.asarray(machine.predict(wrap(X))), expected.argmin(axis=1))


def test_ties_go_to_the_first_cluster():
    machine = from_start(np.array([[-1.0], [1.0], [1.0]]), 0)
    with pytest.warns(ConvergenceWarning, match=r"clusters \(2\)"):
        machine.fit([[-3.0], [0.0], [3.0]])
    assert_array_equal(machine.labels_, [0, 0, 1])


def test_distance_of_a_centroid_to_itself_is_zero():
    centroids = 1e3 + clusters(5, 1)
    machine = from_start(centroids, 0).fit(centroids)
    assert_allclose(np.diag(machine.transform(centroids)), 0, atol=1e-5)
    assert machine.inertia_ == pytest.approx(0, abs=1e-9)


def test_labels_are_kept_of_data_in_memory_only():
    X = clusters()
    machine = KMeansMachine(4).fit(X)
    assert_array_equal(machine.labels_, machine.predict(X))
    assert_array_equal(machine.fit_predict(X), machine.labels_)
    lazy = machine.fit_predict(da.from_array(X, chunks=(100, 3)))
    assert isinstance(lazy, da.Array)
    assert not hasattr(machine, "labels_")
    assert_array_equal(lazy.compute(), KMeansMachine(4).fit(X).labels_)


# ---------------------------------------------------------------------------- variances and weights


@every_source
@pytest.mark.parametrize("weighted", [False, True])
def test_variances_and_weights_of_clusters_are_the_loop_s(wrap, weighted):
    X = clusters() + 1e4
    w = np.random.default_rng(2).uniform(0.1, 4, len(X)) if weighted else None
    machine = KMeansMachine(20).fit(X)
    other = clusters(seed=5) + 1e4  # other data than the machine was trained on
    variances, weights = machine.get_variances_and_weights_for_each_cluster(wrap(other), w)
    labels, w = machine.predict(other), np.ones(len(X)) if w is None else w
    for k in range(20):
        own, share = other[labels == k], w[labels == k]
        assert weights[k] == pytest.approx(share.sum() / w.sum())
        if len(own):
            mean = np.average(own, axis=0, weights=share)
            expected = np.average((own - mean) ** 2, axis=0, weights=share)
            assert_allclose(variances[k], expected, rtol=1e-8, atol=1e-8)


def test_empty_cluster_has_no_weight_and_no_variance():
    X = np.array([[0.0], [2.0], [10.0], [14.0]])
    machine = from_start(np.array([[1.0], [12.0]]), 1).fit(X)
    variances, weights = machine.get_variances_and_weights_for_each_cluster(X[:2])
    assert_array_equal(variances, [[1], [0]])
    assert_array_equal(weights, [1, 0])


# ----------------------------------------------------------------------------------- empty clusters


@every_source
def test_empty_clusters_revive_at_the_farthest_samples(wrap):
    X = np.array([[0.0], [1.0], [2.0], [50.0], [-80.0]])
    start = np.array([[1.0], [1e6], [-1e6]])  # the first has all samples, the others none
    once, twice = (from_start(start, steps).fit(wrap(X)).centroids_ for steps in (1, 2))
    assert_allclose(once, [[X.mean()], [-80], [50]], rtol=1e-12)
    assert_allclose(twice, [[1], [-80], [50]], rtol=1e-12)


@every_source
def test_samples_without_weight_revive_nothing(wrap):
    X = np.array([[0.0], [1.0], [2.0], [50.0], [-80.0]])
    machine = from_start(np.array([[1.0], [1e6]]), 2).fit(wrap(X), sample_weight=[1, 1, 1, 1, 0])
    assert_array_equal(machine.centroids_, [[1], [50]])


def test_revival_does_not_depend_on_the_chunks():
    X = clusters()
    start = np.vstack([X[:3], np.full((9, 3), 1e4), X[-3:]])
    expected = from_start(start, 10).fit(X)
    for chunks in (7, 500, ((0, 499, 1), (1, 2))):
        machine = from_start(start, 10).fit(da.from_array(X, chunks=chunks))
        assert_allclose(machine.centroids_, expected.centroids_, rtol=1e-10)
    assert expected.counts_.min() > 0


@pytest.mark.parametrize("count", [1, 2, 3])
def test_among_rows_equally_far_the_first_revive_clusters(count):
    # the corners of a cube are equally far from its centre, except for rounding
    corners = np.array(list(np.ndindex(2, 2, 2))) - 0.5
    X = np.vstack([0.1 * corners, corners]) + 1 / 3
    noise = np.random.default_rng(0)
    for _ in range(5):
        centre = 1 / 3 + 1e-15 * noise.normal(size=3)
        for chunks in (3, 5, 16):
            source = DaskSource.of(da.from_array(X, chunks=(chunks, -1)))
            assert_array_equal(farthest_rows(source, centre[None], count), X[8 : 8 + count])


@every_start
def test_more_clusters_than_distinct_rows_are_finite(method):
    X = np.repeat([[0.0, 0.0], [9.0, 9.0]], 20, axis=0)
    with pytest.warns(ConvergenceWarning, match=r"clusters \(2\) .* n_clusters \(5\)"):
        machine = KMeansMachine(5, init_method=method).fit(X)
    assert np.isfinite(machine.centroids_).all()
    assert machine.inertia_ == 0


# ------------------------------------------------------------------------------------------- starts


def uneven_clusters():
    """Nearly all samples around zero and twelve groups of three far from it."""
    far = np.repeat(np.random.default_rng(3).uniform(-500, 500, (12, 3)), 3, axis=0)
    return np.vstack([far, np.zeros((2000, 3))]) + np.random.default_rng(4).normal(size=(2036, 3))


def start_inertia(method, seed, X, wrap=np.asarray, n_clusters=20):
    machine = KMeansMachine(n_clusters, init_method=method, max_iter=0, random_state=seed)
    return inertia(X, machine.fit(wrap(X)).centroids_)


@every_source
@pytest.mark.parametrize("X, n_clusters", [(clusters(), 20), (uneven_clusters(), 13)])
def test_k_means_parallel_starts_as_well_as_k_means_plus_plus(X, n_clusters, wrap):
    # Bahmani et al., 2012, table 1: as good as k-means++, where random starts are many times worse
    wrap = wrap if wrap is np.asarray else lambda X: da.from_array(X, chunks=(500, -1))
    seeds = range(20)
    ours = np.mean([start_inertia("k-means||", seed, X, wrap, n_clusters) for seed in seeds])
    theirs = np.mean([inertia(X, kmeans_plusplus(X, n_clusters, random_state=s)[0]) for s in seeds])
    chance = np.mean([start_inertia("random", seed, X, np.asarray, n_clusters) for seed in seeds])
    assert ours < 1.15 * theirs
    assert ours < 0.2 * chance


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
@pytest.mark.parametrize("method", ["k-means++", "random"])
@every_source
def test_other_starts_are_scikit_learn_s_in_distribution(method, wrap):
    X = clusters()
    ours = [start_inertia(method, seed, X, wrap) for seed in range(40)]
    if method == "random":
        drawn = [np.random.default_rng(s).choice(len(X), 20, replace=False) for s in range(40)]
        theirs = [inertia(X, X[rows]) for rows in drawn]
    else:
        theirs = [inertia(X, kmeans_plusplus(X, 20, random_state=s)[0]) for s in range(40)]
    error = np.sqrt((np.var(ours) + np.var(theirs)) / 40)
    assert abs(np.mean(ours) - np.mean(theirs)) < 4 * error


class Read:
    """Blocks that count how often they are read to their end."""

    def __init__(self, X):
        self.X, self.passes = X, 0

    def __iter__(self):
        yield from np.array_split(self.X, 3)
        self.passes += 1


@pytest.mark.parametrize("kind", ["dask", "stream"])
@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_a_round_of_k_means_parallel_is_a_pass(rounds, kind):
    read = Read(clusters())

    def load(block):
        read.passes += 1
        return block

    x = da.from_array(clusters(), chunks=(-1, -1)).map_blocks(load, meta=np.empty((0, 3)))
    KMeansMachine(20, init_max_iter=rounds, max_iter=0).fit(x if kind == "dask" else Blocks(read))
    first, weights, inertia = 1, 1, 1
    assert read.passes == first + rounds + weights + inertia


def test_candidates_of_k_means_parallel_weigh_what_they_attract():
    # 1000 samples near zero and 10 far ones, all of which are candidates after some rounds: with
    # equal weights the one start, drawn by weight alone, would be a far one ten times of eleven
    X = np.r_[np.zeros(1000), np.arange(10) + 50.0][:, None]
    far = [
        KMeansMachine(1, init_max_iter=10, max_iter=0, random_state=seed).fit(X).centroids_[0, 0]
        > 0
        for seed in range(60)
    ]
    assert np.mean(far) < 0.15


@every_start
@every_source
def test_samples_without_weight_are_no_starts(method, wrap):
    X = np.vstack([clusters(4), 1e6 + clusters(4, seed=2)])
    weights = np.repeat([1.0, 0.0], 100)
    for seed in range(5):
        machine = KMeansMachine(4, init_method=method, max_iter=0, random_state=seed)
        assert machine.fit(wrap(X), sample_weight=weights).centroids_.max() < 1e5


@pytest.mark.parametrize("method", ["k-means||", "k-means++"])
@every_source
def test_starts_are_samples(method, wrap):
    X = clusters()
    start = KMeansMachine(20, init_method=method, max_iter=0).fit(wrap(X)).centroids_
    assert set(map(tuple, start)) <= set(map(tuple, X))
    assert len(set(map(tuple, start))) == 20


@every_start
def test_seed_alone_decides(method):
    X = clusters()
    one, same, other = (
        KMeansMachine(20, init_method=method, max_iter=0, random_state=seed).fit(X).centroids_
        for seed in (3, 3, 4)
    )
    assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_restarts_keep_the_best():
    X = clusters()
    state = np.random.RandomState(7)
    options = {"init_method": "random", "max_iter": 30}
    singles = [KMeansMachine(20, random_state=state, **options).fit(X).inertia_ for _ in range(5)]
    best = KMeansMachine(20, random_state=7, n_init=5, **options).fit(X)
    assert best.inertia_ == min(singles) < max(singles)
    assert best.inertia_ == pytest.approx(inertia(X, best.centroids_))


# -------------------------------------------------------------------------------- machines by hand

every_name = pytest.mark.parametrize("name", ["centroids_", "means", "cluster_centers_"])


@every_name
@every_source
def test_a_machine_by_hand_does_all_that_a_fitted_one_does(name, wrap, tmp_path):
    X, centroids = clusters(4), clusters(4, 1)
    machine = KMeansMachine()
    setattr(machine, name, centroids.tolist())
    assert machine.n_features_in_ == 3
    distances = cdist(X, centroids)
    assert_array_equal(np.asarray(machine.predict(wrap(X))), distances.argmin(axis=1))
    assert_allclose(np.asarray(machine.transform(wrap(X))), distances, rtol=1e-9)
    assert machine.score(wrap(X)) == pytest.approx(-inertia(X, centroids))
    variances, weights = machine.get_variances_and_weights_for_each_cluster(wrap(X))
    labels = distances.argmin(axis=1)
    assert_allclose(weights, np.bincount(labels, minlength=4) / len(X))
    assert_allclose(variances[0], X[labels == 0].var(axis=0))
    machine.save(tmp_path / "machine.h5")
    loaded = KMeansMachine.from_hdf5(tmp_path / "machine.h5")
    assert_array_equal(loaded.centroids_, centroids)
    assert_array_equal(loaded.predict(X), labels)
    one_step = from_start(centroids, 1).fit(X)
    again = clone(machine).set_params(max_iter=1, convergence_threshold=None).fit(wrap(X))
    assert_allclose(again.centroids_, one_step.centroids_, rtol=1e-12)


@every_name
def test_new_centroids_leave_nothing_of_a_fit(name, tmp_path):
    machine = KMeansMachine(5).fit(clusters())
    setattr(machine, name, np.zeros((2, 7)))
    assert (machine.n_clusters, machine.n_features_in_) == (2, 7)
    for gone in ("labels_", "counts_", "inertia_", "n_iter_", "converged_"):
        assert not hasattr(machine, gone)
    machine.save(tmp_path / "machine.h5")
    with pytest.raises(ValueError, match="X has 3 features, but KMeansMachine is expecting 7"):
        machine.predict(clusters())


@pytest.mark.parametrize("bad", [[1.0, 2.0], [[np.nan]], [[np.inf, 1.0]], np.empty((0, 2))])
def test_centroids_that_are_none_are_refused(bad):
    with pytest.raises(ValueError, match="centroids_"):
        KMeansMachine().centroids_ = bad


def test_a_machine_without_centroids_is_not_fitted():
    assert not hasattr(KMeansMachine(), "centroids_")
    for method in (KMeansMachine().predict, KMeansMachine().transform, KMeansMachine().score):
        with pytest.raises(NotFittedError):
            method(clusters())


def test_pickles_that_hold_centroids_as_an_attribute_are_read():
    machine = KMeansMachine(4).fit(clusters())
    state = machine.__getstate__()
    state["centroids_"] = state.pop("_centroids")
    other = KMeansMachine()
    other.__setstate__(state)
    assert_array_equal(other.centroids_, machine.centroids_)


# ------------------------------------------------------------------------------ one rule for dtypes

every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@every_dtype
@pytest.mark.parametrize("offset", [0, 1e3, 1e6])
def test_distances_near_a_centroid_are_exact_differences(offset, dtype):
    X = (clusters(3, spread=4.0) + offset).astype(dtype)
    machine = KMeansMachine(3).fit(X)
    for near in (0, 1e-6, 1e-3):
        samples = (machine.centroids_ + near).astype(dtype)
        expected = cdist(samples.astype(float), machine.centroids_)
        rounded = 1e-6 if dtype == np.float32 else 1e-12
        assert_allclose(machine.transform(samples), expected, rtol=rounded, atol=1e-14)


@every_dtype
@every_source
def test_a_far_row_does_not_confuse_the_others(dtype, wrap):
    X = np.append(np.repeat([0.0, 4.0, 8.0], 50), 1e6)[:, None].astype(dtype)
    machine = from_start(np.array([[0.0], [4.0], [8.0], [1e6]]), 2).fit(wrap(X))
    assert_array_equal(machine.counts_, [50, 50, 50, 1])
    assert machine.inertia_ == 0
    assert not np.signbit([machine.inertia_, machine.score(wrap(X))]).any()


@every_dtype
@pytest.mark.parametrize("separation", [1e2, 1e4])
@pytest.mark.parametrize("method", ["k-means||", "random"])
def test_the_same_seed_is_the_same_start_in_every_dtype(method, separation, dtype):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        X = separation * rng.normal(size=(8, 3))[rng.integers(8, size=300)]
        X = (X + rng.normal(size=X.shape)).astype(dtype)
        options = {"init_method": method, "random_state": seed, "max_iter": 0}
        start = KMeansMachine(8, **options).fit(X).centroids_
        for other in (da.from_array(X, chunks=(37, -1)), Blocks([X[:100], X[100:]])):
            assert_array_equal(KMeansMachine(8, **options).fit(other).centroids_, start)


@every_dtype
def test_the_inertia_is_as_exact_as_the_samples(dtype):
    X = clusters(6, spread=1e4).astype(dtype)
    machine = KMeansMachine(6).fit(X)
    assert machine.inertia_ == pytest.approx(inertia(X.astype(float), machine.centroids_), rel=1e-9)


@pytest.mark.parametrize("scale", [1e-23, 1e-10, 1e10])
def test_units_of_float32_change_no_label(scale):
    X = np.round(clusters(), 1)
    expected = from_start(X[::25], 5).fit(X.astype(np.float32).astype(float))
    machine = from_start(scale * X[::25], 5).fit((scale * X).astype(np.float32))
    assert_array_equal(machine.labels_, expected.labels_)
    assert machine.inertia_ == pytest.approx(scale**2 * expected.inertia_, rel=1e-5)


@pytest.mark.parametrize("dtype, size", [(np.float32, 1e18), (np.float64, 1e153)])
@pytest.mark.parametrize("method", ["k-means||", "k-means++", "random", "lbg"])
def test_squares_that_overflow_are_refused_in_one_sentence(method, dtype, size):
    X = (size * np.random.default_rng(0).normal(size=(5000, 3))).astype(dtype)
    sentence = "Input X contains values too large: sums of their squares overflow."
    for machine in (GMMMachine(3), KMeansMachine(3, init_method=method)):
        with pytest.raises(ValueError, match=sentence):
            machine.fit(X)


# ------------------------------------------------------------------------------- start of a mixture


def test_mixture_starts_from_k_means_by_default():
    X = clusters(3)
    trainer = KMeansMachine(max_iter=50, random_state=1)
    start = GMMMachine(3, k_means_trainer=trainer).initialize_gaussians(X)
    alone = KMeansMachine(3, max_iter=50, random_state=1).fit(X)
    assert_array_equal(start.means_, alone.centroids_)
    variances, weights = alone.get_variances_and_weights_for_each_cluster(X)
    assert_allclose(start.covariances_, variances, rtol=1e-10)
    assert_allclose(start.weights_, weights, rtol=1e-12)
    default = GMMMachine(3).initialize_gaussians(X)
    assert_allclose(np.sort(default.means_, axis=0), np.sort(alone.centroids_, axis=0))


@pytest.mark.parametrize("init_method", ["k-means||", "k-means++", "random", "lbg"])
def test_attempts_at_fewer_distinct_points_than_clusters_end(init_method):
    X = np.repeat(np.eye(3), 20, axis=0)
    machine = KMeansMachine(6, init_method=init_method, n_init=3)
    with pytest.warns(ConvergenceWarning, match="distinct clusters"):
        machine.fit(X)
    assert np.isfinite(machine.centroids_).all()
    assert machine.inertia_ < 1e-12
