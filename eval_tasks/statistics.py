"""What a score is worth: errors clustered by text, intervals, paired tests, ties, shares of variance.

In: plain numpy arrays, one value per scored row, and for each row the group that it belongs to. Rows of one
group (renderings of one text, near duplicates) are never independent, so every error here is by group.
Out: numbers with their intervals. Refuses empty input and arrays of unequal length (ValueError).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from zhiling.seeds import draw

Array = npt.NDArray[Any]
LEVEL = 0.95
DRAWS = 10_000
CHUNK = 4_000_000  # numbers drawn at a time: memory stays flat whatever the number of groups


@dataclass(frozen=True)
class Estimate:
    """A number, its standard error and its 95 % interval, from `n` rows in `groups` independent groups."""

    value: float
    error: float
    low: float
    high: float
    n: int
    groups: int


@dataclass(frozen=True)
class Difference(Estimate):
    """How far A is ahead of B on the same rows; `p` is two-sided."""

    p: float


def codes(keys: Sequence[Any] | Array) -> Array:
    """`keys` as integers 0, 1, ...: equal keys, equal integers."""
    return cast(Array, np.unique(np.asarray(keys), return_inverse=True)[1].reshape(-1))


def mean(scores: Any, groups: Any, strata: Any = None) -> Estimate:
    """The mean with an error by group and Student's interval; with `strata`, the mean of the strata's means."""
    values, by_group = _row_spreads(np.asarray(scores, dtype=float)[None], groups, strata)
    count = by_group.shape[1]
    error = float(_error(by_group)[0])
    reach = _student(count) * error
    value = float(values[0])
    return Estimate(value, error, value - reach, value + reach, len(scores), count)


def rate(scores: Any, groups: Any, strata: Any = None) -> Estimate:
    """The mean of scores within 0 and 1, with Wilson's interval at the effective number of independent rows.

    The interval stays within 0 and 1, and has a width even where every answer is right.
    """
    found = mean(scores, groups, strata)
    if found.groups < 2:
        return Estimate(found.value, found.error, 0.0, 1.0, found.n, found.groups)
    p, z = found.value, _student(found.groups)
    size = p * (1 - p) / found.error**2 if found.error > 0 else float(found.groups)
    centre = (p + z**2 / (2 * size)) / (1 + z**2 / size)
    reach = z / (1 + z**2 / size) * (p * (1 - p) / size + z**2 / (4 * size**2)) ** 0.5
    return Estimate(p, found.error, max(0.0, centre - reach), min(1.0, centre + reach), found.n, found.groups)


def _row_spreads(scores: Array, groups: Any, strata: Any) -> tuple[Array, Array]:
    """Of M score rows over the same N items: the means, and by group how far it pulls each mean."""
    if scores.shape[1] == 0 or scores.shape[1] != len(groups):
        raise ValueError(f"{scores.shape[1]} scores and {len(groups)} groups")
    group = codes(groups)
    stratum = np.zeros(len(group), dtype=np.int64) if strata is None else codes(strata)
    sizes = np.bincount(stratum)
    weight = 1 / (sizes[stratum] * len(sizes))
    means = np.stack([np.bincount(stratum, row) for row in scores]) / sizes
    pulls = (scores - means[:, stratum]) * weight
    by_group = np.stack([np.bincount(group, row) for row in pulls])
    return means.mean(axis=1), by_group


def _error(by_group: Array) -> Array:
    count = by_group.shape[1]
    if count < 2:
        return np.full(len(by_group), np.inf)
    return cast(Array, np.sqrt((by_group**2).sum(axis=1) * count / (count - 1)))


def _student(groups: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.5 + LEVEL / 2, groups - 1)) if groups > 1 else float("inf")


def bootstrap(
    sums: Any, groups: Any, statistic: Callable[[Array], Array] | None = None, seed: int = 0, draws: int = DRAWS
) -> Estimate:
    """A percentile interval from `draws` resamples of whole groups.

    `sums` holds for each row what the statistic adds up, one or more columns; `statistic` makes a number of
    each row of totals, whose last column is the number of rows. Default: the mean of the first column.
    """
    point, values, n, count = _resample(sums, groups, statistic or _first_mean, seed, draws)
    low, high = np.quantile(values, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return Estimate(point, float(values.std(ddof=1)), float(low), float(high), n, count)


def paired_bootstrap(a: Any, b: Any, groups: Any, seed: int = 0, draws: int = DRAWS) -> Difference:
    """A's mean minus B's over the same rows, by resampling whole groups."""
    difference = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    point, values, n, count = _resample(difference, groups, _first_mean, seed, draws)
    low, high = np.quantile(values, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    tail = min(int((values <= 0).sum()), int((values >= 0).sum()))
    p = min(1.0, 2 * (tail + 1) / (draws + 1))
    return Difference(point, float(values.std(ddof=1)), float(low), float(high), n, count, p)


def _first_mean(totals: Array) -> Array:
    return cast(Array, totals[:, 0] / totals[:, -1])


def _resample(
    sums: Any, groups: Any, statistic: Callable[[Array], Array], seed: int, draws: int
) -> tuple[float, Array, int, int]:
    rows = np.asarray(sums, dtype=float)
    rows = rows[:, None] if rows.ndim == 1 else rows
    if len(rows) == 0 or len(rows) != len(groups):
        raise ValueError(f"{len(rows)} rows and {len(groups)} groups")
    rows = np.column_stack([rows, np.ones(len(rows))])
    group = codes(groups)
    totals = np.stack([np.bincount(group, column) for column in rows.T], axis=1)
    # groups that add the same are one kind: drawing how often each kind comes is the same bootstrap, in less time
    kinds, sizes = np.unique(totals, axis=0, return_counts=True)
    random = np.random.Generator(np.random.PCG64(draw(seed, "bootstrap", str(len(rows)))))
    step = max(1, CHUNK // len(totals))
    drawn = []
    for start in range(0, draws, step):
        size = min(step, draws - start)
        drawn.append(_counts(random, sizes, size) @ kinds)
    values = statistic(np.concatenate(drawn))
    return float(statistic(totals.sum(axis=0, keepdims=True))[0]), values, len(rows), len(totals)


def _counts(random: np.random.Generator, sizes: Array, draws: int) -> Array:
    """How often each kind of group comes in each of `draws` resamples of all groups."""
    groups = int(sizes.sum())
    if len(sizes) * 4 < groups:
        return random.multinomial(groups, sizes / groups, size=draws).astype(float)
    kind_of = np.repeat(np.arange(len(sizes)), sizes)
    picked = kind_of[random.integers(groups, size=(draws, groups), dtype=np.uint32)]
    flat = (picked + np.arange(draws)[:, None] * len(sizes)).reshape(-1)
    return np.bincount(flat, minlength=draws * len(sizes)).reshape(draws, -1).astype(float)


def f1_sums(truth: Any, predicted: Any, classes: int) -> Array:
    """What macro-F1 adds up, by row: right, predicted and true, one column per class each."""
    eye = np.eye(classes)
    said, true = eye[np.asarray(predicted)], eye[np.asarray(truth)]
    return np.concatenate([said * true, said, true], axis=1)


def f1_macro(totals: Array) -> Array:
    """Macro-F1 of each row of `f1_sums` totals; classes neither predicted nor true are left out."""
    right, said, true = np.split(totals[:, :-1], 3, axis=1)
    there = (said + true) > 0
    scores = np.divide(2 * right, said + true, out=np.zeros_like(right), where=there)
    return cast(Array, scores.sum(axis=1) / there.sum(axis=1))


def paired(a: Any, b: Any, groups: Any, strata: Any = None) -> Difference:
    """A's mean minus B's over the same rows, with an error by group and a t-test."""
    found = mean(np.asarray(a, dtype=float) - np.asarray(b, dtype=float), groups, strata)
    p = float(_p_values(np.array(found.value), np.array(found.error), found.groups))
    return Difference(found.value, found.error, found.low, found.high, found.n, found.groups, p)


def _p_values(differences: Array, errors: Array, groups: int) -> Array:
    from scipy.stats import t

    known = errors > 0
    ratio = np.divide(np.abs(differences), errors, out=np.full(np.shape(differences), np.inf), where=known)
    ratio = np.where(~known & (np.abs(differences) < 1e-12), 0.0, ratio)  # equal on every row
    p = np.minimum(1.0, 2 * t.sf(ratio, max(1, groups - 1)))
    # a few groups that all say the same have no spread; a test of their signs, which is exact, says no more than this
    return cast(Array, np.maximum(p, 2.0 ** (1 - groups)))


def all_pairs(scores: Any, groups: Any, strata: Any = None) -> Array:
    """p-values of every model (row) against every other: `paired` for all pairs at once.

    NaN is a row that a model was not asked; two models are compared on what both were asked, 1 where that is nothing.
    """
    table, group = np.asarray(scores, dtype=float), codes(groups)
    stratum = np.zeros(len(group), dtype=np.int64) if strata is None else codes(strata)
    asked, pattern = np.unique(~np.isnan(table), axis=0, return_inverse=True)
    p = np.ones((len(table), len(table)))
    for i in range(len(asked)):
        for j in range(i, len(asked)):
            columns = asked[i] & asked[j]
            models = np.flatnonzero((pattern == i) | (pattern == j))
            if columns.any():
                found = _all_pairs(table[np.ix_(models, columns)], group[columns], stratum[columns])
                p[np.ix_(models, models)] = np.where(_across(pattern[models], i, j), found, p[np.ix_(models, models)])
    return p


def _across(pattern: Array, i: int, j: int) -> Array:
    """Which pairs of models are one of pattern `i` and one of pattern `j`."""
    return np.logical_or(np.outer(pattern == i, pattern == j), np.outer(pattern == j, pattern == i))


def _all_pairs(scores: Array, groups: Array, strata: Array) -> Array:
    means, by_group = _row_spreads(scores, groups, strata)
    count = by_group.shape[1]
    gram = by_group @ by_group.T
    own = np.diag(gram)
    spread = np.maximum(0.0, own[:, None] + own[None] - 2 * gram)
    spread[spread < 1e-12 * np.maximum(own[:, None] + own[None], 1e-300)] = 0.0  # rounding, not a difference
    errors = np.sqrt(spread * count / (count - 1)) if count > 1 else np.full_like(spread, np.inf)
    return _p_values(means[:, None] - means[None], errors, count)


@dataclass(frozen=True)
class McNemar:
    """Rows that only A and only B got right, and the exact two-sided p-value that the two rates are equal."""

    only_a: int
    only_b: int
    p: float


def mcnemar(a: Any, b: Any) -> McNemar:
    """Exact McNemar test of right and wrong answers to the same independent rows."""
    from scipy.stats import binom

    right_a, right_b = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    if len(right_a) != len(right_b):
        raise ValueError(f"{len(right_a)} answers and {len(right_b)} answers")
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    both = only_a + only_b
    p = min(1.0, 2 * float(binom.cdf(min(only_a, only_b), both, 0.5))) if both else 1.0
    return McNemar(only_a, only_b, p)


def holm(p_values: Any) -> Array:
    """Holm's correction: p-values that may all be held against 0.05 together."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    steps = np.minimum(1.0, p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(steps) if len(p) else steps
    return adjusted


def tiers(values: Sequence[float], p_pairs: Array, alpha: float = 1 - LEVEL) -> list[int]:
    """A tier for each model, 1 the best: a new tier opens with the first model that differs from its tier's first.

    `p_pairs` are raw p-values of all pairs; Holm's correction over all pairs is done here.
    """
    size = len(values)
    upper = np.triu_indices(size, 1)
    adjusted = np.ones((size, size))
    adjusted[upper] = holm(np.asarray(p_pairs)[upper])
    adjusted = np.minimum(adjusted, adjusted.T)
    found, leader, tier = [0] * size, -1, 0
    for i in sorted(range(size), key=lambda i: (-values[i], i)):
        if leader < 0 or adjusted[leader, i] < alpha:
            leader, tier = i, tier + 1
        found[i] = tier
    return found


def items_to_separate(difference: Difference, power: float = 0.8) -> int | None:
    """How many groups would show a difference of this size with `power`; None where it is nought or has no error."""
    from scipy.stats import norm

    if difference.value == 0 or not 0 < difference.error < float("inf"):
        return None
    reach = float(norm.ppf(0.5 + LEVEL / 2) + norm.ppf(power))
    return max(2, int(np.ceil(difference.groups * (reach * difference.error / difference.value) ** 2)))


def variance_shares(scores: Any, factors: Mapping[str, Sequence[Any]]) -> dict[str, float]:
    """How much of the scores' variance comes with each factor; `rest` is what they do not explain one by one.

    Henderson's first method (moments; unequal counts allowed): solve expected sums of squares for the variances.
    Factors with one level, or one level per row, are left out; negative estimates count as nought.
    """
    y = np.asarray(scores, dtype=float)
    levels = {name: codes(keys) for name, keys in factors.items()}
    levels = {name: code for name, code in levels.items() if 1 < len(np.unique(code)) < len(y)}
    names, n = list(levels), len(y)
    if n < 2 or float(y.var()) == 0:
        return dict.fromkeys([*names, "rest"], 0.0)
    grand = y.sum() ** 2 / n
    counts = {name: np.bincount(code) for name, code in levels.items()}
    base = [float((counts[name] ** 2).sum() / n) for name in names] + [1.0]
    left, right = [], []
    for name in names:
        total = np.bincount(levels[name], y)
        right.append(float((total**2 / counts[name]).sum() - grand))
        terms = [_overlap(levels[name], levels[other], counts[name]) for other in names] + [float(len(counts[name]))]
        left.append([term - b for term, b in zip(terms, base, strict=True)])
    right.append(float((y**2).sum() - grand))
    left.append([n - b for b in base])
    parts = np.maximum(0.0, np.linalg.lstsq(np.array(left), np.array(right), rcond=None)[0])
    shares = parts / parts.sum() if parts.sum() > 0 else parts
    return dict(zip([*names, "rest"], map(float, shares), strict=True))


def _overlap(outer: Array, inner: Array, sizes: Array) -> float:
    """Sum over outer levels of (squared counts of inner levels in it) / (its own count)."""
    width = int(inner.max()) + 1
    cells, counts = np.unique(outer.astype(np.int64) * width + inner, return_counts=True)
    return float((counts**2 / sizes[cells // width]).sum())
