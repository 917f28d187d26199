"""Records of what stands in files, with every key; a reader of version 1.0."""

import h5py
import numpy as np
from reference import Structure, constrain, from_matrices, seen_moments

from gmmkit.files.classifier import CLASSIFIER
from gmmkit.files.clusters import read_kmeans, write_kmeans
from gmmkit.files.encoders import FISHER_VECTORS, SUPERVECTORS
from gmmkit.files.hdf5 import write
from gmmkit.files.imputer import IMPUTER
from gmmkit.files.mixture import read_gmm, write_gmm
from gmmkit.files.outlier import OUTLIER
from gmmkit.files.regressor import REGRESSOR
from gmmkit.files.statistics import read_stats, write_stats


def matrices(rng, n, d):
    """Random covariance matrices."""
    factors = rng.normal(size=(n, d, d))
    return factors @ np.swapaxes(factors, -1, -2) + np.eye(d)


def public(full, covariance_type, block_size):
    """Matrices (K, D, D) in the shape that the structure has for users."""
    structure = Structure(covariance_type, block_size)
    return from_matrices(constrain(full, np.ones(len(full)), structure), structure)


def gmm(covariance_type="diag", block_size=None, seed=0, **changes):
    """A record of a mixture, with every key."""
    rng = np.random.default_rng(seed)
    weights = rng.uniform(1, 2, size=3)
    record = {
        "n_gaussians": 3,
        "n_features": 4,
        "covariance_type": covariance_type,
        "block_size": block_size,
        "weights": weights / weights.sum(),
        "means": rng.normal(size=(3, 4)),
        "covariances": public(matrices(rng, 3, 4), covariance_type, block_size),
        "trainer": "ml",
        "convergence_threshold": 1e-4,
        "max_fitting_steps": 200,
        "n_init": 2,
        "warm_start": True,
        "update_means": True,
        "update_variances": False,
        "update_weights": True,
        "mean_var_update_threshold": 2.0**-52,
        "weight_floor": 1e-9,
        "map_alpha": 0.25,
        "map_relevance_factor": 16.0,
        "map_prior": "gauvain",
        "acceleration": "squarem",
        "missing": "marginalize",
        "variance_thresholds": rng.uniform(size=4),
        "random_state": 7,
        "weights_init": weights / weights.sum(),
        "means_init": rng.normal(size=(3, 4)),
        "covariances_init": public(matrices(rng, 3, 4), covariance_type, block_size),
        "feature_names": ["MFCC 1", "ü", "", "x" * 300],
        "n_iter": 5,
        "converged": True,
        "lower_bounds": np.array([-np.inf, -5.5, -5.25]),
        "lower_bound": -5.25,
        "n_jobs": -1,
        "verbose": 2,
        "unset": ["n_gaussians", "ubm_"],
        "ubm": None,
        "variance_floor": rng.uniform(size=4),
    }
    return {**record, **changes}


SPARSE = dict.fromkeys(
    (
        *("convergence_threshold", "map_relevance_factor", "variance_thresholds", "random_state"),
        *("acceleration", "missing"),
        *("weights_init", "means_init", "covariances_init", "feature_names"),
        *("n_iter", "converged", "lower_bounds", "lower_bound", "n_jobs", "variance_floor"),
    )
)


def regressor(**changes):
    """A record of a regressor, with every key."""
    record = {
        "n_features": 3,
        "n_targets": 1,
        "n_joint": 4,
        "method": "best",
        "target_ndim": 1,
        "default_mixture": False,
        "mixture": gmm("full"),
        "feature_names": ["a", "b", "c"],
    }
    return {**record, **changes}


def stats(covariance_type="diag", block_size=None, **changes):
    """A record of statistics, with every key."""
    rng = np.random.default_rng(1)
    full = matrices(rng, 3, 4)
    second = seen_moments(full, Structure(covariance_type, block_size))
    record = {
        "n_gaussians": 3,
        "n_features": 4,
        "covariance_type": covariance_type,
        "block_size": block_size,
        "t": 272.0,
        "log_likelihood": -3625.5,
        "n": rng.uniform(size=3),
        "sum_px": rng.normal(size=(3, 4)),
        "sum_pxx": 2 * second,
        "origin": rng.normal(size=(3, 4)),
        "centred_sum_px": rng.normal(size=(3, 4)),
        "centred_sum_pxx": second,
    }
    return {**record, **changes}


def kmeans(**changes):
    """A record of clusters, with every key."""
    rng = np.random.default_rng(2)
    record = {
        "n_clusters": 3,
        "n_features": 2,
        "centroids": rng.normal(size=(3, 2)),
        "counts": np.array([1.5, 0.0, 7.0]),
        "labels": np.array([2, 0, 2, 2, 0], dtype=np.int32),
        "variances": rng.uniform(size=(3, 2)),
        "init_method": "k-means||",
        "convergence_threshold": 1e-5,
        "max_iter": 20,
        "n_init": 1,
        "init_max_iter": 5,
        "oversampling_factor": 2.0,
        "random_state": 0,
        "inertia": 12.5,
        "converged": True,
        "n_iter": 4,
        "n_jobs": 1,
        "verbose": 1,
        "feature_names": ["a", "b"],
    }
    return {**record, **changes}


def classifier(**changes):
    """A record of a classifier, with every key."""
    record = {
        "n_features": 4,
        "n_classes": 2,
        "n_gaussians": 3,
        "covariance_type": "full",
        "adapt": True,
        "own_ubm": True,
        "temperature": 2.5,
        "threshold": -np.inf,
        "random_state": 3,
        "n_jobs": 2,
        "verbose": 1,
        "classes": np.array(["no", "ü"]),
        "class_count": np.array([1.5, 4.5]),
        "class_prior": np.array([0.25, 0.75]),
        "priors": np.array([0.5, 0.5]),
        "ubm": gmm(seed=2),
        "mixtures": [gmm(), gmm("full", seed=1)],
        "mixture": gmm(seed=3),
        "feature_names": ["a", "b", "c", "d"],
    }
    return {**record, **changes}


def outlier(**changes):
    """A record of an outlier detector, with every key."""
    record = {
        "n_features": 4,
        "contamination": 0.25,
        "offset": -3.5,
        "default_mixture": False,
        "mixture": gmm("full", seed=1),
        "feature_names": ["a", "b", "c", "d"],
    }
    return {**record, **changes}


def fisher_vectors(**changes):
    """A record of an encoder to Fisher vectors, with every key."""
    record = {
        "n_features": 4,
        "ubm_origin": "given",
        "by_weights": False,
        "by_means": True,
        "by_variances": True,
        "power": 0.75,
        "unit_norm": False,
        "n_jobs": 2,
        "verbose": 1,
        "ubm": gmm("full", seed=1),
        "feature_names": ["a", "b", "c", "d"],
    }
    return {**record, **changes}


def supervectors(**changes):
    """A record of an encoder to supervectors, with every key."""
    record = {
        "n_features": 4,
        "ubm_origin": "settings",
        "map_relevance_factor": 16.0,
        "whiten": False,
        "n_jobs": 2,
        "verbose": 1,
        "ubm": gmm(),
        "feature_names": ["a", "b", "c", "d"],
    }
    return {**record, **changes}


def imputer(**changes):
    """A record of an imputer, with every key."""
    record = {
        "n_features": 6,
        "n_kept": 4,
        "sample_posterior": True,
        "add_indicator": True,
        "keep_empty_features": False,
        "random_state": 5,
        "default_mixture": False,
        "missing_values": -999.0,
        "kept": np.array([1, 0, 1, 1, 0, 1]),
        "incomplete": np.array([1, 1, 0, 0, 1, 1]),
        "mixture": gmm("full", seed=4),
        "feature_names": ["a", "b", "c", "d", "e", "f"],
    }
    return {**record, **changes}


def classifier_that_loads():
    """A record of a classifier whose settings fit its parameters."""
    fitted, adapted = {"unset": ["verbose"]}, {"trainer": "map", "unset": ["verbose", "ubm"]}
    return classifier(
        ubm=gmm(seed=2, **fitted),
        mixtures=[gmm(**adapted), gmm(seed=1, **adapted)],
        mixture=gmm("full", seed=3, **fitted),
    )


KINDS = {
    "classifier": (CLASSIFIER.write, CLASSIFIER.read, classifier),
    "fisher vectors": (FISHER_VECTORS.write, FISHER_VECTORS.read, fisher_vectors),
    "gmm": (write_gmm, read_gmm, gmm),
    "outlier": (OUTLIER.write, OUTLIER.read, outlier),
    "imputer": (IMPUTER.write, IMPUTER.read, imputer),
    "regressor": (REGRESSOR.write, REGRESSOR.read, regressor),
    "stats": (write_stats, read_stats, stats),
    "kmeans": (write_kmeans, read_kmeans, kmeans),
    "supervectors": (SUPERVECTORS.write, SUPERVECTORS.read, supervectors),
}


def save(path, kind, record):
    write(path, lambda group: KINDS[kind][0](group, record))
    return path


def read_1_0(path):
    """A model as a reader of version 1.0 reads it."""
    with h5py.File(path, "r") as file:
        major, _ = file.attrs["file_version"].split(".")
        assert int(major) == 1
        assert "GMMMachine" in file.attrs["writer_class"]
        gaussians = file["gaussians"]
        return {
            "n_gaussians": int(file["n_gaussians"][()]),
            "trainer": file["trainer"][()].decode(),
            "convergence_threshold": float(file["convergence_threshold"][()]),
            "max_fitting_steps": int(file["max_fitting_steps"][()]),
            "update_means": bool(file["update_means"][()]),
            "update_variances": bool(file["update_variances"][()]),
            "update_weights": bool(file["update_weights"][()]),
            "weights": file["weights"][...],
            "means": gaussians["means"][...],
            "covariances": gaussians["variances"][...],
            "variance_thresholds": gaussians["variance_thresholds"][...],
        }
