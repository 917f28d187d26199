"""GMMStats as an accumulator: what its sums are about may differ, what they mean may not."""

import pickle
from operator import add, iadd, mul, sub

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from recipes import every_structure
from reference import Structure, seen_moments

from gmmkit import GMMStats
from gmmkit.model.structures import make_structure

K, D = 2, 4
KINDS = every_structure(D)
every_kind = pytest.mark.parametrize("kind, block_size", KINDS)


def samples(seed=0):
    """Samples (N, D) in whole numbers and responsibilities (K, N) in quarters: sums are exact."""
    rng = np.random.default_rng(seed)
    R = rng.integers(0, 5, 20) / 4
    return rng.integers(-9, 10, (20, D)).astype(float), np.array([R, 1 - R])


def accumulated(kind, block_size, origin=None, seed=0):
    """Statistics about an origin (K, D), filled by the definition."""
    X, R = samples(seed)
    full = GMMStats(K, D, kind, block_size)
    origin = np.zeros((K, D)) if origin is None else np.array(origin, float)
    stats = GMMStats.of(full.structure, K, origin)
    about = X - origin[:, None]  # (K, N, D)
    products = np.einsum("kn,kni,knj->kij", R, about, about)
    stats.moments[:, 0] = R.sum(axis=1)
    stats.first[:] = np.einsum("kn,kni->ki", R, about)
    stack = products[:, full.structure.groups[:, :, None], full.structure.groups[:, None, :]]
    stats.second[:] = full.structure.pack(full.structure.share(stack))
    stats.t, stats.log_likelihood = 20, -50.0
    return stats


def about_zero(stats, seeds=(0,)):
    """n, sum_px and sum_pxx, of all samples together, by the definition."""
    parts = [samples(seed) for seed in seeds]
    n = sum(R.sum(axis=1) for _, R in parts)
    first = sum(R @ X for X, R in parts)
    second = sum(np.einsum("kn,ni,nj->kij", R, X, X) for X, R in parts)
    return n, first, seen_moments(second, Structure(stats.covariance_type, stats.block_size))


ORIGINS = [None, [[1, 2, 3, 4]] * 2, [[4, -5, 6, 1], [0, 8, -2, 3]]]
every_origin = pytest.mark.parametrize("origin", ORIGINS, ids=["zero", "one", "each its own"])


@every_kind
@every_origin
def test_what_users_see_is_about_zero(kind, block_size, origin):
    stats = accumulated(kind, block_size, origin)
    n, first, second = about_zero(stats)
    assert_array_equal(stats.n, n)
    assert_array_equal(stats.sum_px, first)
    assert_array_equal(stats.sum_pxx, second)


@every_kind
@every_origin
def test_adding_to_empty_statistics_takes_the_other_s_origin(kind, block_size, origin):
    other = accumulated(kind, block_size, origin)
    empty = GMMStats.of(other.structure, K, np.full((K, D), 7.0))
    for total in (empty + other, other + empty, sum([empty, other])):
        assert total == other
    assert_array_equal((empty + other).origin, other.origin)
    kept, empty_too = other.copy(), empty.copy()
    empty += other
    assert_array_equal(empty.origin, other.origin)
    assert_array_equal(empty.buffer, other.buffer)
    empty += other  # a buffer of its own
    assert other == kept
    assert empty == 2 * other
    other += empty_too
    assert other == kept
    assert_array_equal(other.origin, kept.origin)


@every_kind
@every_origin
def test_adding_about_another_origin_is_adding_samples(kind, block_size, origin):
    one, other = accumulated(kind, block_size, ORIGINS[1]), accumulated(kind, block_size, origin, 1)
    in_place = one.copy()
    in_place += other
    for total in (one + other, in_place):
        n, first, second = about_zero(total, (0, 1))
        assert_array_equal(total.origin, one.origin)
        assert_array_equal(total.n, n)
        assert_array_equal(total.sum_px, first)
        assert_array_equal(total.sum_pxx, second)
        assert (total.t, total.log_likelihood) == (40, -100)
    assert total - other == one
    assert (one + other) == (other + one)


@every_kind
@every_origin
def test_equality_looks_through_origins(kind, block_size, origin):
    one, other = accumulated(kind, block_size), accumulated(kind, block_size, origin)
    assert one == other
    assert other == one
    assert other.is_similar_to(one, rtol=0, atol=0)
    assert one.about(np.ones((K, D))) == other
    for at in range(one.buffer.size):
        changed = other.copy()
        changed.buffer[at] += 0.25
        assert changed != one
        assert one != changed
        assert not one.is_similar_to(changed, rtol=0, atol=1e-3)
    assert one != accumulated(kind, block_size, origin, seed=1)


def test_equality_is_of_statistics_of_one_shape_and_structure():
    assert GMMStats(K, D) != GMMStats(K + 1, D)
    assert GMMStats(K, D) != GMMStats(K, D + 1)
    assert GMMStats(K, D) != GMMStats(K, D, "spherical")
    assert GMMStats(K, D) != "statistics"
    assert not GMMStats(K, D).is_similar_to(GMMStats(K, D, "full"))


@every_kind
@every_origin
def test_reset_leaves_what_was_never_filled(kind, block_size, origin):
    stats, fresh = accumulated(kind, block_size, origin), GMMStats(K, D, kind, block_size)
    twin = stats.copy()
    stats.reset()
    assert stats == fresh
    assert not stats.buffer.any()
    assert_array_equal(stats.origin, np.zeros((K, D)))
    stats.sum_px[:] = 1.0  # about zero now: a view
    assert_array_equal(stats.first, np.ones((K, D)))
    assert twin == accumulated(kind, block_size, origin)


@every_kind
@every_origin
def test_resize_makes_empty_statistics_of_the_structure(kind, block_size, origin):
    stats = accumulated(kind, block_size, origin)
    n_features = D if isinstance(block_size, tuple) else 6  # sizes add up to the same
    stats.resize(5, n_features)
    assert stats == GMMStats(5, n_features, kind, block_size)
    assert repr(stats) == repr(GMMStats(5, n_features, kind, block_size))
    assert stats.shape == stats.sum_px.shape == stats.origin.shape == (5, n_features)
    assert not stats.buffer.any()
    assert not stats.origin.any()
    stats.resize(K, D)
    stats += accumulated(kind, block_size, origin)
    assert stats == accumulated(kind, block_size, origin)


def test_resize_that_cannot_be_changes_nothing():
    stats = accumulated("full", 2)
    for shape in ((K, 5), (0, D), (K, 0)):
        with pytest.raises(ValueError, match=r"block_size|n_gaussians|n_features"):
            stats.resize(*shape)
    assert stats == accumulated("full", 2)


@every_kind
@every_origin
def test_what_is_set_is_about_zero(kind, block_size, origin):
    stats, whole = accumulated(kind, block_size, origin, seed=1), accumulated(kind, block_size)
    n, first, second = about_zero(stats)
    stats.n, stats.sum_px, stats.sum_pxx = n, first, second
    assert stats == whole
    assert not stats.origin.any()
    again = accumulated(kind, block_size, origin, seed=1)
    again.init_fields(-50.0, 20, n, first, second)
    assert again == whole
    again.init_fields()
    assert again == GMMStats(K, D, kind, block_size)


@every_kind
@every_origin
@pytest.mark.parametrize("name", ["n", "sum_px", "sum_pxx"])
def test_setting_some_sums_leaves_the_others(name, kind, block_size, origin):
    stats, before = (accumulated(kind, block_size, origin) for _ in range(2))
    other = accumulated(kind, block_size, seed=1)
    setattr(stats, name, getattr(other, name))
    for field in ("t", "n", "sum_px", "sum_pxx", "log_likelihood"):
        assert_array_equal(
            getattr(stats, field), getattr(other if field == name else before, field)
        )


def test_overall_variance_is_that_of_the_samples():
    X, _ = samples()
    for kind, block_size in KINDS:
        for origin in ORIGINS:
            stats = accumulated(kind, block_size, origin)
            assert_allclose(stats.overall_variance(), X.var(axis=0), rtol=1e-12)
    with pytest.raises(ValueError, match="n is all zero"):
        GMMStats(K, D).overall_variance()


@pytest.mark.parametrize("n_gaussians", [1, K])
@every_kind
@every_origin
def test_pickles_keep_every_bit(kind, block_size, origin, n_gaussians):
    whole = accumulated(kind, block_size, origin)
    stats = GMMStats.of(whole.structure, n_gaussians, whole.origin[:n_gaussians])
    stats.buffer[:] = np.arange(stats.buffer.size)
    twin = pickle.loads(pickle.dumps(stats))
    assert_array_equal(twin.buffer, stats.buffer)
    assert_array_equal(twin.origin, stats.origin)
    assert repr(twin) == repr(stats)
    twin += stats
    assert twin == 2 * stats


def test_pickles_hold_one_origin_of_all_components_once():
    one, many = (GMMStats.of(make_structure("diag", D), 100, origin) for origin in (7.0, None))
    assert len(pickle.dumps(one)) < many.buffer.nbytes + 1000
    assert_array_equal(pickle.loads(pickle.dumps(one)).origin, np.full((100, D), 7.0))
    apart = many.about(np.arange(100.0)[:, None] * np.ones(D))
    assert len(pickle.dumps(apart)) > many.buffer.nbytes + 100 * D * 8


@every_kind
def test_similar_is_within_the_tolerances_of_numpy_s_allclose(kind, block_size):
    one = accumulated(kind, block_size)
    for factor, similar in ((1, True), (1 + 9e-6, True), (1 + 2e-5, False), (1 - 2e-5, False)):
        assert one.is_similar_to(factor * one) == similar
    for value, similar in ((0.9e-8, True), (1.2e-8, False), (-1.2e-8, False)):
        nothing = GMMStats(K, D, kind, block_size)
        nothing.buffer[:] = value
        assert GMMStats(K, D, kind, block_size).is_similar_to(nothing) == similar


@pytest.mark.parametrize("n_features", [1, 4])
def test_more_sums_than_can_be_addressed_are_refused(n_features):
    with pytest.raises(ValueError, match="n_gaussians and n_features are too large"):
        GMMStats(2**61, n_features)


def test_bytes_are_those_of_sums_and_origin():
    stats = GMMStats(2, 3, "diag")  # 1 + 3 + 3 sums of each component; t and the log-likelihood
    assert stats.nbytes == stats.buffer.nbytes + 2 * 3 * 8
    assert stats.buffer.nbytes >= 2 * 7 * 8


@pytest.mark.parametrize("combine", [add, iadd, sub], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "other", [1, -0.5, np.float32(2), "0", None, np.zeros((K, D)), [0]], ids=str
)
def test_only_statistics_and_zero_can_be_added(combine, other):
    for pair in ((accumulated("diag", None), other), (other, accumulated("diag", None))):
        with pytest.raises(TypeError):
            combine(*pair)


@pytest.mark.parametrize("zero", [0, 0.0, np.int64(0)], ids=repr)
def test_adding_zero_copies(zero):
    stats = accumulated("diag", None)
    for total in (stats + zero, zero + stats):
        assert total == stats
        assert not np.shares_memory(total.buffer, stats.buffer)


@pytest.mark.parametrize("factor", ["2", None, 2j, np.ones(2), accumulated("diag", None)], ids=str)
def test_statistics_are_multiplied_by_real_numbers_only(factor):
    for pair in ((accumulated("diag", None), factor), (factor, accumulated("diag", None))):
        with pytest.raises(TypeError):
            mul(*pair)


@every_kind
def test_what_is_shown_makes_empty_statistics_of_the_structure(kind, block_size):
    shown = eval(repr(accumulated(kind, block_size)), {"GMMStats": GMMStats})
    assert shown == GMMStats(K, D, kind, block_size)
