"""Stepwise EM on streams of batches."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference import FORMULAS, Mixture, Structure, m_step_ml, statistics

from gmmkit import GMMMachine
from gmmkit.model.structures import COVARIANCE_TYPES

K, D = 3, 2
START = {
    "means_init": [[-2.0, 0.0], [0.0, 2.0], [2.0, 0.0]],
    "weights_init": [0.3, 0.3, 0.4],
    "covariances_init": np.ones((K, D)),
}


def batches(count, size=200):
    rng = np.random.default_rng(0)
    centres = np.array([[-3.0, 0.0], [0.0, 3.0], [3.0, 0.0]])
    for _ in range(count):
        yield centres[rng.integers(K, size=size)] + rng.normal(size=(size, D))


def test_steps_are_those_of_the_paper():
    machine = GMMMachine(K, variance_thresholds=0, **START)
    mixture = Mixture(
        np.array(START["weights_init"]),
        np.array(START["means_init"]),
        np.tile(np.eye(D), (K, 1, 1)),
    )
    running = None
    for t, X in enumerate(batches(4)):
        machine.partial_fit(X, kappa=0.6)
        stats = statistics(X, mixture)
        share = [np.asarray(part) / stats.t for part in stats]
        step = (t + 2) ** -0.6
        if running is None:
            running = share
        else:
            running = [
                (1 - step) * old + step * new for old, new in zip(running, share, strict=True)
            ]
        mixture = m_step_ml(type(stats)(*running), mixture, Structure("diag"))
        assert_allclose(machine.means_, mixture.means, rtol=1e-9)
        assert_allclose(machine.weights_, mixture.weights, rtol=1e-9)
        assert_allclose(
            machine.covariances_, np.diagonal(mixture.covariances, axis1=1, axis2=2), rtol=1e-9
        )
    assert (machine.n_batches_seen_, machine.n_samples_seen_) == (4, 800)


def test_one_pass_comes_near_batch_em():
    data = list(batches(60))
    X = np.concatenate(data)
    stream = GMMMachine(K, **START)
    for batch in data:
        stream.partial_fit(batch)
    assert stream.score(X) > GMMMachine(K, **START).fit(X).score(X) - 0.01


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_every_structure_streams(kind):
    machine = GMMMachine(K, covariance_type=kind)
    scores = []
    for X in batches(10):
        scores.append(machine.partial_fit(X).score(X))
    assert np.isfinite(scores).all()
    fitted = GMMMachine(K, covariance_type=kind).fit(X)
    order = np.argsort(fitted.means_[:, 0])[np.argsort(np.argsort(machine.means_[:, 0]))]
    fitted.means_, fitted.weights_ = fitted.means_[order], fitted.weights_[order]
    if not FORMULAS[kind].shared:
        fitted.covariances_ = fitted.covariances_[order]
    assert machine.is_similar_to(fitted, rtol=0.5, atol=0.5)


def test_speaker_of_a_stream_leaves_its_prior_slowly():
    ubm = GMMMachine(K, **START).fit(np.concatenate(list(batches(5))))
    speaker = GMMMachine(trainer="map", ubm=ubm)
    moved = [
        np.abs(speaker.partial_fit(X + 0.5).means_ - ubm.means_).mean() for X in batches(5, size=6)
    ]
    assert moved[0] < moved[-1] < 0.6


def test_fit_forgets_the_stream():
    X, Y = batches(2)
    machine = GMMMachine(K, **START).partial_fit(X).fit(Y)
    assert machine == GMMMachine(K, **START).fit(Y)
    assert not hasattr(machine, "n_batches_seen_")


def test_a_batch_that_fails_leaves_the_stream_as_it_was():
    X, Y = batches(2)
    machine = GMMMachine(K, **START).partial_fit(X)
    before = machine.means_.copy()
    with pytest.raises(ValueError, match="NaN"):
        machine.partial_fit(np.full((5, D), np.nan))
    with pytest.raises(ValueError, match="3 features"):
        machine.partial_fit(np.ones((5, 3)))
    assert_array_equal(machine.means_, before)
    assert machine.partial_fit(Y).n_batches_seen_ == 2


@pytest.mark.parametrize("kappa", [0.5, 1.1, -1])
def test_bad_decay_is_refused(kappa):
    with pytest.raises(ValueError, match="kappa"):
        GMMMachine(K).partial_fit(next(batches(1)), kappa=kappa)
