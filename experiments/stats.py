"""Means, their 95 % confidence intervals, and when two of them differ."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

# Student's t, two-sided 95 % (the 0.975 quantile), by degrees of freedom from 1. Source: NIST/SEMATECH e-Handbook of
# Statistical Methods, section 1.3.6.7.2. Beyond the table its last entry serves: the interval is a little too wide.
T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip

# A difference over fewer seeds is not claimed, however far apart the intervals lie.
SEEDS_MIN = 5


@dataclass(frozen=True)
class Estimate:
    mean: float
    half: float  # of the 95 % confidence interval of the mean; infinite for a single value
    count: int

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half

    def text(self, digits: int) -> str:
        if math.isinf(self.half):
            return f"{self.mean:.{digits}f}"
        return f"{self.mean:.{digits}f} ± {self.half:.{digits}f}"


def estimate(values: list[float]) -> Estimate:
    """REQUIRES: at least one value, all finite."""
    count = len(values)
    mean = statistics.fmean(values)
    if count == 1:
        return Estimate(mean, math.inf, 1)
    quantile = T_975[min(count - 1, len(T_975)) - 1]
    return Estimate(mean, quantile * statistics.stdev(values) / math.sqrt(count), count)


def separated(a: Estimate, b: Estimate) -> bool:
    """Whether a difference may be claimed: the intervals have no point in common. Stricter than a test of the
    difference at 5 %, which is wanted: a report holds many comparisons."""
    return min(a.count, b.count) >= SEEDS_MIN and (a.high < b.low or b.high < a.low)


def slope(points: list[tuple[float, float]]) -> float:
    """Of the least-squares line. REQUIRES: two different x."""
    return statistics.linear_regression([x for x, _ in points], [y for _, y in points]).slope
