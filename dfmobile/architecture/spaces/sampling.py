"""Draw architectures spread over the latency range: uniform draws from a large space are nearly all slow ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from dfmobile.architecture.spaces.base import Rows, SearchSpace
from dfmobile.errors import InputError

POOL = 40_000
STRATA = 10


def stratified_rows(
    space: SearchSpace,
    latency_ms: Callable[[Rows], npt.NDArray[np.float64]],
    count: int,
    generator: np.random.Generator,
    *,
    latency_range: tuple[float | None, float | None] = (None, None),
    strata: int = STRATA,
    pool: int = POOL,
) -> tuple[Rows, npt.NDArray[np.float64]]:
    """Draw distinct architectures, as evenly as possible from strata of equal width in log latency.

    Nothing is listed, so the space may have any size: ``pool`` architectures are drawn, half uniformly and half by
    ``spread_rows`` (which reaches the small ones), predicted, and binned between the lowest and the highest latency
    found inside the range. Within a stratum, architectures are as frequent as in the pool, not as in the space.

    Args:
        space: any.
        latency_ms: predicted latency of rows ``[R, columns]`` -> ``[R]``, for example
            ``lambda rows: predictor.predict_rows(space, rows, 640, 384)``; infinite ones are left out.
        count: how many are wanted.
        generator: decides alone.
        latency_range: lowest and highest latency wanted, ends included; None: open.
        strata: how many.
        pool: how many are drawn to choose from.

    Returns:
        Rows, int32 ``[count, columns]``, in random order, and their predicted latency, ms.

    Raises:
        InputError: if the pool has fewer architectures in the range, or a latency is not a positive number.
    """
    if count < 1 or strata < 1 or pool < 1:
        raise InputError(f"{count} architectures of {strata} strata from a pool of {pool}: each must be at least 1")
    uniform = space.sample_rows(pool - pool // 2, generator)
    rows = np.unique(np.concatenate([uniform, space.spread_rows(pool // 2, generator)]), axis=0)
    found = np.asarray(latency_ms(rows), np.float64)
    if found.shape != (len(rows),) or not (found > 0).all():
        raise InputError("predicted latencies are not positive numbers, one for each row")
    low, high = latency_range
    inside = np.isfinite(found) & (found >= (low or 0.0)) & (found <= (np.inf if high is None else high))
    rows, found = rows[inside], found[inside]
    if len(rows) < count:
        wanted = f"{'0' if low is None else f'{low:g}'} to {'∞' if high is None else f'{high:g}'} ms"
        raise InputError(
            f"{len(rows)} of {len(inside)} architectures drawn from space {space.name!r} have a predicted latency of "
            f"{wanted}; {count} are wanted",
            hint="widen the latency range, want fewer, or draw a larger pool",
        )
    shuffled = generator.permutation(len(rows))
    rows, found = rows[shuffled], found[shuffled]
    logs = np.log(found)
    span = max(float(np.ptp(logs)), np.finfo(float).tiny)
    stratum = np.minimum((strata * ((logs - logs.min()) / span)).astype(np.int64), strata - 1)
    # Each row's place in its own stratum: taking the lowest places first empties all strata evenly.
    by_stratum = np.argsort(stratum, kind="stable")
    starts = np.searchsorted(stratum[by_stratum], stratum[by_stratum])
    place = np.empty(len(rows), np.int64)
    place[by_stratum] = np.arange(len(rows)) - starts
    chosen = generator.permutation(np.argsort(place, kind="stable")[:count])
    return rows[chosen], found[chosen]
