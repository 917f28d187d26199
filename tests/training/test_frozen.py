"""Components whose means, covariances or weights are frozen, one by one."""

import numpy as np
import pytest
from covering import covering
from material import (
    FLAGS,
    STRUCTURES,
    D,
    K,
    assert_same_mixture,
    disturbed,
    learned,
    machine,
    machine_at,
    map_machine,
    random_data,
    random_mixture,
    random_weights,
)
from numpy.testing import assert_allclose, assert_array_equal
from reference import FORMULAS, Structure, about, constrain, m_step_ml, statistics

from gmmkit import Blocks, GMMMachine
from gmmkit.files.hdf5 import write

DIAG = Structure("diag")
SEPARATE = [each for each in STRUCTURES if not FORMULAS[each.covariance_type].shared]
SHARED = [each for each in STRUCTURES if FORMULAS[each.covariance_type].shared]
MASKS = [
    np.array(mask) for mask in ([True, False, False], [False, True, True], [True, False, True])
]


def problem(structure, n_samples=300):
    truth = random_mixture(structure)
    return random_data(truth, n_samples), disturbed(truth, structure)


def textbook_step(stats, old, structure, update_weights, update_means, update_variances):
    """The M-step of those components that are updated; weights share what the others leave."""
    ml = m_step_ml(stats, old, structure)
    means = np.where(update_means[:, None], ml.means, old.means)
    scatter = [
        about(stats.sum_px[k] / stats.n[k], stats.sum_pxx[k] / stats.n[k], means[k])
        for k in range(K)
    ]
    covariances = constrain(np.array(scatter), stats.n, structure)
    rest = 1 - old.weights[~update_weights].sum()
    shares = stats.n / stats.n[update_weights].sum()
    return old._replace(
        weights=np.where(update_weights, rest * shares, old.weights),
        means=means,
        covariances=np.where(update_variances[:, None, None], covariances, old.covariances),
    )


@covering("structure, weights, means, variances", SEPARATE, MASKS, MASKS, MASKS)
def test_step_is_the_textbook_s(structure, weights, means, variances):
    X, start = problem(structure)
    masks = dict(zip(FLAGS, (weights, means, variances), strict=True))
    w = random_weights(len(X))
    actual = learned(machine(start, structure, **masks).fit(X, sample_weight=w), structure)
    expected = textbook_step(statistics(X, start, w), start, structure, **masks)
    assert_same_mixture(actual, expected, rtol=1e-9)


@pytest.mark.parametrize("structure", SHARED, ids=str)
def test_means_and_weights_are_frozen_where_the_covariance_is_shared(structure):
    X, start = problem(structure)
    mask = MASKS[0]
    masks = {"update_means": mask, "update_weights": mask}
    one = learned(machine(start, structure, **masks).fit(X), structure)
    stats = statistics(X, start)
    expected = textbook_step(stats, start, structure, mask, mask, np.array([True] * K))
    assert_same_mixture(one, expected, rtol=1e-9)


@pytest.mark.parametrize("structure", SHARED, ids=str)
def test_a_shared_covariance_has_one_answer(structure):
    X, start = problem(structure)
    with pytest.raises(ValueError, match="update_variances must be True or False with covariance_"):
        machine(start, structure, update_variances=MASKS[0]).fit(X)
    same = machine(start, structure, update_variances=[False] * K).fit(X)
    assert_array_equal(same.covariances_, machine_at(start, structure).covariances_)


@covering("structure, acceleration, weights, others", STRUCTURES, [None, "squarem"], MASKS, MASKS)
def test_likelihood_never_falls_and_what_is_frozen_stays_bit_for_bit(
    structure, acceleration, weights, others
):
    X, start = problem(structure)
    shared = FORMULAS[structure.covariance_type].shared
    masks = {"update_weights": weights, "update_means": others}
    masks["update_variances"] = True if shared else others[::-1]
    gmm = machine(start, structure, steps=25, acceleration=acceleration, **masks).fit(X)
    assert np.diff(gmm.lower_bounds_).min() > -1e-9
    assert gmm.lower_bounds_[-1] > gmm.lower_bounds_[0] + 0.01
    begun = machine_at(start, structure)
    assert_array_equal(gmm.weights_[~weights], begun.weights_[~weights])
    assert_array_equal(gmm.means_[~others], begun.means_[~others])
    assert gmm.weights_.sum() == pytest.approx(1, abs=1e-14)
    if weights.sum() > 1:
        assert (gmm.weights_[weights] != begun.weights_[weights]).all()
    assert (gmm.means_[others] != begun.means_[others]).all()
    if not shared:
        frozen = ~masks["update_variances"]
        assert_array_equal(gmm.covariances_[frozen], begun.covariances_[frozen])


@pytest.mark.parametrize("structure", STRUCTURES, ids=str)
def test_squarem_takes_no_more_steps_with_frozen_components(structure):
    X, start = problem(structure, n_samples=1500)
    steps = []
    for acceleration in (None, "squarem"):
        gmm = machine(start, structure, 2000, acceleration=acceleration, update_weights=MASKS[1])
        gmm.set_params(convergence_threshold=1e-9, update_means=MASKS[0]).fit(X)
        steps.append((gmm.lower_bound_, gmm.n_iter_))
    (plain, n_plain), (fast, n_fast) = steps
    assert fast == pytest.approx(plain, abs=1e-5)
    assert n_fast <= n_plain


def test_frozen_parts_maximise_the_likelihood_of_what_is_left():
    # a weight that is frozen: no shift between the two others raises the likelihood
    X, start = problem(DIAG)
    mask = np.array([True, False, True])
    gmm = machine(start, DIAG, steps=500, update_weights=mask, update_means=False)
    gmm.set_params(update_variances=False).fit(X)
    best = gmm.score(X)
    for shift in (1e-3, -1e-3):
        weights = gmm.weights_ + shift * np.array([1, 0, -1])
        other = machine_at(start._replace(weights=weights), DIAG)
        assert other.score(X) < best


# ---------------------------------------------------------------------------------------------- MAP


@pytest.mark.parametrize("structure", SEPARATE, ids=str)
@pytest.mark.parametrize("kind", ["reynolds", "gauvain"])
@pytest.mark.parametrize("mask", MASKS, ids=str)
def test_frozen_components_keep_the_prior(structure, kind, mask):
    X, prior = problem(structure)
    setting = {"map_prior": kind, "map_relevance_factor": 9.0}
    free = learned(map_machine(prior, structure, 1, **setting).fit(X), structure)
    masks = dict.fromkeys(FLAGS, mask)
    frozen = learned(map_machine(prior, structure, 1, **setting, **masks).fit(X), structure)
    begun = learned(machine_at(prior, structure), structure)
    for name in ("means", "covariances"):
        assert_array_equal(getattr(frozen, name)[~mask], getattr(begun, name)[~mask])
        assert_allclose(getattr(frozen, name)[mask], getattr(free, name)[mask], rtol=1e-12)
    assert_array_equal(frozen.weights[~mask], begun.weights[~mask])
    shares = free.weights[mask] / free.weights[mask].sum()
    assert_allclose(frozen.weights[mask], shares * (1 - begun.weights[~mask].sum()), rtol=1e-12)


# --------------------------------------------------------------------------------- floors, settings


def test_floors_raise_what_is_updated_only():
    X, start = problem(DIAG)
    mask = np.array([True, False, False])
    high = np.full(D, 50.0)
    gmm = machine(start, DIAG, steps=2, variance_thresholds=high, update_variances=mask)
    with pytest.warns(UserWarning, match="at the floor"):
        gmm.fit(X)
    assert_array_equal(gmm.covariances_[0], 50)
    assert_array_equal(gmm.covariances_[1:], machine_at(start, DIAG).covariances_[1:])


@pytest.mark.parametrize("floor", [0.3, 1 / 3])
def test_a_floor_of_weights_leaves_frozen_weights_alone(floor):
    X, start = problem(DIAG)
    start = start._replace(weights=np.array([0.6, 0.3, 0.1]))
    mask = np.array([False, True, True])
    gmm = machine(start, DIAG, steps=3, weight_floor=floor, update_weights=mask).fit(X)
    # the two others cannot reach the floor: they share the rest equally
    assert_allclose(gmm.weights_, [0.6, 0.2, 0.2], rtol=1e-12)
    gmm.set_params(weight_floor=0.05).fit(X)
    assert gmm.weights_[0] == 0.6
    assert gmm.weights_.min() >= 0.05


def test_a_single_weight_that_is_updated_has_no_choice():
    X, start = problem(DIAG)
    gmm = machine(start, DIAG, steps=3, update_weights=[False, False, True]).fit(X)
    assert_allclose(gmm.weights_, start.weights, rtol=1e-14)


@pytest.mark.parametrize("value", [[True] * K, np.ones(K, bool), (True,) * K])
def test_equal_answers_for_all_components_are_one_answer(value):
    X, start = problem(DIAG)
    plain = machine(start, DIAG, steps=3).fit(X)
    one_by_one = machine(start, DIAG, steps=3, **dict.fromkeys(FLAGS, value)).fit(X)
    assert one_by_one == plain
    none = machine(start, DIAG, steps=3, **dict.fromkeys(FLAGS, [False] * K)).fit(X)
    assert none == machine_at(start, DIAG)


def test_m_step_and_partial_fit_freeze_them_too():
    X, start = problem(DIAG)
    masks = dict.fromkeys(FLAGS, MASKS[0])
    begun, by_hand = machine_at(start, DIAG), machine_at(start, DIAG).set_params(**masks)
    by_hand.m_step(begun.e_step(X))
    assert by_hand.is_similar_to(machine(start, DIAG, **masks).fit(X), rtol=1e-10)
    streamed = machine(start, DIAG, **masks)
    for batch in np.array_split(X, 3):
        streamed.partial_fit(batch)
    assert_array_equal(streamed.means_[1:], begun.means_[1:])
    assert_array_equal(streamed.weights_[1:], begun.weights_[1:])
    assert (streamed.means_[0] != begun.means_[0]).all()


def test_blocks_give_the_same_frozen_model():
    X, start = problem(DIAG)
    masks = {"update_weights": MASKS[0], "update_means": MASKS[1], "update_variances": MASKS[2]}
    whole = machine(start, DIAG, steps=4, **masks).fit(X)
    parts = machine(start, DIAG, steps=4, **masks).fit(Blocks(np.array_split(X, 7)))
    assert parts.is_similar_to(whole, rtol=1e-10)


def test_halves_and_merged_components_inherit_what_is_updated():
    gmm = GMMMachine(3, update_means=[True, False, False], update_weights=np.array([0, 1, 1]) > 0)
    gmm.means, gmm.weights = np.array([[0.0], [50.0], [51.0]]), [0.5, 0.3, 0.2]
    grown = gmm.grow(4)
    assert grown.update_means.tolist() == [True, False, False, True]
    assert grown.update_weights.tolist() == [False, True, True, False]
    merged = gmm.merge(2)
    assert merged.update_means.tolist() == [True, False]
    assert merged.update_weights.tolist() == [False, True]
    assert merged.update_variances == "auto"
    assert gmm.merge(1).update_means.tolist() == [True]


def test_checkpoint_of_other_frozen_components_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("gmmkit.training.checkpoint._SECONDS", 0.0)
    X, start = problem(DIAG)
    written = []

    def write_twice(*args):
        write(*args)
        written.append(args)
        if len(written) == 2:
            raise KeyboardInterrupt

    def frozen(mask, **options):
        return machine(start, DIAG, steps=6, update_means=mask, **options)

    path = tmp_path / "fit.h5"
    with monkeypatch.context() as patch:
        patch.setattr("gmmkit.training.checkpoint.write", write_twice)
        with pytest.raises(KeyboardInterrupt):
            frozen(MASKS[0], checkpoint=path).fit(X)
    with pytest.raises(ValueError, match="other settings or other data"):
        frozen(MASKS[1], checkpoint=path).fit(X)
    assert frozen(MASKS[0], checkpoint=path).fit(X) == frozen(MASKS[0]).fit(X)
