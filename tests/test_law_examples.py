"""The laws, held against problems that Hypothesis draws: any structure, kind of data and source.

Some examples of each in every run, 10,000 with `pytest --hypothesis-profile=thorough`. Tolerances
are what rounding may cost, see `recipes.rounding`. They hold for one E-step and one M-step; later
steps would multiply what they start from.
"""

import warnings
from dataclasses import replace

import h5py
import numpy as np
import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st
from material import FLAGS, assert_identical_model, learned, machine, machine_at, map_machine
from numpy.testing import assert_allclose, assert_array_equal
from recipes import IN_SCIKIT_LEARN, KINDS, PLAIN, REGULAR, recipes, rounding
from reference import (
    FORMULAS,
    Statistics,
    Structure,
    by_feature,
    from_matrices,
    log_likelihoods,
    log_weighted_densities,
    m_step_gauvain,
    m_step_ml,
    m_step_reynolds,
    nearest,
    responsibilities,
    seen_moments,
    statistics,
)
from sklearn.base import clone
from sklearn.mixture import GaussianMixture

from gmmkit import GMMMachine, KMeansMachine

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

NEARLY_NONE = 1e-18  # a floor, as a share of variances: without one, degenerate data are refused
UPDATES = [flags for flags in np.ndindex(2, 2, 2) if any(flags)]
SHIFTED = [kind for kind in KINDS if kind not in ("constant feature", "offset")]  # exactly


# --------------------------------------------------------------------------------------- comparison


def assert_within(actual, expected, size):
    """Differences of at most `size`, which broadcasts; where it is 0, none."""
    actual, expected = np.asarray(actual, float), np.asarray(expected, float)
    assert actual.shape == expected.shape
    ratio = np.abs(actual - expected) / np.maximum(size, np.finfo(float).tiny)
    assert np.all(ratio <= 1), f"{ratio.max():.3g} times what rounding explains"


def is_shared(structure):
    """Whether all components have one covariance."""
    return FORMULAS[structure.covariance_type].shared


def assert_same_sums(actual, expected, recipe):
    """Equal statistics, as far as rounding leaves each of what it sums."""
    rtol, total = rounding(recipe), recipe.effective_weight.sum()
    reach = np.abs(np.vstack([recipe.X, recipe.start.means])).max(axis=0)
    products = reach**2 if by_feature(recipe.structure) else np.outer(reach, reach)
    score = total + abs(expected.log_likelihood)
    for name, size in [("n", 1), ("sum_px", reach), ("sum_pxx", products)]:
        assert_within(getattr(actual, name), getattr(expected, name), rtol * total * size)
    assert_within(actual.t, expected.t, 1e-12 * total)
    assert_within(actual.log_likelihood, expected.log_likelihood, rtol * score)


def assert_same_mixture(actual, expected, recipe, counts, rtol=0.0):
    """Equal parameters, as far as rounding leaves them: ten times what it does to a log density.

    Means and deviations are held against the extent of the samples and of the start. A component
    that saw nearly nothing, of `counts` (K,), has no parameters to speak of.
    """
    X, rtol = np.asarray(recipe.X, float), max(rtol, 10 * rounding(recipe))
    seen = counts > 1e-9 * counts.sum()
    extent = np.ptp(np.vstack([X, recipe.start.means]), axis=0)
    extent += np.sqrt(recipe.start.covariances.diagonal(axis1=1, axis2=2).max(axis=0))
    digits = 4 * np.finfo(float).eps * np.abs(X).max(axis=0)  # of a mean as such
    assert_within(actual.weights, expected.weights, rtol)
    assert_within(actual.means[seen], expected.means[seen], rtol * extent + digits)
    if is_shared(recipe.structure) or seen.any():
        chosen = slice(None) if is_shared(recipe.structure) else seen
        size = rtol * np.outer(extent, extent) + np.outer(digits, digits)
        assert_within(actual.covariances[chosen], expected.covariances[chosen], size)


def textbook(recipe):
    """The textbook's statistics of the standard samples, second moments (K, D, D)."""
    return statistics(recipe.standard_X, recipe.standardised(recipe.start), recipe.sample_weight)


def about_zero(recipe, stats):
    """The textbook's statistics of the samples themselves, in the shapes of the structure."""
    c = recipe.centre
    first = stats.sum_px * recipe.unit
    second = stats.sum_pxx * recipe.unit_products
    cross = first[:, :, None] * c
    second = second + cross + cross.transpose(0, 2, 1) + stats.n[:, None, None] * np.outer(c, c)
    second = seen_moments(second, recipe.structure)
    volume = stats.t * np.log(recipe.unit).sum()
    first = first + stats.n[:, None] * c
    return Statistics(stats.t, stats.n, first, second, stats.log_likelihood - volume)


def one_step(recipe, X, sample_weight=None, **options):
    """A machine that made a step from the recipe's start, with next to no floor unless given."""
    options = {"variance_thresholds": floor(recipe, NEARLY_NONE)} | options
    return machine(recipe.start, recipe.structure, **options).fit(X, sample_weight=sample_weight)


def counts_of(recipe):
    """Samples that each component of the start sees, (K,)."""
    return machine_at(recipe.start, recipe.structure).e_step(recipe.X, recipe.sample_weight).n


def floor(recipe, share=0.01):
    """A share of the features' units, squared (D,): keeps degenerate data from the brink."""
    return share * recipe.unit**2


def smallest_variance(recipe, mixture):
    """Of any component in any direction, in units."""
    return np.linalg.eigvalsh(mixture.covariances / recipe.unit_products).min()


def is_resolved(recipe, mixture):
    """Whether sums of squares about the mixture's mean show all variances, in any direction."""
    weights, means, covariances = mixture
    squares = np.einsum("kii->ki", covariances) + (means - weights @ means) ** 2
    deviations = np.sqrt(squares)
    least = np.linalg.eigvalsh(covariances / deviations[:, :, None] / deviations[:, None, :]).min()
    return least > 2 * (recipe.n_features + 16) * np.finfo(recipe.dtype).eps


# -------------------------------------------------------------------------------- statistics add up


@given(recipes(gaps=True))
def test_parts_add_up_to_the_whole_from_any_source(recipe):
    gmm = machine_at(recipe.start, recipe.structure, missing=recipe.missing)
    w = recipe.effective_weight
    cuts = np.sort(recipe.generator("parts").integers(0, recipe.n_samples + 1, 4))
    parts = [rows for rows in np.split(np.arange(recipe.n_samples), cuts) if w[rows].any()]
    total = sum(gmm.e_step(recipe.observed_X[rows], sample_weight=w[rows]) for rows in parts)
    X, weight = recipe.given()
    whole = gmm.e_step(X, sample_weight=weight)
    assert_same_sums(total, whole, recipe)
    start = machine(recipe.start, recipe.structure, variance_thresholds=floor(recipe, NEARLY_NONE))
    models = [clone(start).m_step(stats) for stats in (total, whole)]
    assert_same_mixture(*(learned(m, recipe.structure) for m in models), recipe, whole.n)


@given(recipes(sources=["array"]), st.integers(1, 60))
def test_number_of_threads_changes_no_bit(recipe, copies):
    X = np.tile(recipe.X, (copies, 1))  # up to 12,000 rows, several slices
    w = None if recipe.sample_weight is None else np.tile(recipe.sample_weight, copies)
    one, two, three = (one_step(recipe, X, w, n_jobs=n_jobs) for n_jobs in (1, 2, 3))
    assert_identical_model(two, one)
    assert_identical_model(three, one)


@given(recipes())
def test_the_same_blocks_give_the_same_bits(recipe):
    options = {"steps": 3, "variance_thresholds": floor(recipe)}
    one, other = (one_step(recipe, *recipe.given(), **options) for _ in range(2))
    assert_identical_model(one, other)


# ------------------------------------------------------------------------------------- the textbook


@given(recipes())
def test_e_step_is_the_textbook_s(recipe):
    X, w = recipe.given()
    stats = machine_at(recipe.start, recipe.structure).e_step(X, sample_weight=w)
    assert_same_sums(stats, about_zero(recipe, textbook(recipe)), recipe)


@given(recipes())
def test_scores_and_predictions_are_the_textbook_s(recipe):
    gmm, X = machine_at(recipe.start, recipe.structure), recipe.given()[0]
    standard, volume = recipe.standardised(recipe.start), np.log(recipe.unit).sum()
    rtol = rounding(recipe)
    scores = log_likelihoods(recipe.standard_X, standard) - volume
    assert_within(gmm.score_samples(X), scores, rtol * (1 + np.abs(scores)))
    L = log_weighted_densities(recipe.standard_X, standard).T - volume  # (K, N)
    assert_within(gmm.log_weighted_likelihood(X), L, rtol * (1 + np.abs(L)))
    R = responsibilities(recipe.standard_X, standard)
    assert_within(gmm.predict_proba(X), R, rtol)
    assert np.asarray(gmm.predict_proba(X)).dtype == recipe.dtype
    chosen = R[np.arange(recipe.n_samples), np.asarray(gmm.predict(X))]
    assert_within(chosen, R.max(axis=1), rtol)


@given(recipes(), st.sampled_from(UPDATES))
def test_ml_step_is_the_textbook_s(recipe, flags):
    updates = dict(zip(FLAGS, map(bool, flags), strict=True))
    X, w = recipe.given()
    stats, start = textbook(recipe), recipe.standardised(recipe.start)
    expected = recipe.restored(m_step_ml(stats, start, recipe.structure, **updates))
    actual = learned(one_step(recipe, X, w, **updates), recipe.structure)
    assert_same_mixture(actual, expected, recipe, stats.n)


@given(recipes())
def test_k_means_step_is_the_textbook_s(recipe):
    X, w = recipe.given()
    clusters = KMeansMachine(recipe.n_gaussians, init_method=recipe.start.means, max_iter=0)
    clusters.fit(X, sample_weight=w)
    centroids = (clusters.centroids_ - recipe.centre) / recipe.unit.max()
    data = recipe.standard_X * recipe.unit / recipe.unit.max()
    _, least = nearest(data, centroids)
    squares = ((data - centroids[np.asarray(clusters.predict(X))]) ** 2).sum(axis=1)
    extent = (np.ptp(np.vstack([data, centroids]), axis=0) ** 2).sum()
    assert_within(squares, least, 64 * np.finfo(float).eps * extent)  # in float32 as well
    inertia = least @ recipe.effective_weight * recipe.unit.max() ** 2
    size = 64 * np.finfo(recipe.dtype).eps * extent * recipe.unit.max() ** 2
    assert_within(clusters.inertia_, inertia, size * recipe.effective_weight.sum())


# -------------------------------------------------------------------------------------- never falls


@given(recipes(gaps=True))
def test_likelihood_never_falls(recipe):
    X, w = recipe.given()
    lowest = 1e-6
    options = {"variance_thresholds": floor(recipe, lowest), "missing": recipe.missing}
    options["weight_floor"] = recipe.generator("floor").choice([0.0, 0.7]) / recipe.n_gaussians
    gmm = machine(recipe.start, recipe.structure, steps=8, **options).fit(X, sample_weight=w)
    final = learned(gmm, recipe.structure)
    if not is_resolved(recipe, final):
        event("not resolved")
        return
    event("at the floor" if smallest_variance(recipe, final) < 1.01 * lowest else "free")
    # E-steps promise so many nats, however hard the mixtures on the way are
    promise = {"float64": 2e-6, "float32": 2e-3}[recipe.dtype]
    slack = max(1e-9, rounding(recipe), min(promise, rounding(recipe, final)))
    assert np.diff(gmm.lower_bounds_).min() >= -slack


# ------------------------------------------------------------------------------------------ weights


@given(recipes(weights=["integers"]))
def test_integer_weights_repeat_rows_and_zeros_drop_them(recipe):
    X, w = recipe.given()
    rows = np.repeat(recipe.X, recipe.sample_weight.astype(int), axis=0)
    gmm = machine_at(recipe.start, recipe.structure)
    stats = gmm.e_step(rows)
    assert_same_sums(gmm.e_step(X, sample_weight=w), stats, recipe)
    weighted, repeated = one_step(recipe, X, w), one_step(recipe, rows)
    models = [learned(m, recipe.structure) for m in (weighted, repeated)]
    assert_same_mixture(*models, recipe, stats.n)


# -----------------------------------------------------------------------------------------------MAP

PRIORS = {
    "reynolds": lambda r: {"map_prior": "reynolds", "map_relevance_factor": r},
    "alpha": lambda r: {"map_relevance_factor": None, "map_alpha": 1 / (1 + r)},
    "gauvain": lambda r: {"map_prior": "gauvain", "map_relevance_factor": r},
}


@given(recipes(), st.sampled_from(list(PRIORS)), st.floats(-6, 6))
def test_map_step_is_the_textbook_s(recipe, kind, exponent):
    r, structure, (X, w) = 10.0**exponent, recipe.structure, recipe.given()
    options = {"variance_thresholds": floor(recipe, NEARLY_NONE), **PRIORS[kind](r)}
    adapted = map_machine(recipe.start, structure, 1, **options).fit(X, sample_weight=w)
    prior, stats = recipe.standardised(recipe.start), textbook(recipe)
    if kind == "gauvain":
        R = responsibilities(recipe.standard_X, prior) * recipe.effective_weight[:, None]
        expected = m_step_gauvain(recipe.standard_X, R, prior, structure, r)
    else:
        how = {"alpha": 1 / (1 + r)} if kind == "alpha" else {"relevance_factor": r}
        expected = m_step_reynolds(stats, prior, structure, **how)
    assert_same_mixture(learned(adapted, structure), recipe.restored(expected), recipe, stats.n)


@given(recipes(), st.sampled_from(list(PRIORS)), st.floats(-9, 9))
def test_map_means_go_from_the_data_s_to_the_prior_s(recipe, kind, exponent):
    r, prior, (X, w) = 10.0**exponent, recipe.start, recipe.given()
    options = {"variance_thresholds": floor(recipe, NEARLY_NONE), **PRIORS[kind](r)}
    adapted = map_machine(prior, recipe.structure, 1, **options).fit(X, sample_weight=w)
    trained, n = one_step(recipe, X, w), counts_of(recipe)
    worth = {"reynolds": np.full(len(n), r), "alpha": n * r, "gauvain": r * prior.weights}[kind]
    share = (n / (n + worth))[:, None]
    between = share * trained.means_ + (1 - share) * prior.means
    expected = prior._replace(means=between)
    actual = expected._replace(means=adapted.means_)
    assert_same_mixture(actual, expected, recipe, n)


# ------------------------------------------------------------------------------------- equivariance


@given(recipes(kinds=SHIFTED))
def test_shifting_the_data_shifts_the_model(recipe):
    far = 2.0**20 if recipe.dtype == "float64" else 2.0**8
    signs = recipe.generator("shift").integers(-1, 2, recipe.n_features)
    shift, w = far * signs * recipe.unit, recipe.sample_weight
    X = recipe.X + shift.astype(recipe.dtype)
    assume(np.all(np.asarray(X, float) - shift == recipe.X))
    options = {"variance_thresholds": floor(recipe)}
    here = one_step(recipe, recipe.X, w, **options)
    moved = recipe.start._replace(means=recipe.start.means + shift)
    there = machine(moved, recipe.structure, **options).fit(X, sample_weight=w)
    model = learned(there, recipe.structure)
    back = model._replace(means=model.means - shift)
    # a mean of shifted data has its digits there, and the density's rounding grows with them
    rtol = 10 * rounding(recipe) + 16 * np.finfo(float).eps * far * recipe.n_features
    expected = learned(here, recipe.structure)
    assert_same_mixture(back, expected, recipe, counts_of(recipe), rtol)


@given(recipes())
def test_scaling_the_features_scales_the_model(recipe):
    powers = recipe.generator("scale").integers(-10, 11, recipe.n_features)
    if FORMULAS[recipe.structure.covariance_type].averaged:
        powers[:] = powers[0]
    scale, products, (X, w) = 2.0**powers, 4.0**powers, recipe.given()
    here = one_step(recipe, X, w, variance_thresholds=floor(recipe))
    start = recipe.start._replace(
        means=recipe.start.means * scale,
        covariances=recipe.start.covariances * np.outer(scale, scale),
    )
    options = {"variance_thresholds": floor(recipe) * products}
    there = machine(start, recipe.structure, **options)
    there.fit(recipe.X * scale.astype(recipe.dtype), sample_weight=recipe.sample_weight)
    model = learned(there, recipe.structure)
    back = model._replace(
        means=model.means / scale, covariances=model.covariances / np.outer(scale, scale)
    )
    assert_same_mixture(back, learned(here, recipe.structure), recipe, counts_of(recipe))


# --------------------------------------------------------------------------------- structures agree


@given(recipes(), st.data())
def test_structures_agree_where_they_must(recipe, data):
    D, diag, full = recipe.n_features, Structure("diag"), Structure("full")
    pairs = [
        (Structure("full", 1), diag),
        (Structure("diag", D), diag),
        (Structure("full", D), full),
        (Structure("diag", 1), full),
    ]
    pairs += [(each, diag) for each in PLAIN if D == 1 and not is_shared(each)]
    if recipe.n_gaussians == 1:
        pairs += [(each, diag if by_feature(each) else full) for each in PLAIN if is_shared(each)]
    one, other = data.draw(st.sampled_from(pairs))
    recipe = replace(recipe, structure=other)
    X, w = recipe.given()
    models = [
        learned(
            machine(recipe.start, structure, variance_thresholds=floor(recipe, NEARLY_NONE)).fit(
                X, sample_weight=w
            ),
            structure,
        )
        for structure in (one, other)
    ]
    assert_same_mixture(*models, recipe, counts_of(recipe))


# ------------------------------------------------------------------------------------- scikit-learn


def scikit_learn_s(recipe, structure, steps):
    """What scikit-learn's mixture learns in some steps from the recipe's start; None if nothing."""
    start = recipe.start
    theirs = GaussianMixture(
        recipe.n_gaussians,
        covariance_type=structure.covariance_type,
        reg_covar=0,
        tol=0,
        max_iter=steps,
        weights_init=start.weights,
        means_init=start.means,
        precisions_init=from_matrices(np.linalg.inv(start.covariances), structure),
    )
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return theirs.fit(recipe.X)
    except ValueError:  # a covariance is singular
        return None


@given(
    recipes(kinds=[*REGULAR, "integers"], dtypes=["float64"], weights=[None], samples=2),
    st.sampled_from(IN_SCIKIT_LEARN),
    st.integers(1, 3),
)
def test_scikit_learn_agrees(recipe, structure, steps):
    recipe = replace(recipe, structure=structure)
    theirs = scikit_learn_s(recipe, structure, steps)
    if theirs is None:
        event("singular")
        return
    expected, counts = learned(theirs, structure), theirs.predict_proba(recipe.X).sum(axis=0)
    if counts.min() < 0.1 or smallest_variance(recipe, expected) < 1e-4:
        event("nearly singular")  # theirs adds 2e-15 to each count, and subtracts squares
        return
    event("compared")
    ours = machine(recipe.start, structure, steps=steps).fit(recipe.given()[0])
    rtol = max(1e-6, 100 * rounding(recipe, expected))
    assert_same_mixture(learned(ours, structure), expected, recipe, counts, rtol)


# -------------------------------------------------------------------------------------------- files


def written_and_read(one):
    """An object written into a file, and read back."""
    with h5py.File("saved", "w", driver="core", backing_store=False) as file:
        one.save(file)
        return type(one).from_hdf5(file)


@given(recipes(), st.sampled_from(["machine", "speaker", "clusters"]))
def test_what_is_saved_predicts_the_same_to_the_last_bit(recipe, kind):
    X, w = recipe.given()
    if kind == "clusters":
        one = KMeansMachine(recipe.n_gaussians, init_method=recipe.start.means, max_iter=1)
    else:
        one = machine(recipe.start, recipe.structure, variance_thresholds=floor(recipe))
    one.fit(X, sample_weight=w)
    if kind == "speaker":
        one = GMMMachine(trainer="map", ubm=one, max_fitting_steps=1).fit(X, sample_weight=w)
    twin = written_and_read(one)
    names = ["centroids_"] if kind == "clusters" else ["weights_", "means_", "covariances_"]
    for name in names:
        assert_array_equal(getattr(twin, name), getattr(one, name))
    methods = ["score_samples", "predict_proba"] if kind != "clusters" else []
    for method in ("predict", "transform", *methods):
        assert_array_equal(getattr(twin, method)(recipe.X), getattr(one, method)(recipe.X))


@given(recipes())
def test_statistics_that_are_saved_are_the_same_to_the_last_bit(recipe):
    X, w = recipe.given()
    stats = machine_at(recipe.start, recipe.structure).e_step(X, sample_weight=w)
    twin = written_and_read(stats)
    for name in ("t", "n", "sum_px", "sum_pxx", "log_likelihood", "origin"):
        assert_array_equal(getattr(twin, name), getattr(stats, name))


# -------------------------------------------------------------------------------------- fit is pure


@given(recipes())
def test_fit_leaves_its_inputs_alone_and_repeats_itself(recipe):
    X, w = recipe.given()
    options = {"steps": 2, "variance_thresholds": floor(recipe)}
    gmm = machine(recipe.start, recipe.structure, **options)
    params = gmm.get_params()
    arrays = [recipe.X, recipe.sample_weight, *params.values()]
    arrays = [array for array in arrays if isinstance(array, np.ndarray)]
    copies = [array.copy() for array in arrays]
    for array in arrays:
        array.setflags(write=False)
    first = learned(gmm.fit(X, sample_weight=w), recipe.structure)
    assert all(gmm.get_params()[name] is params[name] for name in params)
    for array, copy in zip(arrays, copies, strict=True):
        assert_array_equal(array, copy)
    again = learned(gmm.fit(X, sample_weight=w), recipe.structure)
    for a, b in zip(again, first, strict=True):
        assert_array_equal(a, b)


# ---------------------------------------------------------------------------------- any data at all


@given(recipes(weights=[None, "integers", "reals"]))
def test_default_settings_make_a_sound_model_of_any_data(recipe):
    X, w = recipe.given()
    gmm = GMMMachine(
        recipe.n_gaussians,
        covariance_type=recipe.structure.covariance_type,
        block_size=recipe.structure.block_size,
        max_fitting_steps=20,
    ).fit(X, sample_weight=w)
    model = learned(gmm, recipe.structure)
    assert all(np.isfinite(part).all() for part in model)
    assert model.weights.min() >= 0
    assert abs(model.weights.sum() - 1) < 1e-12
    deviations = np.sqrt(model.covariances.diagonal(axis1=1, axis2=2))  # (K, D)
    assert deviations.min() > 0
    correlations = model.covariances / (deviations[:, :, None] * deviations[:, None, :])
    assert np.linalg.eigvalsh(correlations).min() > 0
    assert_allclose(gmm.predict_proba(recipe.X).sum(axis=1), 1, rtol=1e-5)
    assert np.isfinite(gmm.score_samples(recipe.X)).all()
