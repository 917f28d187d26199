"""Contributions of features: they add up, and are the Shapley values of the marginals."""

from itertools import combinations
from math import factorial

import numpy as np
import pytest
from material import every_structure, machine, machine_at, problem, random_data, random_mixture
from numpy.testing import assert_allclose
from recipes import every_structure as structures
from scipy.stats import norm

from gmmkit import GMMMachine
from gmmkit.kernel.contributions import Contributions, orders_of


def contributions(machine, X, most=24, seed=0):
    orders = orders_of(X.shape[1], most, np.random.RandomState(seed))
    return Contributions(machine.parameters_, orders)(X)


def shapley(machine, X):
    """Shapley's own formula: the worth of all sets of features, by the mixture's marginals."""
    D = X.shape[1]
    worth = {(): np.zeros(len(X))}
    for size in range(1, D + 1):
        for part in combinations(range(D), size):
            worth[part] = -machine.marginal(part).score_samples(X[:, part])
    values = np.zeros(X.shape)
    for part in worth:
        for d in set(range(D)) - set(part):
            share = factorial(len(part)) * factorial(D - len(part) - 1) / factorial(D)
            values[:, d] += share * (worth[tuple(sorted((*part, d)))] - worth[part])
    return values


@every_structure
@pytest.mark.parametrize("most", [1, 6, 7])
def test_they_add_up_to_the_whole(structure, most):
    X, start = problem(structure)
    fitted = machine(start, structure).fit(X)
    whole = contributions(fitted, X, most).sum(axis=1)
    assert_allclose(whole, -fitted.score_samples(X), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("structure", structures(4), ids=str)
def test_over_all_orders_they_are_shapley_values(structure):
    truth = random_mixture(structure, n_features=4)
    X = random_data(truth, 9)
    fitted = machine(truth, structure, steps=1).fit(X)
    assert_allclose(contributions(fitted, X), shapley(fitted, X), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("structure", structures(4), ids=str)
def test_with_missing_values_they_are_shapley_values_of_what_is_observed(structure):
    truth = random_mixture(structure, n_features=4)
    X = random_data(truth, 9)
    seen = [0, 1, 3]
    X[:, 2] = np.nan
    fitted = machine_at(truth, structure)
    orders = orders_of(4, 24, np.random.RandomState(0))
    actual = Contributions(fitted.parameters_, orders, gaps=True)(X)
    assert_allclose(actual[:, seen], shapley(fitted.marginal(seen), X[:, seen]), atol=1e-9)
    assert (actual[:, 2] == 0).all()


def test_independent_features_contribute_what_each_of_them_says():
    X = np.random.default_rng(0).normal(size=(50, 3)) * [1, 10, 0.1]
    fitted = GMMMachine().fit(X)
    own = -norm.logpdf(X, fitted.means_[0], np.sqrt(fitted.covariances_[0]))
    assert_allclose(contributions(fitted, X, most=2), own)


def test_more_orders_come_closer_to_shapley_values():
    structure = structures(4)[1]
    truth = random_mixture(structure, n_features=4)
    X = random_data(truth, 200)
    fitted = machine(truth, structure, steps=1).fit(X)
    known = contributions(fitted, X)
    error = [
        np.mean([np.abs(contributions(fitted, X, most, seed) - known).mean() for seed in range(8)])
        for most in (2, 16)
    ]
    assert error[1] < error[0] / 1.7


def test_orders():
    assert sorted(map(tuple, orders_of(3, 6, None))) == sorted(
        [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    )
    orders = orders_of(30, 5, np.random.RandomState(0))
    assert orders.shape == (5, 30)
    assert (np.sort(orders) == np.arange(30)).all()
    assert (orders[1] == orders[0][::-1]).all()


def test_a_sample_far_beyond_all_numbers_has_finite_contributions():
    fitted = GMMMachine(2).fit([[0.0, 0.0], [0.1, 0.2], [5.0, 5.0], [5.1, 5.2]])
    values = contributions(fitted, np.array([[1e200, 5.0]]))
    assert np.isfinite(values).all()
    assert values[0, 0] > 1e299
    assert abs(values[0, 1]) < 1e290


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_no_number_is_refused(bad):
    fitted = GMMMachine().fit([[0.0, 0.0], [1.0, 2.0]])
    with pytest.raises(ValueError, match="Input X contains"):
        contributions(fitted, np.array([[0.0, bad]]))
