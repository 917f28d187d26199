"""The nearest centroid: float32 scores, labels as exact as the samples."""

from fractions import Fraction

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from gmmkit.kernel.blocks import first_true, not_one_true
from gmmkit.kernel.densities import centroid_distances
from gmmkit.kernel.estep import EStep, Rows, labels
from gmmkit.kernel.nearest import NearestBlock
from gmmkit.model.structures import make_structure

every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def found(X, centroids):
    kernel = Rows(centroid_distances(centroids, X.dtype), labels, (), np.dtype(int))
    return kernel(X)


def clusters(n_clusters, n_samples=3000, n_features=7, seed=0):
    rng = np.random.default_rng(seed)
    centroids = rng.normal(size=(n_clusters, n_features))
    X = centroids[rng.integers(n_clusters, size=n_samples)]
    return X + 0.5 * rng.normal(size=X.shape), centroids


@every_dtype
@pytest.mark.parametrize("n_clusters", [1, 2, 3, 64, 255, 256, 257, 301, 520, 2100])
def test_labels_are_those_of_the_least_distance(n_clusters, dtype):
    X, centroids = clusters(n_clusters)
    X = X.astype(dtype)
    squares = cdist(X, centroids, "sqeuclidean")
    assert squares[np.arange(len(X)), found(X, centroids)] == pytest.approx(
        squares.min(axis=1), rel=1e-4 if dtype == "float32" else 1e-13
    )


@pytest.mark.parametrize("n_clusters", [40, 400])  # by rows and by columns
def test_samples_that_float32_cannot_tell_apart_get_the_right_label(n_clusters):
    X, centroids = clusters(n_clusters, n_features=20)
    order = np.argsort(cdist(X, centroids), axis=1)
    first, second = centroids[order[:, 0]], centroids[order[:, 1]]
    across = ((first + second) / 2 - X) * (first - second)
    X += (
        across.sum(axis=1, keepdims=True)
        / ((first - second) ** 2).sum(axis=1, keepdims=True)
        * (first - second)
    )  # onto the plane between both
    X += 1e-9 * (first - second)
    squares = cdist(X, centroids, "sqeuclidean")
    rounded = X.astype(np.float32) @ centroids.T.astype(np.float32)
    rounded -= 0.5 * (centroids**2).sum(axis=1).astype(np.float32)
    assert (rounded.argmax(axis=1) != squares.argmin(axis=1)).mean() > 0.1  # or this shows nothing
    assert np.array_equal(found(X, centroids), squares.argmin(axis=1))


@every_dtype
@pytest.mark.parametrize("n_clusters", [3, 310])
def test_the_first_of_equal_centroids_wins(n_clusters, dtype):
    X = np.arange(12.0).reshape(6, 2).astype(dtype)
    assert not found(X, np.ones((n_clusters, 2))).any()


@pytest.mark.parametrize("scale", [1e-150, 1e-30, 1e-19, 1e-5, 1e5, 1e19, 1e30, 1e150])
@pytest.mark.parametrize("n_clusters", [5, 310])
def test_no_scale_is_too_small_or_too_large(n_clusters, scale):
    X, centroids = clusters(n_clusters, 500)
    wanted = cdist(X, centroids).argmin(axis=1)
    assert np.array_equal(found(scale * X, scale * centroids), wanted)


@every_dtype
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n_clusters", [1, 2, 9, 256, 257, 310])
def test_what_is_no_number_has_no_nearest_centroid(n_clusters, bad, dtype):
    X, centroids = clusters(n_clusters)
    X = X.astype(dtype)
    X[7, 1] = bad
    with pytest.raises(ValueError, match=r"Input X contains (NaN|infinity)"):
        found(X, centroids)


@every_dtype
@pytest.mark.parametrize("size", [1e4, 1e8, 1e25])
@pytest.mark.parametrize("n_clusters", [9, 310])
def test_a_sample_far_out_does_not_confuse_its_block(n_clusters, size, dtype):
    X, centroids = clusters(n_clusters)
    X = X.astype(dtype)
    wanted = found(X, centroids)
    X[7] = size * centroids[3]
    got = found(X, centroids)
    assert got[7] == (centroids @ centroids[3]).argmax()
    assert np.array_equal(np.delete(got, 7), np.delete(wanted, 7))


@every_dtype
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_the_inertia_of_tight_clusters_far_apart(offset, weighted, dtype):
    rng = np.random.default_rng(0)
    centroids = np.round(offset * rng.normal(size=(4, 3)))
    X = (centroids[rng.integers(4, size=5000)] + rng.normal(size=(5000, 3))).astype(dtype)
    weight = rng.exponential(size=5000) if weighted else None
    statistics = EStep(centroid_distances(centroids, X.dtype))(X, weight)
    squares = cdist(X.astype(float), centroids, "sqeuclidean").min(axis=1)
    wanted = squares.sum() if weight is None else squares @ weight
    tolerance = 1e-5 * max(1, offset / 1e4) if dtype == "float32" else 1e-9
    assert -2 * statistics.log_likelihood == pytest.approx(wanted, rel=tolerance)


@every_dtype
def test_samples_on_their_centroids_have_no_inertia(dtype):
    centroids = np.random.default_rng(0).normal(size=(5, 3)).astype(dtype)
    X = np.repeat(centroids, 10, axis=0)
    statistics = EStep(centroid_distances(centroids.astype(float), X.dtype))(X)
    assert abs(statistics.log_likelihood) < (1e-10 if dtype == "float32" else 1e-30)
    assert np.array_equal(statistics.n, np.full(5, 10.0))


@every_dtype
def test_squares_are_exact_differences(dtype):
    X, centroids = clusters(20)
    X = (X + 100).astype(dtype)
    block = NearestBlock(centroid_distances(centroids + 100, X.dtype), len(X))
    block.load(X)
    wanted = cdist(X.astype(float), centroids + 100, "sqeuclidean").min(axis=1)
    assert block.squares() == pytest.approx(wanted, rel=1e-4 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("n_rows", [1, 2, 254, 255, 256, 257, 510, 511, 512, 600])
def test_first_true_and_not_one_true(n_rows):
    rng = np.random.default_rng(n_rows)
    mask = rng.random((n_rows, 400)) < rng.random(400) ** 3
    mask[rng.integers(n_rows, size=400), np.arange(400)] = True
    assert np.array_equal(not_one_true(mask), mask.sum(axis=0) != 1)
    wanted = mask.argmax(axis=0)
    assert np.array_equal(first_true(mask), wanted)


def test_257_candidates_are_not_one():
    assert not_one_true(np.ones((257, 3), bool)).all()


@every_dtype
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("block_size", [None, 6, 2, (1, 5, 5, 1)])
@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_products_are_those_of_each_label_s_samples(covariance_type, block_size, weighted, dtype):
    X, centroids = clusters(5, n_features=12)
    centroids[3] = 1e3  # to which no sample is near
    X = X.astype(dtype)
    structure = make_structure(covariance_type, 12, block_size)
    weight = np.random.default_rng(1).uniform(0, 3, len(X)) if weighted else None
    stats = EStep(centroid_distances(centroids, X.dtype, structure))(X, weight)
    expected = np.zeros((5, 12, 12))
    for k in range(5):
        chosen = cdist(X, centroids).argmin(axis=1) == k
        rows = X[chosen].astype(float) - stats.origin[k]
        expected[k] = (rows.T if weight is None else rows.T * weight[chosen]) @ rows
    got = structure.unpack(stats.second)
    wanted = structure.from_dense(expected)
    rtol = {"float32": 1e-5, "float64": 1e-12}[dtype]
    np.testing.assert_allclose(got, wanted, rtol=0, atol=rtol * np.abs(expected).max())


# ------------------------------------------------------------------------- as exact as the samples


def exactly(X, centroids):
    """The first of the nearest centroids, in rational numbers."""
    rows = [[Fraction(float(value)) for value in row] for row in X]
    means = [[Fraction(float(value)) for value in row] for row in centroids]
    squares = [[sum((a - b) ** 2 for a, b in zip(x, c, strict=True)) for c in means] for x in rows]
    return np.array([min(range(len(means)), key=row.__getitem__) for row in squares])


def hard_problem(seed, dtype):
    """Tight clusters far from zero, a far centroid, a far sample, and samples on the bisectors."""
    rng = np.random.default_rng(seed)
    n_clusters, n_features = rng.integers(2, 9), rng.choice([1, 3, 40])
    offset = 10.0 ** rng.uniform(-3, 6) * rng.normal(size=n_features)
    centroids = offset + 10.0 ** rng.uniform(-2, 2) * rng.normal(size=(n_clusters, n_features))
    if seed % 2:
        centroids[-1] = 10.0 ** rng.uniform(3, 9)
    X = centroids[rng.integers(n_clusters, size=40)]
    X += 10.0 ** rng.uniform(-3, 1) * rng.normal(size=X.shape)
    X[10:20] = (centroids[0] + centroids[1]) / 2
    X[3] = 1e7 if seed % 3 == 0 else X[3]
    return X.astype(dtype), centroids


@every_dtype
@pytest.mark.parametrize("seed", range(12))
def test_labels_are_those_of_rational_numbers(seed, dtype):
    X, centroids = hard_problem(seed, dtype)
    wanted = exactly(X, centroids)
    got = found(X, centroids)
    if dtype == "float32":
        assert np.array_equal(got, wanted)
    for row in np.flatnonzero(got != wanted):  # distances that tie except for rounding
        ours, theirs = (((X[row] - centroids[k]) ** 2).sum() for k in (got[row], wanted[row]))
        assert ours == pytest.approx(theirs, rel=1e-14)


@pytest.mark.parametrize("scale", [1e-44, 1e-38, 1e-30, 1e-23, 1e15])
def test_labels_of_float32_at_any_scale(scale):
    integers = np.random.default_rng(0).integers(-50, 50, size=(60, 2))
    X = (scale * integers).astype(np.float32)
    assert np.array_equal(found(X, X[:5].astype(float)), exactly(X, X[:5]))


@every_dtype
@pytest.mark.parametrize("n_clusters", [5, 310])
@pytest.mark.parametrize("n_features", [2, 40])
def test_labels_do_not_hang_on_the_rounding_of_products(n_clusters, n_features, dtype, monkeypatch):
    X, centroids = clusters(n_clusters, n_features=n_features)
    X = X.astype(dtype)
    wanted, product = found(X, centroids), np.matmul
    rng = np.random.default_rng(1)

    def perturbed(*arguments, **options):
        result = product(*arguments, **options)
        result *= 1 + rng.integers(-2, 3, result.shape) * np.finfo(result.dtype).eps
        return result

    monkeypatch.setattr(np, "matmul", perturbed)
    assert np.array_equal(found(X, centroids), wanted)


@every_dtype
@pytest.mark.parametrize("weighted", [False, True])
def test_sums_and_inertia_are_those_of_the_loop(weighted, dtype):
    X, centroids = clusters(6, n_features=3)
    X = (1e3 * centroids[3] + X).astype(dtype)
    centroids = 1e3 * centroids[3] + centroids
    weight = np.random.default_rng(0).exponential(size=len(X)) if weighted else np.ones(len(X))
    kernel = EStep(centroid_distances(centroids, np.dtype(float)))
    statistics = kernel(X, weight if weighted else None)
    labels, exact = cdist(X.astype(float), centroids).argmin(axis=1), X.astype(float)
    for k in range(6):
        own = labels == k
        assert statistics.n[k] == pytest.approx(weight[own].sum(), rel=1e-12)
        sums = statistics.first[k] + statistics.n[k] * statistics.origin[k]
        assert sums == pytest.approx(weight[own] @ exact[own], rel=1e-12)
    inertia = weight @ ((exact - centroids[labels]) ** 2).sum(axis=1)
    assert -2 * statistics.log_likelihood == pytest.approx(inertia, rel=1e-9)


@pytest.mark.parametrize("far", [0.0, 1e9])
def test_the_origin_is_zero_unless_the_centroids_lie_far_from_it(far):
    centroids = np.random.default_rng(0).normal(size=(10, 2000))
    centroids[0] += far  # one of them alone moves no origin
    assert not centroid_distances(centroids, np.dtype(float)).origin.any()
    centroids[:, 3] += 100  # sums of this feature in float32 would lose its digits
    assert centroid_distances(centroids, np.dtype(float)).origin[3] == pytest.approx(100, abs=1)
    assert centroid_distances(centroids + 20, np.dtype(float)).origin.min() > 10


@every_dtype
def test_a_column_of_ones_changes_no_label(dtype, monkeypatch):
    X, centroids = clusters(60)
    X = X.astype(dtype)
    labels = []
    for joined in (-np.inf, np.inf):
        monkeypatch.setattr("gmmkit.kernel.centroids._JOINED", joined)
        labels.append(found(X, centroids))
    assert np.array_equal(*labels)
    assert np.array_equal(labels[0][:50], exactly(X[:50], centroids))
