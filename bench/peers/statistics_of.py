"""Medians, deciles, ratios. Needs nothing but Python."""

import math
import statistics


def quantile(values, share):
    """Between neighbours by their distance, as NumPy does it."""
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def spread(values):
    return {"median_us": statistics.median(values), "p10_us": quantile(values, 0.1), "p90_us": quantile(values, 0.9)}


def ratio(theirs, ours):
    """Median of the rounds' ratios: both sides of each saw the machine in the same state."""
    return statistics.median(a / b for a, b in zip(theirs, ours, strict=True))


def geometric_mean(values):
    return math.exp(statistics.fmean(math.log(value) for value in values))


def turns(count, round_number):
    """Who goes when in a round: everyone is first once in `count` rounds."""
    return [(round_number + step) % count for step in range(count)]
