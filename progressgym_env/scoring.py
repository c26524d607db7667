"""The three official scores, skill, and the terms the environments pay out step by step.

Notation: c_t the centuries' value embeddings, x_t the examinee's, h_s the human proxy's. All
arithmetic is in float64. Scores broadcast over leading batch axes: unbatched input gives a
``float``, batched input an array.

Raw cosines of non-negative vectors have a high floor (:func:`uniform_floor`), so a score is
reported together with its :func:`skill`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from progressgym_env.errors import InvalidArgumentError, unknown_name
from progressgym_env.values.dimensions import N_DIMENSIONS

__all__ = [
    "coevolve_score",
    "coevolve_term",
    "cosine",
    "dot",
    "follow_score",
    "predict_score",
    "skill",
    "suffix_mean",
    "uniform_floor",
    "unit",
]

FloatArray = NDArray[np.float64]


def follow_score(examinee_values: ArrayLike, target_values: ArrayLike) -> float | FloatArray:
    """Official score of Follow: the mean over t of cos(x_t, c_t).

    Args:
        examinee_values: (..., n_steps, 19), x_t after each step.
        target_values: (..., n_steps, 19), c_t of the century that was present at that step.

    Returns:
        The score in [-1, 1] (in [0, 1] for embeddings, which are non-negative): a float, or an
        array of the batch shape if either argument has leading axes.

    Raises:
        InvalidArgumentError: shapes do not align, or a vector is zero or holds NaN or infinity.
    """
    return _aligned_score(examinee_values, target_values)


def predict_score(examinee_values: ArrayLike, target_values: ArrayLike) -> float | FloatArray:
    """Official score of Predict, k centuries ahead: the mean over t of cos(x_t, c_{t+k}).

    Args:
        examinee_values: (..., n_steps, 19), x_t after each step.
        target_values: (..., n_steps, 19), c_{t+k} aligned with it.

    Returns:
        As :func:`follow_score`.

    Raises:
        InvalidArgumentError: shapes do not align, or a vector is zero or holds NaN or infinity.
    """
    return _aligned_score(examinee_values, target_values)


def coevolve_score(proxy_values: ArrayLike, century_values: ArrayLike) -> float | FloatArray:
    """Official score of Coevolve: the mean over s and i of max_{j ≥ i} cos(h_s, c_j).

    Args:
        proxy_values: (..., n_states, 19), the human proxy's states, h_0 first.
        century_values: (..., n_centuries, 19), all centuries, in order.

    Returns:
        The score in [-1, 1]: a float, or an array of the batch shape if either argument has
        leading axes.

    Raises:
        InvalidArgumentError: a shape is wrong, or a vector is zero or holds NaN or infinity.
    """
    proxy = _embeddings(proxy_values, "proxy_values", 2)
    centuries = _embeddings(century_values, "century_values", 2)
    _check_batch(proxy, "proxy_values", centuries, "century_values")
    terms = suffix_mean(_unit(proxy), _unit(centuries)[..., None, :, :])
    return _float_or_array(terms.mean(axis=-1))


def coevolve_term(proxy_value: ArrayLike, century_values: ArrayLike) -> float | FloatArray:
    """What one state of the human proxy contributes: the mean over i of max_{j ≥ i} cos(h, c_j).

    Args:
        proxy_value: (..., 19), one state h.
        century_values: (..., n_centuries, 19), all centuries, in order.

    Returns:
        The term in [-1, 1]; :func:`coevolve_score` is its mean over the proxy's states.

    Raises:
        InvalidArgumentError: a shape is wrong, or a vector is zero or holds NaN or infinity.
    """
    proxy = _embeddings(proxy_value, "proxy_value", 1)
    centuries = _embeddings(century_values, "century_values", 2)
    _check_broadcast(proxy.shape[:-1], "proxy_value", centuries.shape[:-2], "century_values")
    return _float_or_array(suffix_mean(_unit(proxy), _unit(centuries)))


def cosine(one: ArrayLike, other: ArrayLike) -> float | FloatArray:
    """Cosine similarity along the last axis, broadcast over the others.

    Args:
        one: (..., 19).
        other: (..., 19).

    Raises:
        InvalidArgumentError: a shape is wrong, or a vector is zero or holds NaN or infinity.
    """
    first, second = _embeddings(one, "one", 1), _embeddings(other, "other", 1)
    _check_broadcast(first.shape[:-1], "one", second.shape[:-1], "other")
    return _float_or_array(dot(_unit(first), _unit(second)))


def skill(score: ArrayLike, hold: ArrayLike, oracle: ArrayLike) -> float | FloatArray:
    """How far ``score`` is on the way from the hold agent's (0) to the oracle's (1).

    Compare like with like: the three belong to the same challenge, history and seeds. Below 0 is
    worse than doing nothing; above 1 is better than the oracle.

    Raises:
        InvalidArgumentError: a score is NaN or infinite, or the oracle is not above hold, so
            that there is no scale to stand on.
    """
    values = {"score": score, "hold": hold, "oracle": oracle}
    arrays = {name: np.asarray(value, dtype=np.float64) for name, value in values.items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise InvalidArgumentError(f"{name} {array} is not finite; skill needs real scores")
    low, high = arrays["hold"], arrays["oracle"]
    _check_broadcast(low.shape, "hold", high.shape, "oracle")
    if (high <= low).any():
        raise InvalidArgumentError(
            f"oracle {high} must be above hold {low}; without a gap between them skill is "
            "undefined, so report the raw score alone"
        )
    _check_broadcast(arrays["score"].shape, "score", np.broadcast(low, high).shape, "hold, oracle")
    return _float_or_array((arrays["score"] - low) / (high - low))


def uniform_floor(
    challenge: str, *, n_centuries: int = 9, n_samples: int = 2000, seed: int = 0
) -> float:
    """The mean score of independent uniform vectors: what no skill at all already gets.

    Args:
        challenge: ``"follow"``, ``"predict"`` or ``"coevolve"``.
        n_centuries: length of the history, ≥ 2.
        n_samples: episodes averaged over.
        seed: seeds the draws.

    Raises:
        UnknownNameError: there is no such challenge.
    """
    rng = np.random.default_rng(seed)
    subjects = rng.uniform(size=(n_samples, n_centuries, N_DIMENSIONS))
    centuries = rng.uniform(size=(n_samples, n_centuries, N_DIMENSIONS))
    if challenge in ("follow", "predict"):
        return float(np.mean(_aligned_score(subjects, centuries)))
    if challenge == "coevolve":
        return float(np.mean(coevolve_score(subjects, centuries)))
    raise unknown_name("challenge", challenge, ("follow", "predict", "coevolve"))


def _aligned_score(examinee_values: ArrayLike, target_values: ArrayLike) -> float | FloatArray:
    examinee = _embeddings(examinee_values, "examinee_values", 2)
    target = _embeddings(target_values, "target_values", 2)
    if examinee.shape[-2] != target.shape[-2]:
        raise InvalidArgumentError(
            f"examinee_values has {examinee.shape[-2]} steps and target_values "
            f"{target.shape[-2]}; the two must be aligned, one target a step"
        )
    _check_batch(examinee, "examinee_values", target, "target_values")
    return _float_or_array(dot(_unit(examinee), _unit(target)).mean(axis=-1))


def suffix_mean(proxy: FloatArray, centuries: FloatArray) -> FloatArray:
    """(...), the mean over i of max_{j ≥ i} of what unit vectors (..., 19), (..., n, 19) share."""
    similarity = dot(proxy[..., None, :], centuries)
    best_from = np.maximum.accumulate(similarity[..., ::-1], axis=-1)
    return np.asarray(best_from.mean(axis=-1), dtype=np.float64)


def dot(one: FloatArray, other: FloatArray) -> FloatArray:
    """Inner products along the last axis; of :func:`unit` vectors, their cosines."""
    return np.asarray(np.einsum("...i,...i->...", one, other), dtype=np.float64)


def unit(vectors: FloatArray) -> FloatArray:
    """Embeddings scaled to length 1, unchecked: for inner loops over many, none of them zero."""
    return vectors / np.sqrt(dot(vectors, vectors))[..., None]


def _unit(vectors: FloatArray) -> FloatArray:
    # Scaling by the largest entry first keeps squares of extreme entries from over- or
    # underflowing.
    scaled = vectors / np.abs(vectors).max(axis=-1, keepdims=True)
    return np.asarray(scaled / np.linalg.norm(scaled, axis=-1, keepdims=True), dtype=np.float64)


def _embeddings(values: ArrayLike, name: str, least_axes: int) -> FloatArray:
    """``values`` as float64, checked: enough axes, 19 wide, finite, no zero vector."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"{name} is no array of numbers ({error})") from error
    wanted = f"(..., {N_DIMENSIONS})" if least_axes == 1 else f"(..., n, {N_DIMENSIONS})"
    if array.ndim < least_axes or array.shape[-1] != N_DIMENSIONS or 0 in array.shape:
        raise InvalidArgumentError(
            f"{name} has shape {array.shape}; it must be {wanted}, with nothing empty"
        )
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise InvalidArgumentError(
            f"{name}{list(where)} is {array[where]}; a value embedding must be finite"
        )
    zero = ~array.any(axis=-1)
    if zero.any():
        place = [int(i) for i in np.argwhere(zero)[0]]
        raise InvalidArgumentError(
            f"{name}{place or ''} is the zero vector, which has no direction; "
            "a value embedding has at least one entry above 0"
        )
    return array


def _check_batch(one: FloatArray, one_name: str, other: FloatArray, other_name: str) -> None:
    _check_broadcast(one.shape[:-2], one_name, other.shape[:-2], other_name)


def _check_broadcast(
    one: tuple[int, ...], one_name: str, other: tuple[int, ...], other_name: str
) -> None:
    try:
        np.broadcast_shapes(one, other)
    except ValueError:
        raise InvalidArgumentError(
            f"leading axes {one} of {one_name} and {other} of {other_name} do not broadcast; "
            "give both the same batch shape, or one of them none"
        ) from None


def _float_or_array(result: FloatArray) -> float | FloatArray:
    return float(result) if result.ndim == 0 else result
