"""Distances: how far one fitted machine is from another.

The functions take two machines over the same features, of any structures and numbers of components.
The formulas and their sources stand in `gmmkit.model.distances`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gmmkit import checks
from gmmkit.estimators.combination import check_same_features
from gmmkit.estimators.gmm import GMMMachine
from gmmkit.model import distances as formulas
from gmmkit.model.parameters import Parameters
from gmmkit.scoring.models import parameters_of

__all__ = [
    "Estimate",
    "component_distances",
    "jensen_shannon",
    "kl_approximation",
    "kl_bounds",
    "kl_divergence",
    "transport_plan",
    "wasserstein",
]

_MEASURES = {
    "bhattacharyya": formulas.bhattacharyya,
    "kl": formulas.divergences,
    "wasserstein": formulas.wasserstein_roots,
}
_APPROXIMATIONS = {"variational": formulas.variational, "matched": formulas.matched}


class Estimate(NamedTuple):
    """A mean over random samples.

    Attributes
    ----------
    value : float
        The mean.
    standard_error : float
        The standard deviation of the mean. It falls with the root of the number of samples.
    """

    value: float
    standard_error: float


def kl_divergence(
    p: GMMMachine, q: GMMMachine, n_samples: int = 100_000, random_state: Any = 0
) -> Estimate:
    """Kullback-Leibler divergence KL(p || q), in nats, by Monte Carlo.

    Parameters
    ----------
    p : GMMMachine
    q : GMMMachine
        Fitted machines over the same features.
    n_samples : int, default=100000
        Number of samples that are drawn from `p`, at least 2.
    random_state : int, RandomState or None, default=0

    Returns
    -------
    Estimate
        The mean of log p - log q over the samples, and its standard error.

    Examples
    --------
    >>> from gmmkit import GMMMachine
    >>> from gmmkit.distances import kl_divergence
    >>> p, q = GMMMachine(1), GMMMachine(1)
    >>> p.means, q.means = [[0.0]], [[1.0]]
    >>> estimate = kl_divergence(p, q)  # the closed form is 1/2
    >>> abs(estimate.value - 0.5) < 4 * estimate.standard_error < 0.02
    True
    """
    _checked(p, q)
    X, _ = p.sample(_count(n_samples), checks.generator(random_state))
    return Estimate(*formulas.mean_and_error(p.score_samples(X) - q.score_samples(X)))


def jensen_shannon(
    p: GMMMachine, q: GMMMachine, n_samples: int = 100_000, random_state: Any = 0
) -> Estimate:
    """Jensen-Shannon divergence, in nats, by Monte Carlo: symmetric, from 0 to log 2.

    It is (KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2. Its square root is a metric.

    Parameters
    ----------
    p : GMMMachine
    q : GMMMachine
        Fitted machines over the same features.
    n_samples : int, default=100000
        Number of samples that are drawn from each machine, at least 2.
    random_state : int, RandomState or None, default=0

    Returns
    -------
    Estimate

    References
    ----------
    J. Lin, Divergence measures based on the Shannon entropy, IEEE Transactions on Information
    Theory 37, 1991.

    Examples
    --------
    >>> from gmmkit import GMMMachine
    >>> from gmmkit.distances import jensen_shannon
    >>> p, q = GMMMachine(1), GMMMachine(1)
    >>> p.means, q.means = [[0.0]], [[100.0]]  # they do not overlap: log 2
    >>> round(jensen_shannon(p, q).value, 6)
    0.693147
    """
    _checked(p, q)
    n_samples, draws = _count(n_samples), checks.generator(random_state)
    halves = []
    for machine in (p, q):
        X, _ = machine.sample(n_samples, draws)
        middle = np.logaddexp(p.score_samples(X), q.score_samples(X)) - np.log(2)
        halves.append(formulas.mean_and_error(machine.score_samples(X) - middle))
    (one, error), (other, other_error) = halves
    return Estimate((one + other) / 2, float(np.hypot(error, other_error)) / 2)


def kl_approximation(p: GMMMachine, q: GMMMachine, method: str = "variational") -> float:
    """KL(p || q), in nats, by a formula without samples, whose error is not known.

    Parameters
    ----------
    p : GMMMachine
    q : GMMMachine
        Fitted machines over the same features.
    method : {"variational", "matched"}, default="variational"
        "variational" is Hershey and Olsen's approximation. "matched" compares each component of `p`
        with the one of `q` that fits best (Goldberger, Gordon and Greenspan). Both are exact for
        single Gaussians. They may be negative.

    Returns
    -------
    float

    References
    ----------
    J. R. Hershey and P. A. Olsen, Approximating the Kullback Leibler divergence between Gaussian
    mixture models, ICASSP 2007.

    J. Goldberger, S. Gordon and H. Greenspan, An efficient image similarity measure based on
    approximations of KL-divergence between two Gaussian mixtures, ICCV 2003.

    Examples
    --------
    >>> from gmmkit import GMMMachine
    >>> from gmmkit.distances import kl_approximation
    >>> p, q = GMMMachine(1), GMMMachine(1)
    >>> p.means, q.means = [[0.0]], [[1.0]]
    >>> kl_approximation(p, q), kl_approximation(p, q, method="matched")
    (0.5, 0.5)
    """
    approximation = _APPROXIMATIONS[checks.choice(method, "method", _APPROXIMATIONS)]
    return approximation(*_checked(p, q))


def kl_bounds(p: GMMMachine, q: GMMMachine) -> tuple[float, float]:
    """Two numbers, in nats, between which KL(p || q) lies; no samples are drawn.

    Parameters
    ----------
    p : GMMMachine
    q : GMMMachine
        Fitted machines over the same features.

    Returns
    -------
    lower : float
        The bound of Durrieu, Thiran and Kelly, or 0. It is above 0 only if the mixtures lie apart.
    upper : float
        The variational bound of Hershey and Olsen.

    References
    ----------
    J.-L. Durrieu, J.-P. Thiran and F. Kelly, Lower and upper bounds for approximation of the
    Kullback-Leibler divergence between Gaussian mixture models, ICASSP 2012.

    J. R. Hershey and P. A. Olsen, Approximating the Kullback Leibler divergence between Gaussian
    mixture models, ICASSP 2007.

    Examples
    --------
    >>> from gmmkit import GMMMachine
    >>> from gmmkit.distances import kl_bounds
    >>> p, q = GMMMachine(1), GMMMachine(1)
    >>> p.means, q.means = [[0.0]], [[3.0]]
    >>> lower, upper = kl_bounds(p, q)
    >>> round(lower, 3), upper  # KL is 4.5
    (2.097, 4.5)
    """
    parameters = _checked(p, q)
    return formulas.lower_bound(*parameters), formulas.upper_bound(*parameters)


def component_distances(p: GMMMachine, q: GMMMachine, measure: str = "bhattacharyya") -> np.ndarray:
    """Distances between all components of one machine and those of another.

    Parameters
    ----------
    p : GMMMachine
    q : GMMMachine
        Fitted machines over the same features.
    measure : {"bhattacharyya", "kl", "wasserstein"}, default="bhattacharyya"
        Bhattacharyya's distance, the divergence KL(component of p || component of q), both in nats,
        or the Wasserstein distance W2, in the units of the features.

    Returns
    -------
    ndarray of shape (K_p, K_q)

    References
    ----------
    A. Bhattacharyya, On a measure of divergence between two statistical populations defined by
    their probability distributions, Bulletin of the Calcutta Mathematical Society 35, 1943.

    D. C. Dowson and B. V. Landau, The Frechet distance between multivariate normal distributions,
    Journal of Multivariate Analysis 12, 1982.

    Examples
    --------
    >>> from gmmkit import GMMMachine
    >>> from gmmkit.distances import component_distances
    >>> p, q = GMMMachine(1), GMMMachine(2)
    >>> p.means, q.means = [[0.0]], [[0.0], [4.0]]
    >>> component_distances(p, q)
    array([[0., 2.]])
    >>> component_distances(p, q, "wasserstein")
    array([[0., 4.]])
    """
    distances = _MEASURES[checks.choice(measure, "measure", _MEASURES)]
    return distances(*_checked(p, q))


def wasserstein(p: GMMMachine, q: GMMMachine) -> float:
    """The Wasserstein distance between mixtures, MW2, in the units of the features.

    Weight is transported from the components of `p` to those of `q`. The cost is the square of the
    distance W2 between Gaussians. So the distance is a metric, and at least the distance W2 of the
    two densities. Unlike divergences it also says how far apart mixtures are that do not overlap.

    Parameters
    ----------
    p : GMMMachine
    q : GMMMachine
        Fitted machines over the same features.

    Returns
    -------
    float

    References
    ----------
    J. Delon and A. Desolneux, A Wasserstein-type distance in the space of Gaussian mixture models,
    SIAM Journal on Imaging Sciences 13, 2020.

    Examples
    --------
    >>> from gmmkit import GMMMachine
    >>> from gmmkit.distances import wasserstein
    >>> p, q = GMMMachine(2), GMMMachine(2)
    >>> p.means, q.means = [[0.0], [10.0]], [[13.0], [3.0]]
    >>> wasserstein(p, q)
    3.0
    """
    return formulas.transport(*_checked(p, q))[0]


def transport_plan(p: GMMMachine, q: GMMMachine) -> np.ndarray:
    """The plan behind `wasserstein`: how much weight goes from each component to each.

    Parameters
    ----------
    p : GMMMachine
    q : GMMMachine
        Fitted machines over the same features.

    Returns
    -------
    ndarray of shape (K_p, K_q)
        Its rows add up to the weights of `p`, its columns to those of `q`.

    Examples
    --------
    >>> from gmmkit import GMMMachine
    >>> from gmmkit.distances import transport_plan
    >>> p, q = GMMMachine(2), GMMMachine(2)
    >>> p.means, q.means = [[0.0], [10.0]], [[13.0], [3.0]]
    >>> transport_plan(p, q)
    array([[0. , 0.5],
           [0.5, 0. ]])
    """
    return formulas.transport(*_checked(p, q))[1]


def _checked(p: Any, q: Any) -> tuple[Parameters, Parameters]:
    """The parameters of two machines over the same features."""
    parameters = parameters_of(p, "p"), parameters_of(q, "q")
    check_same_features("p and q", p, q)
    return parameters


def _count(n_samples: Any) -> int:
    """A number of samples that has a standard error."""
    return checks.whole_number(n_samples, "n_samples", least=2)
