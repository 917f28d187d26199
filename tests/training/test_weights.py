"""Sample weights: whole ones equal repeated rows, zeros dropped ones, whatever takes them."""

import dask.array as da
import h5py
import numpy as np
import pytest
from covering import covering
from material import (
    STRUCTURES,
    disturbed,
    every_structure,
    machine,
    machine_at,
    map_machine,
    random_data,
    random_mixture,
)
from numpy.testing import assert_allclose

from gmmkit import Blocks, GMMMachine, KMeansMachine

N = 90
COUNTS = np.random.default_rng(5).integers(0, 4, N)

SOURCES = {
    "numpy": lambda X, w, folder: (X, w),
    "integers": lambda X, w, folder: (X, w.astype(int)),
    "lists": lambda X, w, folder: (X.tolist(), w.tolist()),
    "dask": lambda X, w, folder: (da.from_array(X, chunks=(40, 4)), da.from_array(w, chunks=40)),
    "dask, chunked otherwise": lambda X, w, folder: (
        da.from_array(X, chunks=(40, -1)),
        da.from_array(w, chunks=33),
    ),
    "dask, weights in memory": lambda X, w, folder: (da.from_array(X, chunks=(40, -1)), w),
    "weights on dask": lambda X, w, folder: (X, da.from_array(w, chunks=40)),
    "dask of unknown length": lambda X, w, folder: _unknown(X, w),
    "Blocks": lambda X, w, folder: (
        Blocks([(X[:1], w[:1]), (X[1:55], w[1:55]), (X[55:], w[55:])]),
        None,
    ),
    "HDF5": lambda X, w, folder: (_stored(folder, X), w),
}


def _unknown(X, w):
    x, w = da.from_array(X, chunks=(40, -1)), da.from_array(w, chunks=40)
    everything = da.ones(N, chunks=40, dtype=bool)
    return x[everything], w[everything]


def _stored(folder, X):
    return h5py.File(folder / "X.h5", "w").create_dataset("X", data=X, chunks=(7, 2))


def parameters(gmm):
    return [gmm.weights_, gmm.means_, gmm.covariances_]


def sums(stats):
    return [stats.t, stats.n, stats.sum_px, stats.sum_pxx, stats.log_likelihood]


def _streamed(structure, start, X, w):
    gmm = machine(start, structure)
    for _ in range(3):
        gmm.partial_fit(X, sample_weight=w)
    return [*parameters(gmm), gmm.n_samples_seen_]


def _adapted(**options):
    def adapt(structure, start, X, w):
        return parameters(map_machine(start, structure, 3, **options).fit(X, sample_weight=w))

    return adapt


# what takes weights: a function of a structure, a start, X and w, and the numbers that it learns
LEARNERS = {
    "fit": lambda structure, start, X, w: parameters(
        machine(start, structure, steps=3).fit(X, sample_weight=w)
    ),
    "fit, accelerated": lambda structure, start, X, w: parameters(
        machine(start, structure, steps=4, acceleration="squarem").fit(X, sample_weight=w)
    ),
    "fit, means given": lambda structure, start, X, w: parameters(
        machine(start, structure, steps=2)
        .set_params(weights_init=None, covariances_init=None)
        .fit(X, sample_weight=w)
    ),
    "fit, grown": lambda structure, start, X, w: parameters(
        machine_at(start, structure).grow(5).set_params(max_fitting_steps=2).fit(X, sample_weight=w)
    ),
    "relevance factor": _adapted(map_relevance_factor=4),
    "fixed alpha": _adapted(map_relevance_factor=None, map_alpha=0.3),
    "gauvain": _adapted(map_prior="gauvain", map_relevance_factor=16),
    "partial_fit": _streamed,
    "e_step": lambda structure, start, X, w: sums(
        machine_at(start, structure).e_step(X, sample_weight=w)
    ),
    "score": lambda structure, start, X, w: [
        machine_at(start, structure).score(X, sample_weight=w)
    ],
}


def _k_means(init_method, steps=5, n_clusters=4):
    def learn(start, X, w):
        init = start.means if init_method is None else init_method
        km = KMeansMachine(
            len(init) if init_method is None else n_clusters,
            init_method=init,
            max_iter=steps,
            convergence_threshold=None,
        ).fit(X, sample_weight=w)
        return [
            *(km.centroids_, km.inertia_, km.counts_, km.average_min_distance),
            km.score(X, sample_weight=w),
            *km.get_variances_and_weights_for_each_cluster(X, sample_weight=w),
        ]

    return learn


CLUSTERERS = {"given": _k_means(None), "lbg": _k_means("lbg"), "lbg alone": _k_means("lbg", 0)}


def problem(structure=STRUCTURES[0]):
    truth = random_mixture(structure)
    return random_data(truth, N), disturbed(truth, structure)


def assert_all_close(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        assert_allclose(one, other, rtol=1e-9, atol=1e-9 * np.abs(other).max())


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("learner", LEARNERS)
def test_weights_repeat_rows_on_any_source(learner, source, tmp_path):
    structure = STRUCTURES[0]
    X, start = problem(structure)
    X_there, w = SOURCES[source](X, COUNTS.astype(float), tmp_path)
    expected = LEARNERS[learner](structure, start, np.repeat(X, COUNTS, axis=0), None)
    assert_all_close(LEARNERS[learner](structure, start, X_there, w), expected)


@pytest.mark.parametrize("learner", LEARNERS)
@every_structure
def test_weights_repeat_rows_of_any_structure(structure, learner):
    X, start = problem(structure)
    expected = LEARNERS[learner](structure, start, np.repeat(X, COUNTS, axis=0), None)
    assert_all_close(LEARNERS[learner](structure, start, X, COUNTS), expected)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("clusterer", CLUSTERERS)
def test_weights_repeat_rows_of_k_means(clusterer, source, tmp_path):
    X, start = problem()
    X_there, w = SOURCES[source](X, COUNTS.astype(float), tmp_path)
    expected = CLUSTERERS[clusterer](start, np.repeat(X, COUNTS, axis=0), None)
    assert_all_close(CLUSTERERS[clusterer](start, X_there, w), expected)


@covering(
    "source, init_method, n_clusters", SOURCES, ["k-means||", "k-means++", "random", "lbg"], [3, 4]
)
def test_rows_without_weight_start_nothing(n_clusters, init_method, source, tmp_path):
    X, _ = problem()
    X[COUNTS == 0] += 1e6
    X_there, w = SOURCES[source](X, COUNTS.astype(float), tmp_path)
    for seed in range(2):
        trainer = KMeansMachine(n_clusters, init_method=init_method, random_state=seed)
        assert np.abs(trainer.fit(X_there, sample_weight=w).centroids_).max() < 1e3
        gmm = GMMMachine(n_clusters, k_means_trainer=trainer, convergence_threshold=0.1)
        gmm.fit(X_there, sample_weight=w)
        assert np.abs(gmm.means_).max() < 1e3


@pytest.mark.parametrize("source", SOURCES)
def test_rows_without_weight_change_nothing(source, tmp_path):
    # not even where the default start looks for clusters: the rest keeps its random numbers
    X, start = problem()
    w = (COUNTS > 0).astype(float)
    strange = X + 1e3 * (1 - w)[:, None]
    there, weight = SOURCES[source](strange, w, tmp_path)
    expected = GMMMachine(3, random_state=2).fit(X, sample_weight=w)
    actual = GMMMachine(3, random_state=2).fit(there, sample_weight=weight)
    if source != "dask of unknown length":  # whose rows have no numbers
        assert_all_close(parameters(actual), parameters(expected))
    adapt = _adapted(map_relevance_factor=4)
    expected = adapt(STRUCTURES[0], start, X[COUNTS > 0], None)
    assert_all_close(adapt(STRUCTURES[0], start, there, weight), expected)
