"""Accuracy, against arithmetic of fifty digits and against scikit-learn; the choice of a form."""

import itertools
from dataclasses import replace

import dask.array as da
import h5py
import numpy as np
import pytest
import recipes
from covering import covering
from grid import (
    CONDITIONS,
    DIAG,
    EPS,
    FULL,
    NATS,
    OFFSETS,
    SEPARATIONS,
    TIED,
    D,
    K,
    draw,
    hard_mixture,
    largest_errors,
    step_of_gmmkit,
    step_of_scikit_learn,
)
from material import (
    SPEECH,
    assert_close,
    assert_same_stats,
    machine,
    machine_at,
    random_data,
    random_mixture,
    random_weights,
    textbook_stats,
)
from numpy.testing import assert_allclose
from reference import (
    Mixture,
    Step,
    Structure,
    constrain,
    from_matrices,
    log_likelihoods,
    log_weighted_densities,
    step_exact,
    to_matrices,
)
from scipy.special import softmax

from gmmkit import GMMMachine, GMMStats
from gmmkit.kernel import estep
from gmmkit.kernel.blocks import sums_of_products
from gmmkit.kernel.plan import mixture_densities
from gmmkit.model.parameters import Parameters
from gmmkit.model.structures import make_structure

pytestmark = pytest.mark.filterwarnings("ignore::gmmkit.FloorWarning")  # collapsed float32


every_structure = pytest.mark.parametrize("structure", recipes.every_structure(D), ids=str)
every_dtype = pytest.mark.parametrize("dtype", NATS)


every_structure_on_the_grid = covering(
    "structure, dtype, separation, condition",
    recipes.every_structure(D),
    *(NATS, SEPARATIONS, CONDITIONS),
)


# ----------------------------------------------------------------------------------------- accuracy


@covering(
    "structure, dtype, separation, condition",
    *([DIAG, TIED, FULL], NATS, SEPARATIONS, CONDITIONS),
)
def test_a_step_is_as_accurate_as_scikit_learn_s(structure, dtype, separation, condition):
    for offset in OFFSETS[dtype]:
        mixture = hard_mixture(structure, condition, separation, offset)
        X = draw(mixture, dtype)
        exact = step_exact(X, mixture, structure)
        ours = largest_errors(step_of_gmmkit(X, mixture, structure), exact, dtype)
        theirs = largest_errors(step_of_scikit_learn(X, mixture, structure), exact, dtype)
        # our scores are of X's dtype, whose last digit is no error
        last_digit = np.finfo(dtype).eps * np.abs(exact.log_likelihoods.astype(float)).max()
        ours = ours._replace(log_likelihoods=ours.log_likelihoods - last_digit)
        for part, error, allowed in zip(Step._fields, ours, theirs, strict=True):
            assert error <= max(4 * allowed, NATS[dtype]), (part, offset)


def assert_exact(structure, dtype, separation, condition, seed):
    """A step loses at most `NATS`, but for what the problem itself makes of a last digit."""
    for offset in OFFSETS[dtype]:
        mixture = hard_mixture(structure, condition, separation, offset, seed)
        X = draw(mixture, dtype, seed + 1)
        exact = step_exact(X, mixture, structure)
        errors = largest_errors(step_of_gmmkit(X, mixture, structure), exact, dtype)
        # a covariance's last digit changes its squared distances by cond eps of themselves, and
        # scores are of X's dtype; the parameters are float64, as are the sums they come from
        size = max(1.0, np.abs(exact.log_likelihoods.astype(float)).max())
        problem = EPS * max(np.linalg.cond(mixture.covariances))
        assert errors.log_likelihoods <= NATS[dtype] + (problem + np.finfo(dtype).eps) * size
        for part in Step._fields[1:]:
            assert getattr(errors, part) <= NATS[dtype] + problem, (part, offset)


@every_structure_on_the_grid
def test_a_step_is_that_of_fifty_digits(structure, dtype, separation, condition):
    assert_exact(structure, dtype, separation, condition, seed=0)


def shares_lost(X, mixture, structure):
    """How far variances after a step are off, as a share of each, by float64 about the means."""
    R = softmax(log_weighted_densities(X, mixture), axis=1)  # (N, K)
    n, X = R.sum(0), X.astype(float)
    centred = X - (R.T @ X / n[:, None])[:, None]  # (K, N, D)
    scatter = (R.T[..., None] * centred).transpose(0, 2, 1) @ centred
    right = constrain(scatter / n[:, None, None], n, structure)
    got = step_of_gmmkit(X.astype("float32"), mixture, structure).covariances
    return np.abs(np.diagonal(got, 0, 1, 2) / np.diagonal(right, 0, 1, 2) - 1)


# most is lost where float32 is only just taken; over many samples rounding averages out
@covering(
    "structure, separation, n_samples",
    recipes.every_structure(D),
    [1, 10, 30, 40, 50, 60, 80],
    [36, 500, 30_000],
)
def test_float32_loses_little_of_a_variance(structure, separation, n_samples):
    share = 2e-4 if n_samples == 30_000 else 1e-3
    mixture = hard_mixture(structure, 1, separation)
    X = draw(mixture, "float32", n_samples=n_samples)
    assert shares_lost(X, mixture, structure).max() < share


@pytest.mark.parametrize("n_more", [0, 500])
def test_long_sums_of_float32_are_more_exact_than_short_ones(n_more):
    # the errors of many short runs average out, while one long run loses more than a short one
    rng, short = np.random.default_rng(0), 1024
    a, b = (rng.uniform(0.5, 1, (k, 32 * short + n_more)).astype(np.float32) for k in (8, 40))

    def error(n_samples):
        some = slice(n_samples)
        exact = a[:, some].astype(float) @ b[:, some].T.astype(float)
        return np.abs(sums_of_products(a[:, some], b[:, some]) / exact - 1).max()

    assert error(a.shape[1]) < error(short) / 2


# ----------------------------------------------------------------------------- the choice of a form


def parameters_of(mixture, structure):
    kind = make_structure(structure.covariance_type, mixture.means.shape[1], structure.block_size)
    stack = kind.from_public(from_matrices(mixture.covariances, structure))
    return Parameters(kind, mixture.weights, mixture.means, stack)


def chosen(mixture, structure, dtype):
    """The form of the E-step for data of this dtype, as `verbose=2` prints it."""
    densities = mixture_densities(parameters_of(mixture, structure), np.dtype(dtype))
    return f"{densities.dtype}, {densities.form} form"


def linear(densities, dtype):
    """The same densities in the linear form, wherever that leads."""
    origin = densities.origin.astype(dtype).astype(float)
    return replace(densities, dtype=np.dtype(dtype), linear=True, origin=origin)


def standardised(condition, n_features=20, n_gaussians=8, seed=0):
    """A mixture of mean 0 and variance 1, whose components overlap, with such a condition."""
    rng = np.random.default_rng(seed)
    shape = (n_gaussians, n_features, n_features)
    axes = np.linalg.qr(rng.normal(size=shape))[0]
    covariances = axes * np.geomspace(1, 1 / condition, n_features) @ axes.transpose(0, 2, 1)
    means = rng.normal(size=shape[:2])
    means -= means.mean(0)
    variance = np.diagonal(covariances.mean(0)) + means.var(0)
    return Mixture(
        np.full(n_gaussians, 1 / n_gaussians),
        means / np.sqrt(variance),
        covariances / np.sqrt(variance[:, None] * variance),
    )


@pytest.mark.parametrize("condition", [1, 1e2, 1e5])
@pytest.mark.parametrize("structure", [Structure("full"), Structure("full", 5)], ids=str)
def test_standardised_data_never_pay_for_difficult_ones(structure, condition):
    mixture = standardised(condition)
    mixture = mixture._replace(covariances=constrain(mixture.covariances, np.ones(8), structure))
    assert chosen(mixture, structure, "float64") == "float64, linear form"


def test_ordinary_float32_data_stay_float32():
    with h5py.File(SPEECH) as file:
        frames = np.concatenate([frames[:] for voice in file.values() for frames in voice.values()])
    X = frames[::5]
    assert X.dtype == np.float32
    gmm = GMMMachine(64, convergence_threshold=None, max_fitting_steps=5).fit(X)
    mixture = Mixture(gmm.weights_, gmm.means_, to_matrices(gmm.covariances_, DIAG, 64, 20))
    assert chosen(mixture, DIAG, "float32") == "float32, linear form"
    few = X[::50]
    assert_allclose(gmm.score_samples(few), log_likelihoods(few, mixture), rtol=0, atol=1e-3)


def test_each_form_is_taken_where_it_is_needed():
    easy, harder, hard = (hard_mixture(FULL, condition, 1) for condition in (1, 1e6, 1e12))
    assert chosen(easy, FULL, "float32") == "float32, linear form"
    assert chosen(harder, FULL, "float32") == "float64, linear form"
    assert chosen(hard, FULL, "float32") == "float64, centred form"
    assert chosen(easy, FULL, "float64") == "float64, linear form"
    assert chosen(hard, FULL, "float64") == "float64, centred form"
    near, far, farthest = (hard_mixture(DIAG, 1, separation) for separation in (1, 1e3, 1e7))
    assert chosen(near, DIAG, "float32") == "float32, linear form"
    assert chosen(far, DIAG, "float32") == "float64, linear form"
    assert chosen(farthest, DIAG, "float32") == "float64, centred form"


@every_structure
def test_float32_is_not_taken_where_variances_would_cancel(structure):
    # one feature is far out, so that the likelihood alone would allow float32
    for distance, dtype in [(20, "float32"), (40, "float64")]:
        means = np.zeros((2, 4))
        means[:, 0] = -distance, distance
        mixture = Mixture(np.full(2, 0.5), means, np.array([np.eye(4)] * 2))
        densities = mixture_densities(parameters_of(mixture, structure), np.dtype(float))
        assert densities.rounding(np.dtype("float32")) < NATS["float32"]
        assert chosen(mixture, structure, "float32") == f"{dtype}, linear form"


@every_dtype
def test_many_features_and_few_components_form_no_products(dtype):
    form = {"float32": "centred", "float64": "factored"}[dtype]
    assert chosen(standardised(10, 64, n_gaussians=2), FULL, dtype) == f"{dtype}, {form} form"
    assert chosen(standardised(10, 64, n_gaussians=32), FULL, dtype) == f"{dtype}, linear form"


def test_wide_float32_data_far_from_zero_lose_no_digits():
    # means between float32's numbers, whose rounding would cost several thousandths of a nat
    mixture = standardised(10, 64, n_gaussians=2)
    mixture = mixture._replace(means=mixture.means + 1e4)
    X = random_data(mixture, 40).astype("float32")
    assert chosen(mixture, FULL, "float32") == "float32, centred form"
    scores = machine_at(mixture, FULL).score_samples(X)
    assert_allclose(scores, log_likelihoods(X, mixture), rtol=0, atol=1e-3)


@covering("structure, dtype, deviations", recipes.every_structure(D), NATS, [3, 9, 13, 20, 40, 300])
def test_a_far_sample_changes_nothing_for_the_others(structure, dtype, deviations):
    # its densities underflow, from 13 deviations on in float32, from 40 on in float64
    mixture = random_mixture(structure, n_features=D)
    X = random_data(mixture).astype(dtype)
    far = X.copy()
    far[7] = mixture.means[0] + deviations * np.sqrt(np.diag(mixture.covariances[0]))
    m, weight = machine_at(mixture, structure), random_weights(len(X))
    rtol = {"float32": 2e-5, "float64": 1e-10}[dtype]
    textbook = textbook_stats(far, mixture, structure, weight)
    assert_same_stats(m.e_step(far, weight), textbook, rtol)
    others = np.delete(np.arange(len(X)), 7)
    assert_allclose(
        m.predict_proba(far)[others], m.predict_proba(X)[others], rtol=rtol, atol=rtol * 1e-3
    )


@every_dtype
@every_structure
def test_where_the_data_lie_changes_no_form(structure, dtype):
    here, there = (
        hard_mixture(structure, 10, 10, offset) for offset in (0, 2.0**13)
    )  # no digit of the parameters is lost, so only the origin moves
    assert chosen(here, structure, dtype) == chosen(there, structure, dtype)


def test_the_form_depends_on_the_parameters_alone(capsys):
    start = random_mixture(FULL)
    X = random_data(start)
    outlier = np.vstack([X, np.full((1, X.shape[1]), 1e12)])
    for data in (X, X[:3], outlier, da.from_array(X, chunks=(7, -1)), X * 1e-9):
        machine(start, FULL, verbose=2, variance_thresholds=1e-200).fit(data)
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "E-step: float64, linear form"


def test_verbose_tells_of_the_form_when_it_changes(capsys):
    # two tight clusters: the first step starts from wide components and finds narrow ones
    means = np.array([[-1e5, 0.0], [1e5, 0.0]])
    X = np.repeat(means, 40, axis=0) + np.random.default_rng(0).normal(scale=0.1, size=(80, 2))
    wide = GMMMachine(
        2,
        means_init=means,
        covariances_init=np.full((2, 2), 1e8),
        convergence_threshold=None,
        max_fitting_steps=4,
        variance_thresholds=1e-6,
        verbose=2,
    )
    wide.fit(X)
    lines = capsys.readouterr().out.splitlines()
    told = [line for line in lines if line.startswith("E-step")]
    assert told == ["E-step: float64, linear form", "E-step: float64, centred form"]
    wide.set_params(verbose=1).fit(X)
    assert "form" not in capsys.readouterr().out


# ------------------------------------------------------------------------- the estimate of rounding


QUICK = slice(None, None, 2)  # every other one


@pytest.mark.parametrize(
    "some", [QUICK, pytest.param(slice(None), marks=pytest.mark.slow)], ids=["some", "all"]
)
@every_dtype
@every_structure
def test_estimate_is_the_linear_form_s_error_within_two_orders(structure, dtype, some):
    checked = 0
    for condition, separation in itertools.product(CONDITIONS[some], SEPARATIONS[some]):
        mixture = hard_mixture(structure, condition, separation)
        X = draw(mixture, dtype, seed=0)
        densities = mixture_densities(parameters_of(mixture, structure), np.dtype(float))
        densities = linear(densities, dtype)
        estimate = densities.rounding(densities.dtype)
        if estimate > 100:  # so wrong that the error is not proportional to the terms any more
            continue
        with np.errstate(all="ignore"):
            scores = estep.Rows(densities, estep.log_likelihoods, (), np.dtype(float))(X)
        exact = step_exact(X, mixture, structure).log_likelihoods
        error = float(abs(scores.astype(object) - exact).max())
        assert error / 2 < estimate < 200 * error, (condition, separation)
        checked += 1
    assert checked >= (3 if some == QUICK else 6)


@every_structure
def test_both_forms_agree_on_ordinary_data(structure):
    mixture = random_mixture(structure, n_features=D)
    X, w = random_data(mixture), random_weights()
    one = mixture_densities(parameters_of(mixture, structure), np.dtype(float))
    assert one.linear
    other = replace(one, linear=False)
    scores = [estep.Rows(d, estep.log_likelihoods, (), np.dtype(float))(X) for d in (one, other)]
    assert_close(*scores, 1e-12)
    R = [estep.Rows(d, estep.responsibilities, (3,), np.dtype(float))(X) for d in (one, other)]
    assert_close(*R, 1e-12)
    stats = [estep.EStep(d)(X, w) for d in (one, other)]
    assert_same_stats(*stats)
    # about different origins, and yet they are added
    assert not np.array_equal(stats[0].origin, stats[1].origin)
    assert_same_stats(stats[0] + stats[1], 2 * stats[0])


WIDE = [Structure("full"), Structure("full", 24), Structure("diag", 2)]  # groups of 48 and 24


@pytest.mark.parametrize("separation", [0.1, 30], ids=["overlapping", "apart"])
@pytest.mark.parametrize("structure", WIDE, ids=str)
def test_wide_mixtures_are_the_textbook_s(structure, separation):
    # far apart, nearly all responsibilities are zero, and few samples have a part in a component
    mixture = random_mixture(structure, n_features=48)
    mixture = mixture._replace(means=separation * mixture.means)
    X, weight = random_data(mixture, 300), random_weights(300)
    weight[::7] = 0
    X[7] = 1e5  # without weight
    scoring = machine_at(mixture, structure)
    assert chosen(mixture, structure, "float64") == "float64, factored form"
    assert_close(scoring.score_samples(X), log_likelihoods(X, mixture), 1e-10)
    expected = textbook_stats(X, mixture, structure, weight)
    assert_same_stats(scoring.e_step(X, weight), expected)
    assert_same_stats(scoring.e_step(X), textbook_stats(X, mixture, structure))


@pytest.mark.parametrize("structure", WIDE, ids=str)
def test_the_forms_of_wide_mixtures_agree_and_add_up(structure):
    mixture = random_mixture(structure, n_features=48)
    X, weight = random_data(mixture, 300), random_weights(300)
    factored = mixture_densities(parameters_of(mixture, structure), np.dtype(float))
    one, other = (estep.EStep(d)(X, weight) for d in (factored, replace(factored, linear=False)))
    assert_same_stats(one, other)
    assert not np.array_equal(one.origin, other.origin)
    assert_same_stats(one + other, 2 * one)


@pytest.mark.parametrize("separation, form", [(10, "factored"), (1e7, "centred")])
def test_wide_mixtures_far_apart_take_the_form_that_resolves_them(separation, form):
    mixture = random_mixture(FULL, n_features=48)
    mixture = mixture._replace(means=separation * mixture.means)
    X = random_data(mixture, 300)
    assert chosen(mixture, FULL, "float64") == f"float64, {form} form"
    step = machine(mixture, FULL).fit(X)
    n, first, _ = (getattr(textbook_stats(X, mixture, FULL), f) for f in ("n", "sum_px", "sum_pxx"))
    labels = machine_at(mixture, FULL).predict(X)
    for k in range(K):
        assert_allclose(step.covariances_[k], np.cov(X[labels == k].T, bias=True), atol=1e-6)
    assert_allclose(step.means_, first / n[:, None], rtol=1e-12)


@every_structure
def test_linear_form_in_float32_is_the_one_in_float64_to_its_digits(structure):
    mixture = random_mixture(structure, n_features=D)
    X = random_data(mixture)
    densities = mixture_densities(parameters_of(mixture, structure), np.dtype(float))
    double, single = (estep.EStep(linear(densities, dtype))(X) for dtype in (float, "float32"))
    assert isinstance(single, GMMStats)
    assert_same_stats(single, double, 1e-4)
    assert single.buffer.dtype == np.float64


def test_the_grid_has_every_form():
    forms = {
        chosen(hard_mixture(structure, condition, separation), structure, dtype)
        for structure, condition, separation, dtype in itertools.product(
            [DIAG, FULL], CONDITIONS, SEPARATIONS, NATS
        )
    }
    assert forms == {"float32, linear form", "float64, linear form", "float64, centred form"}
