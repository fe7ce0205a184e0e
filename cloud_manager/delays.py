"""How long until something is looked at, or tried, again. Pure; seconds throughout."""

from __future__ import annotations

_LONGEST_BACKOFF = 60.0
_LONGEST_POLL = 1.0
_READY_POLL = 0.75
"""A look at a target may be a second old (one look serves all projects), and readiness is told within two."""


def backoff_seconds(tries: int, jitter: float) -> float:
    """Full jitter between 1 s and min(60, 2^tries) s. jitter: 0 <= x < 1.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    longest = min(_LONGEST_BACKOFF, 2.0 ** min(tries, 10))
    return 1.0 + jitter * (longest - 1.0)


def poll_delay(waited: float, shortest: float) -> float:
    """Seconds until the next look at something awaited for `waited` seconds: the longer, the less often."""
    return min(max(waited / 20, shortest), max(_LONGEST_POLL, shortest))


def ready_delay(shortest: float) -> float:
    """Seconds until the next look at a service that is coming up, however long it takes."""
    return max(_READY_POLL, shortest)


def resync_delay(resync_seconds: float, jitter: float) -> float:
    """Ten percent to either side, so that what was started together is not looked at together for ever."""
    return resync_seconds * (0.9 + 0.2 * jitter)
