"""Pyramid pooling windows that divide the map, whatever its size."""

from __future__ import annotations

# Bins (rows, columns) of the published networks.
DF_BINS = ((1, 2), (2, 4), (4, 8), (8, 16))
PL1A_BINS = ((1, 1), (2, 2), (4, 4), (8, 8))


def nearest_divisor(extent: int, bins: int) -> int:
    """Return the divisor of ``extent`` nearest to ``extent / bins``; of two equally near the larger.

    Compared in integers (``|divisor·bins - extent|``), so that ties are exact.
    """
    divisors = [number for number in range(1, extent + 1) if extent % number == 0]
    return min(divisors, key=lambda number: (abs(number * bins - extent), -number))


def pyramid_windows(height: int, width: int, bins: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """Return the pooling window (rows, columns) for each bin of a map.

    On the 32x64 map of 2048x1024 the DF bins give 32, 16, 8 and 4; on the 12x20 map of 640x384 the PL1A bins give
    the published 12x20, 6x10, 3x5 and 2x2.
    """
    return tuple((nearest_divisor(height, rows), nearest_divisor(width, columns)) for rows, columns in bins)
