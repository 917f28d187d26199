"""What goes in and out of the machines: their settings, samples drawn, arrays read and assigned."""

import copy
import inspect
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from material import DATA
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import kstest, multivariate_normal, norm
from sklearn.base import clone
from sklearn.exceptions import InconsistentVersionWarning, NotFittedError
from sklearn.mixture import GaussianMixture

from gmmkit import Blocks, GMMMachine, GMMStats, KMeansMachine
from gmmkit.model.structures import COVARIANCE_TYPES

K, D = 2, 3
MACHINES = [GMMMachine, KMeansMachine]


def data(n_samples=60, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_samples, D)) + np.arange(n_samples)[:, None] % K * 9.0


def fitted(**options):
    start = np.tile([[0.0], [9.0]], D)  # components in this order, whatever the seed
    return GMMMachine(K, means_init=start, **options).fit(data())


def draws(machine, **options):
    return machine.sample(5, **options)[0]


# -------------------------------------------------------------------------------------- drawing


def test_each_call_draws_new_samples_of_the_mixture():
    machine = GMMMachine(1).fit(data()[::2])
    X = np.concatenate([machine.sample()[0] for _ in range(500)])
    assert len(np.unique(X, axis=0)) == 500
    for x, mean, variance in zip(X.T, machine.means_[0], machine.covariances_[0], strict=True):
        assert kstest(x, norm(mean, np.sqrt(variance)).cdf).pvalue > 1e-4


@pytest.mark.parametrize("seed", [3, np.uint8(3)])
def test_seed_given_gives_the_same_samples_and_takes_nothing_of_the_others(seed):
    one, other = fitted(), fitted()
    assert_array_equal(draws(one, random_state=seed), draws(one, random_state=seed))
    assert np.all(draws(one, random_state=seed) != draws(one, random_state=4))
    assert_array_equal(draws(one), draws(other))
    generator = np.random.RandomState(3)
    assert_array_equal(draws(one, random_state=generator), draws(one, random_state=seed))
    assert np.all(draws(one, random_state=generator) != draws(one, random_state=seed))


def test_machine_s_own_generator_decides_the_sequence():
    calls = [draws(fitted(random_state=7)) for _ in range(2)]
    assert_array_equal(*calls)
    assert np.all(draws(fitted(random_state=8)) != calls[0])
    machine = fitted(random_state=8)
    draws(machine)
    assert_array_equal(draws(machine.set_params(random_state=7)), calls[0])
    generators = [np.random.RandomState(5) for _ in range(2)]
    one, other = (fitted().set_params(random_state=each) for each in generators)
    assert_array_equal([draws(one), draws(one)], [draws(other), draws(other)])
    assert np.all(draws(one) != draws(one))
    assert np.all(draws(fitted(random_state=None)) != draws(fitted(random_state=None)))


ANEW = {
    "fit": lambda machine: machine.fit(data()),
    "clone and fit": lambda machine: clone(machine).fit(data()),
    "pickle": lambda machine: pickle.loads(pickle.dumps(machine)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


@pytest.mark.parametrize("how", ANEW)
def test_fits_and_copies_begin_anew(how):
    machine = fitted()
    first = draws(machine)
    assert np.all(draws(machine) != first)
    assert_array_equal(draws(ANEW[how](machine)), first)


def test_loaded_machine_begins_anew(tmp_path):
    machine = fitted()
    first = draws(machine)
    machine.save(tmp_path / "machine.h5")
    assert_array_equal(draws(GMMMachine.from_hdf5(tmp_path / "machine.h5")), first)
    machine.load(tmp_path / "machine.h5")
    assert_array_equal(draws(machine), first)


def test_drawing_changes_neither_the_machine_nor_its_pickle():
    machine = fitted()
    before, parameters = pickle.dumps(machine), machine.get_params()
    draws(machine)
    assert machine == pickle.loads(before)
    assert pickle.dumps(machine) == before
    assert machine.get_params() == parameters


def test_fit_that_fails_goes_on_with_the_sequence():
    machine, undisturbed = fitted(), fitted()
    draws(machine), draws(undisturbed)
    with pytest.raises(ValueError, match="NaN"):
        machine.fit(data() * np.nan)
    assert_array_equal(draws(machine), draws(undisturbed))


def test_batches_go_on_with_the_sequence():
    machine = GMMMachine(1).partial_fit(data())
    first = draws(machine)
    assert np.all(draws(machine.partial_fit(data(seed=1))) != first)


def test_threads_draw_different_samples():
    machine = fitted()
    with ThreadPoolExecutor(8) as pool:
        X = np.concatenate(list(pool.map(lambda _: draws(machine), range(40))))
    assert len(np.unique(X, axis=0)) == len(X)


def test_conditionals_and_marginals_of_a_machine_draw_different_noise():
    machine = fitted(covariance_type="full")
    parts = [machine.condition([0], [9.0]), machine.condition([0], [9.0]), machine.marginal([1, 2])]
    samples = [part.sample(5)[0] for part in parts]
    assert len(np.unique(np.concatenate(samples), axis=0)) == 15
    assert_array_equal(*(part.sample(5, random_state=1)[0] for part in parts[:2]))


# ------------------------------------------------------------------- arrays that are read and set


@pytest.mark.parametrize("name", ["means", "variances", "weights"])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_arrays_of_the_model_cannot_be_changed_in_place(name, kind):
    machine = fitted(covariance_type=kind)
    with pytest.raises(ValueError, match="read-only"):
        getattr(machine, name)[0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        getattr(machine, name)[...] *= 2


def test_what_is_learned_can_be_changed_in_place_and_counts():
    machine = fitted()
    machine.means_[0] += 1
    machine.covariances_[1] *= 2
    machine.weights_[:] = [0.3, 0.7]
    parts = zip(machine.weights_, machine.means_, machine.covariances_, strict=True)
    density = sum(w * multivariate_normal(m, np.diag(C)).pdf(data()) for w, m, C in parts)
    assert_allclose(machine.score_samples(data()), np.log(density), rtol=1e-10)
    assert_array_equal(machine.means, machine.means_)
    assert_array_equal(machine.variances, machine.covariances_)
    assert_array_equal(machine.marginal([0, 1, 2]).means_, machine.means_)
    further = clone(machine).set_params(warm_start=True, max_fitting_steps=0)
    further.means_, further.covariances_ = machine.means_, machine.covariances_
    further.weights_, further.n_features_in_ = machine.weights_, D
    with pytest.warns(UserWarning, match="steps"):
        further.fit(data())
    assert_array_equal(further.means_, machine.means_)


@pytest.mark.parametrize(
    "name, value, said",
    [
        ("means_", np.zeros(D), r"means_ has shape \(3,\), expected \(K, D\)"),
        ("means_", np.zeros((K + 1, D)), r"weights_ has shape \(2,\), expected \(3,\)"),
        (
            "covariances_",
            np.ones((K, D + 1)),
            r"covariances_ has shape \(2, 4\), expected \(2, 3\)",
        ),
    ],
)
def test_learned_arrays_that_do_not_fit_together_are_refused(name, value, said):
    machine = fitted()
    setattr(machine, name, value)
    with pytest.raises(ValueError, match=said):
        machine.score(data())


@pytest.mark.parametrize(
    "make",
    [
        lambda machine: GMMMachine(trainer="map", ubm=machine, update_means=False).fit(data()),
        lambda machine: GMMMachine(trainer="map", ubm=machine).initialize_gaussians(),
        lambda machine: machine.marginal([0, 1, 2]),
        lambda machine: machine.grow(K),
        lambda machine: machine.merge(K),
        lambda machine: GMMMachine.from_sklearn(machine.to_sklearn()),
        lambda machine: copy.deepcopy(machine),
    ],
    ids=["adapted", "initialised", "marginal", "grown", "merged", "sklearn", "copy"],
)
def test_machines_made_of_a_machine_share_no_arrays(make):
    machine = fitted()
    before, other = copy.deepcopy(machine), make(machine)
    starts = [np.array(getattr(other, f"{n}_init")) for n in ("weights", "means", "covariances")]
    for name in ("weights_", "means_", "covariances_"):
        getattr(other, name)[...] = 0.25
    assert machine == before
    for name, start in zip(("weights", "means", "covariances"), starts, strict=True):
        assert_array_equal(getattr(other, f"{name}_init"), start)


def test_weights_are_refused_when_they_are_assigned():
    machine = GMMMachine(3)
    with pytest.raises(ValueError, match=r"^weights must have a sum of one, got a sum of 0.66"):
        machine.weights = [0.2, 0.3, 0.16]
    assert machine.weights_init is None
    with pytest.raises(ValueError, match=r"^weights has shape \(2,\), expected \(3,\)"):
        machine.weights = [0.2, 0.8]
    machine.means = np.eye(3)
    with pytest.raises(ValueError, match=r"^variances has shape \(2, 3\), expected \(3, 3\)"):
        machine.variances = np.ones((2, 3))
    assert machine.covariances_init is None
    assert_array_equal(machine.variances, np.ones((3, 3)))


def test_parts_may_come_in_any_order():
    X, parts = (
        data(),
        {"means": data()[:K], "variances": np.full((K, D), 4.0), "weights": [0.3, 0.7]},
    )
    machines = [GMMMachine(K) for _ in range(3)]
    for first, machine in enumerate(machines):
        for name in [*list(parts)[first:], *list(parts)[:first]]:
            setattr(machine, name, parts[name])
    for machine in machines[1:]:
        assert machine == machines[0]
        assert_array_equal(machine.score_samples(X), machines[0].score_samples(X))


# ------------------------------------------------------------------------------------ conditioning


def test_weights_far_away_are_those_of_the_widest_component():
    machine = GMMMachine(2, covariance_type="full")
    machine.means = [[0.0, 0.0], [1.0, 5.0]]
    machine.variances = [np.eye(2), 2 * np.eye(2)]
    for value in (1e3, 1e153, 1e155, 1e200, -1e307, 1.7e308):
        given = machine.condition([0], [value])
        assert_array_equal(given.weights_, [0, 1])
        assert_array_equal(given.means_, [[0], [5]])


def test_component_of_weight_zero_does_not_count_however_near_it_is():
    machine = GMMMachine(2)
    machine.means, machine.variances = [[1e9, 0.0], [0.0, 1.0]], [[4.0, 1.0], [1.0, 1.0]]
    machine.weights = [0.0, 1.0]
    for value in (1e9, 1e200):
        assert_array_equal(machine.condition([0], [value]).weights_, [0, 1])


def test_far_from_zero_conditional_weights_keep_their_digits():
    machine, far = (GMMMachine(2) for _ in range(2))
    machine.means, far.means = [[0.0, 0.0], [1.0, 1.0]], [[2.0**40, 0.0], [2.0**40 + 1, 1.0]]
    expected = machine.condition([0], [0.25]).weights_
    assert_array_equal(far.condition([0], [2.0**40 + 0.25]).weights_, expected)
    ratio = norm(0).pdf(0.25) / norm(1).pdf(0.25)
    assert_allclose(expected, [ratio / (1 + ratio), 1 / (1 + ratio)], rtol=1e-12)


def test_means_that_overflow_are_refused():
    machine = GMMMachine(1, covariance_type="full")
    machine.means, machine.variances = [[0.0, 0.0]], [[[1.0, 5.0], [5.0, 100.0]]]
    with pytest.raises(ValueError, match="values are too large"):
        machine.condition([0], [1e308])


def test_one_number_for_one_feature():
    frame = pd.DataFrame(data(), columns=["a", "b", "c"])
    machine = GMMMachine(K, covariance_type="full").fit(frame)
    expected = machine.condition(["b"], [3.0])
    for features, values in (
        ("b", 3.0),
        (1, 3),
        (np.int8(1), np.float32(3)),
        ([1], 3.0),
        ("b", [3]),
    ):
        assert machine.condition(features, values) == expected
    assert machine.marginal("b") == machine.marginal(1) == machine.marginal(["b"])


def test_messages_print_sizes():
    with pytest.raises(ValueError, match=r"the shape \(1,\), .* shape \(60, 1\)") as caught:
        fitted().condition([0], data()[:, :1])
    assert len(str(caught.value)) < 120


# --------------------------------------------------------------------------------- the constructor


@pytest.mark.parametrize(
    "Machine, names",
    [
        (GMMMachine, {"n_components": "n_gaussians", "tol": "convergence_threshold"}),
        (GMMMachine, {"max_iter": "max_fitting_steps", "reg_covar": "variance_thresholds"}),
        (GMMMachine, {"precisions_init": "covariances_init", "weights": "weights_init"}),
        (KMeansMachine, {"n_components": "n_clusters", "init": "init_method"}),
    ],
)
def test_other_packages_names_are_pointed_to_ours(Machine, names):
    for theirs, our in names.items():
        assert our in inspect.signature(Machine).parameters
        said = rf"^{Machine.__name__}\(\) got .*'{theirs}'; {theirs} is called {our}\b.* here\.$"
        with pytest.raises(TypeError, match=said):
            Machine(**{theirs: 3})


@pytest.mark.parametrize("Machine", MACHINES)
def test_wrong_calls_name_the_class(Machine):
    with pytest.raises(TypeError, match=rf"^{Machine.__name__}\(\) .*'colour'\.$"):
        Machine(colour="red")
    with pytest.raises(
        TypeError, match=rf"^{Machine.__name__}\(\) too many positional arguments\.$"
    ):
        Machine(3, "ml")
    with pytest.raises(TypeError, match=rf"^{Machine.__name__}\(\) multiple values .*"):
        Machine(3, **{next(iter(inspect.signature(Machine).parameters)): 3})


def test_names_elsewhere_are_none_of_ours():
    for Machine in MACHINES:
        parameters = inspect.signature(Machine).parameters
        assert not Machine._names_elsewhere.keys() & parameters.keys()
        for hint in Machine._names_elsewhere.values():
            assert hint.split()[0] in parameters


class Own(GMMMachine):
    """A user's class with settings of its own."""

    def __init__(self, colour, n_gaussians=2):
        super().__init__(n_gaussians)
        self.colour = colour


def test_class_of_a_user_has_a_constructor_of_its_own():
    assert list(inspect.signature(Own).parameters) == ["colour", "n_gaussians"]
    assert clone(Own("red")).fit(data()).colour == "red"
    assert pickle.loads(pickle.dumps(Own("red"))).colour == "red"
    with pytest.raises(TypeError, match=r"Own.*missing .* 'colour'"):
        Own()
    with pytest.raises(TypeError, match=r"^Own\(\) .*'n_components'; .* n_gaussians here"):
        Own("red", n_components=2)


@pytest.mark.parametrize("Machine", MACHINES)
def test_signature_is_the_constructor_s(Machine):
    assert inspect.signature(Machine) == inspect.signature(Machine.__init__).replace(
        parameters=list(inspect.signature(Machine.__init__).parameters.values())[1:],
        return_annotation=inspect.signature(Machine).return_annotation,
    )


# --------------------------------------------------------------------------- NumPy's small numbers


@pytest.mark.filterwarnings("ignore::gmmkit.FloorWarning")
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int64])
def test_small_integers_train_the_model_of_python_s(dtype):
    X = data(150)
    options = {
        "convergence_threshold": 0.1,
        "max_fitting_steps": 127,
        "n_init": 2,
        "n_jobs": 1,
        "random_state": 100,
    }
    small = {name: dtype(value) if value >= 1 else value for name, value in options.items()}
    for n in (2, 100):
        assert GMMMachine(dtype(n), **small).fit(X) == GMMMachine(n, **options).fit(X)
    options = {"max_iter": 127, "n_init": 2, "init_max_iter": 3, "oversampling_factor": 120}
    small = {name: dtype(value) for name, value in options.items()}
    one, other = KMeansMachine(dtype(100), **small).fit(X), KMeansMachine(100, **options).fit(X)
    assert_array_equal(one.centroids_, other.centroids_)
    one, other = (
        GMMMachine(2, covariance_type="full", block_size=size).fit(X) for size in (dtype(3), 3)
    )
    assert one == other


def test_settings_of_numpy_s_types_are_cloned():
    machine = GMMMachine(
        np.int16(1000), weight_floor=np.float32(1e-9), random_state=np.int64(2**31)
    )
    assert clone(machine).get_params() == machine.get_params()
    assert machine.n_gaussians == 1000
    clusters = KMeansMachine(np.int16(1000)).set_params(max_iter=np.uint8(255))
    assert clone(clusters).get_params() == clusters.get_params()


def test_small_integers_make_statistics_of_their_size():
    stats = GMMStats(np.int8(20), np.int8(10), "full")
    assert stats == GMMStats(20, 10, "full")
    assert stats.buffer.size == 20 * (1 + 10 + 55) + 2
    stats.resize(np.uint8(200), np.uint8(200))
    assert stats.n.shape == (200,)
    machine = fitted()
    assert machine.grow(np.uint8(4)) == fitted().grow(4)
    assert machine.sample(np.uint8(200), random_state=np.uint8(1))[0].shape == (200, D)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "bool"])
def test_integers_score_as_the_numbers_that_they_are(dtype):
    # scikit-learn 1.9.1 squares in the data's own type
    X = np.random.default_rng(0).integers(0, 256, (50, D)).astype(dtype)
    pixels = GMMMachine(2).fit(np.random.default_rng(1).uniform(0, 255, (200, D)))
    theirs = pixels.to_sklearn()
    assert isinstance(theirs, GaussianMixture)
    expected = theirs.score_samples(X.astype(float))
    for samples in (X, da.from_array(X, chunks=20), Blocks([X[:20], X[20:]])):
        assert_allclose(np.asarray(pixels.score_samples(samples)), expected, rtol=1e-10)
        assert_array_equal(np.asarray(pixels.predict(samples)), theirs.predict(X.astype(float)))


# -------------------------------------------------------------------------------------- masked data


@pytest.mark.parametrize("Machine", MACHINES)
def test_nothing_masked_is_an_array(Machine):
    X, weight = data(), np.ones(60)
    masked, expected = np.ma.array(X), Machine(K).fit(X, sample_weight=weight)
    lazy = da.from_array(masked, chunks=(20, D), asarray=False)
    for samples in (masked, lazy, da.ma.masked_array(da.from_array(X, chunks=(20, D)))):
        machine = Machine(K).fit(samples, sample_weight=np.ma.array(weight))
        assert_allclose(np.sort(machine.means, 0), np.sort(expected.means, 0), rtol=1e-6)
    Machine(K).fit(Blocks([(masked, np.ma.array(weight))]))


def test_masked_block_is_named():
    hidden = np.ma.masked_equal(np.where(np.arange(60)[:, None] == 45, -9999, data()), -9999)
    x = da.from_array(hidden, chunks=(20, D), asarray=False)
    for samples, said in ((x, "block 2 of X"), (Blocks([data(), hidden]), "Block 1 of X")):
        with pytest.raises(ValueError, match="masked values") as caught:
            GMMMachine(1).fit(samples)
        assert said in "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])


# -------------------------------------------------------------------------------- MAP before a fit


def test_machine_that_adapts_a_ubm_has_a_model_once_it_is_initialised():
    ubm = fitted()
    machine = GMMMachine(trainer="map", ubm=ubm)
    for read in (lambda: machine.means, lambda: machine.score(data())):
        with pytest.raises(NotFittedError):
            read()
    assert machine.initialize_gaussians() is machine
    assert machine == ubm
    assert machine.ubm_ is ubm
    assert machine.score(data()) == ubm.score(data())
    begun = GMMMachine(trainer="map", ubm=ubm, means_init=ubm.means + 1).initialize_gaussians()
    assert_array_equal(begun.means, ubm.means + 1)
    with pytest.raises(NotFittedError, match="ubm is not fitted"):
        GMMMachine(trainer="map", ubm=GMMMachine(2)).initialize_gaussians()
    for other in (GMMMachine(2), GMMMachine(2, trainer="map")):
        with pytest.raises(ValueError, match="array"):
            other.initialize_gaussians()


# ------------------------------------------------------------------------------------- no samples


@pytest.mark.parametrize("criterion", ["bic", "aic", "score"])
def test_nothing_is_not_the_best_of_all(criterion):
    x = da.from_array(data(), chunks=(20, D))
    with pytest.raises(ValueError, match="no samples with a positive weight"):
        getattr(fitted(), criterion)(x[x[:, 0] > 1e9])


class Doubled:
    """A source of a user's own: the rows of an array, twice."""

    sample_weight, in_memory = None, False

    def __init__(self, X):
        self.X = X
        self.n_samples, self.n_features, self.dtype = 2 * len(X), X.shape[1], X.dtype

    def map_sum(self, kernel, name, block_length=1):
        return kernel(self.X, None, 0) + kernel(self.X, None, len(self.X))

    def map_rows(self, kernel, name, block_length=1):
        return np.concatenate([kernel(self.X, None, 0), kernel(self.X, None, len(self.X))])


def test_a_source_is_taken_as_it_is():
    X = np.random.default_rng(0).normal(size=(200, 2)) + [[0, 0], [6, 6]] * 100
    doubled, twice = Doubled(X), np.concatenate([X, X])
    machine = GMMMachine(2, means_init=X[:2]).fit(doubled)
    expected = GMMMachine(2, means_init=X[:2]).fit(twice)
    assert machine.is_similar_to(expected)
    assert machine.e_step(doubled).is_similar_to(expected.e_step(twice))
    np.testing.assert_array_equal(machine.predict(doubled), expected.predict(twice))
    clusters = KMeansMachine(2, init_method=X[:2]).fit(doubled)
    np.testing.assert_allclose(clusters.counts_, [200, 200])
    with pytest.raises(ValueError, match="a source contains its own weights"):
        machine.score(doubled, sample_weight=np.ones(400))
    with pytest.raises(ValueError, match="has 3 features, but GMMMachine is expecting 2"):
        machine.predict(Doubled(np.ones((2, 3))))


def test_pickles_from_before_the_rooms_load():
    # made by 0.1.0 when all modules stood in one folder; they name these modules
    with open(DATA / "pickled_before_rooms.pkl", "rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", InconsistentVersionWarning)  # of other releases
        things, scores, X = pickle.load(file)
    for name in ("speaker", "stream"):
        assert_allclose(things[name].score_samples(X[:5]), scores[name], rtol=1e-12)
    things["stream"].partial_fit(X)
    assert things["stream"].n_batches_seen_ == 3
    assert isinstance(things["speaker"].k_means_trainer, KMeansMachine)
    for kind, stats in things["statistics"].items():
        assert stats.covariance_type == kind
        assert (stats + stats).t == 2 * len(X)
    assert_array_equal(things["clusters"].predict(X), things["clusters"].labels_)
    assert things["blocks"].shape == (9, 4)
    assert len(things["selection"].table["bic"]) == 2
