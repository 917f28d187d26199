"""Training that starts from responsibilities or labels of the samples."""

import dask.array as da
import h5py
import numpy as np
import pytest
from material import (
    D,
    K,
    N,
    assert_identical_model,
    assert_same_mixture,
    assert_same_model,
    every_structure,
    learned,
    machine_at,
    map_machine,
    problem,
    random_weights,
)
from numpy.testing import assert_allclose, assert_array_equal
from reference import (
    Structure,
    m_step_ml,
    m_step_reynolds,
    responsibilities,
    statistics,
)
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from gmmkit import Blocks, GMMMachine, GMMStats, select

DIAG = Structure("diag")
at_start = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def kind_of(structure):
    return {"covariance_type": structure.covariance_type, "block_size": structure.block_size}


def starting(R, structure=DIAG, **options):
    """A machine that starts from responsibilities, without a floor."""
    options = {"variance_thresholds": 0.0, "convergence_threshold": None} | options
    return GMMMachine(K, responsibilities_init=R, **kind_of(structure), **options)


@every_structure
@pytest.mark.parametrize("weighted", [False, True])
def test_start_is_the_m_step_of_the_textbook(structure, weighted):
    X, mixture = problem(structure)
    w = random_weights() if weighted else None
    R = responsibilities(X, mixture)
    gmm = starting(R, structure).initialize_gaussians(X, sample_weight=w)
    expected = m_step_ml(statistics(X, mixture, w), mixture, structure)
    assert_same_mixture(learned(gmm, structure), expected, rtol=1e-9)


@every_structure
def test_training_from_a_model_s_responsibilities_is_one_step_behind_its_training(structure):
    X, mixture = problem(structure)
    first = machine_at(mixture, structure)
    plain = machine_at(mixture, structure).set_params(max_fitting_steps=4).fit(X)
    from_R = starting(first.predict_proba(X), structure, max_fitting_steps=3).fit(X)
    assert_same_model(from_R, plain, rtol=1e-8)
    assert_allclose(from_R.lower_bounds_, plain.lower_bounds_[1:], rtol=1e-10)
    assert np.diff(from_R.lower_bounds_).min() > -1e-9


@at_start
def test_labels_start_from_their_groups():
    X, _ = problem(DIAG)
    labels = np.arange(N) % K
    labels[:10] = -1
    gmm = starting(labels, max_fitting_steps=0).fit(X)
    for k in range(K):
        assert_allclose(gmm.means_[k], X[labels == k].mean(axis=0), rtol=1e-12, atol=1e-14)
        assert_allclose(gmm.covariances_[k], X[labels == k].var(axis=0), rtol=1e-12)
    assert_allclose(gmm.weights_, np.bincount(labels[10:]) / (N - 10))


def test_labels_lead_to_the_mixture_of_scikit_learn_from_the_same_labels():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(c, 1, (80, 2)) for c in (0, 2, 5)])
    labels = np.repeat([0, 1, 2], 80)
    means = np.stack([X[labels == k].mean(axis=0) for k in range(3)])
    covariances = np.stack([np.cov(X[labels == k].T, bias=True) for k in range(3)])
    theirs = GaussianMixture(
        3,
        reg_covar=0,
        tol=0,
        max_iter=7,
        weights_init=[1 / 3] * 3,
        means_init=means,
        precisions_init=np.linalg.inv(covariances),
    )
    with pytest.warns(ConvergenceWarning):
        theirs.fit(X)
    ours = starting(labels, Structure("full"), max_fitting_steps=7).fit(X)
    assert_allclose(ours.means_, theirs.means_, rtol=1e-9)
    assert_allclose(ours.covariances_, theirs.covariances_, rtol=1e-8)


@at_start
def test_parts_of_a_start_that_are_given_win():
    X, mixture = problem(DIAG)
    R, given = responsibilities(X, mixture), mixture.means + 0.25
    gmm = starting(R, means_init=given, max_fitting_steps=0).fit(X)
    assert_array_equal(gmm.means_, given)
    assert_allclose(gmm.weights_, R.mean(axis=0), rtol=1e-12)


@at_start
def test_component_without_samples_can_still_be_used():
    X, _ = problem(DIAG)
    gmm = starting(np.arange(N) % 2, max_fitting_steps=0).fit(X)
    assert_allclose(gmm.weights_[2], 1 / (N + 1))
    assert_allclose(gmm.means_[2], X.mean(axis=0))
    assert_allclose(gmm.covariances_[2], X.var(axis=0))
    gmm.set_params(max_fitting_steps=5).fit(X)
    assert gmm.weights_.min() > 0.01


def test_map_starts_by_adapting_to_the_assignments():
    X, prior = problem(DIAG)
    other = prior._replace(means=prior.means + 0.5)
    R = responsibilities(X, other)
    setting = {"map_relevance_factor": 7.0, "responsibilities_init": R}
    adapted = map_machine(prior, DIAG, 1, **setting).initialize_gaussians(X)
    stats = statistics(X, other)  # as if the E-step had been made with the other mixture
    expected = m_step_reynolds(stats, prior, DIAG, relevance_factor=7.0)
    assert_same_mixture(learned(adapted, DIAG), expected, rtol=1e-9)


def test_every_source_starts_alike(tmp_path):
    X, mixture = problem(DIAG)
    R = responsibilities(X, mixture)
    expected = starting(R, max_fitting_steps=3).fit(X)
    lazy_X, lazy_R = da.from_array(X, chunks=(17, D)), da.from_array(R, chunks=(40, K))
    unknown = [each[each[:, 0] > -np.inf] for each in (lazy_X, da.from_array(R, chunks=(17, K)))]
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["X"], file["R"] = X, R
        pairs = [
            (X, lazy_R),
            (X, file["R"]),
            (lazy_X, lazy_R),
            (lazy_X, R),
            unknown,
            (file["X"], file["R"]),
            (file["X"], R),
            (Blocks([X[:7], X[7:]]), R),
            (Blocks([X[:7], X[7:]]), Blocks([R[:7], R[7:]])),
        ]
        for samples, given in pairs:
            assert_same_model(starting(given, max_fitting_steps=3).fit(samples), expected, 1e-9)


def test_clones_and_copies_keep_the_same_responsibilities(tmp_path):
    X, mixture = problem(DIAG)
    with h5py.File(tmp_path / "R.h5", "w") as file:
        file["R"] = responsibilities(X, mixture)
        gmm = starting(file["R"], max_fitting_steps=2)
        assert clone(gmm).responsibilities_init is gmm.responsibilities_init
        assert_identical_model(clone(gmm).fit(X), gmm.fit(X))
        for made in (gmm.grow(4), gmm.merge(2)):
            assert made.responsibilities_init is None


def test_fit_leaves_responsibilities_alone():
    X, mixture = problem(DIAG)
    R = responsibilities(X, mixture)
    before = R.copy()
    R.setflags(write=False)
    gmm = starting(R, max_fitting_steps=2).fit(X)
    assert gmm.responsibilities_init is R
    assert_array_equal(R, before)


def test_files_keep_no_responsibilities(tmp_path):
    X, mixture = problem(DIAG)
    gmm = starting(responsibilities(X, mixture), max_fitting_steps=2).fit(X)
    gmm.save(tmp_path / "gmm.h5")
    loaded = GMMMachine.from_hdf5(tmp_path / "gmm.h5")
    assert loaded == gmm
    assert loaded.responsibilities_init is None


def test_warm_start_goes_on_from_the_model():
    X, mixture = problem(DIAG)
    gmm = starting(responsibilities(X, mixture), max_fitting_steps=2, warm_start=True).fit(X)
    expected = gmm.m_step(gmm.e_step(X)).means_.copy()
    again = starting(responsibilities(X, mixture), max_fitting_steps=2, warm_start=True).fit(X)
    assert_allclose(again.set_params(max_fitting_steps=1).fit(X).means_, expected, rtol=1e-12)


def test_checkpoint_continues_with_responsibilities_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("gmmkit.training.checkpoint._SECONDS", 0.0)
    X, mixture = problem(DIAG)
    path = tmp_path / "fit.h5"
    with h5py.File(tmp_path / "R.h5", "w") as file:
        file["R"] = responsibilities(X, mixture)
        gmm = starting(file["R"], max_fitting_steps=6, checkpoint=path)
        with monkeypatch.context() as patch:
            patch.setattr("gmmkit.training.loop.log", stops_at(4))
            with pytest.raises(KeyboardInterrupt):
                gmm.fit(X)
        assert path.exists()
        with pytest.raises(ValueError, match="other settings or other data"):
            clone(gmm).set_params(responsibilities_init=None).fit(X)
        expected = starting(file["R"], max_fitting_steps=6).fit(X)
        assert_identical_model(gmm.fit(X), expected)


def stops_at(step):
    """A log that ends the fit."""
    lines = []

    def log(line, aloud):
        lines.append(line)
        if sum("step" in each for each in lines) == step:
            raise KeyboardInterrupt

    return log


def test_start_of_other_samples_is_refused():
    X, mixture = problem(DIAG)
    R = responsibilities(X, mixture)
    with pytest.raises(ValueError, match="responsibilities_init has 89 rows, but X has 90 rows"):
        starting(R[1:]).fit(X)
    with pytest.raises(ValueError, match="responsibilities_init has 2 columns, expected n_gauss"):
        starting(R[:, :2]).fit(X)
    with pytest.raises(ValueError, match="responsibilities_init assigns no sample"):
        starting(np.full(N, -1)).fit(X)
    with pytest.raises(ValueError, match="must hold labels from 0 to 2, or -1 for none, got 3"):
        starting(np.arange(N) % 4).fit(X)
    with pytest.raises(ValueError, match="responsibilities_init"):
        select(X, K, estimator=starting(R))


def test_responsibilities_of_statistics_and_of_a_fit_agree():
    X, mixture = problem(DIAG)
    R = responsibilities(X, mixture)
    made = GMMMachine(K, variance_thresholds=0.0).m_step(GMMStats.from_responsibilities(X, R))
    assert_same_model(starting(R).initialize_gaussians(X), made, rtol=1e-14)
