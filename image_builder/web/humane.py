"""Bytes, times and digests as people read them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from markupsafe import Markup

Say = Callable[..., str]
_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60))


def size(count: float) -> str:
    """e.g. `812 B`, `48.2 MB`; powers of ten, as `docker` and the registries' pages say it."""
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= step:
            return f"{count / step:.1f} {unit}" if count < 100 * step else f"{count / step:.0f} {unit}"
    return f"{count:.0f} B"


def short_digest(digest: str) -> str:
    """`sha256:4f2a…` by its first twelve hex digits."""
    return digest.rpartition(":")[2][:12]


def ago(t: Say, now: float, moment: float) -> Markup:
    """A `<time>`: how long ago, and exactly when in its title. The page's script keeps both true, in local time."""
    exact = datetime.fromtimestamp(moment, UTC)
    return Markup('<time class="ago" datetime="{}" title="{}">{}</time>').format(
        exact.isoformat(timespec="milliseconds"), exact.strftime("%Y-%m-%d %H:%M:%S UTC"), ago_words(t, now - moment)
    )


def age(t: Say, now: float, moment: float) -> Markup:
    """A `<time>`: how old something is, in one unit, e.g. `3 h`."""
    exact = datetime.fromtimestamp(moment, UTC)
    return Markup('<time class="age" datetime="{}" title="{}">{}</time>').format(
        exact.isoformat(timespec="milliseconds"), exact.strftime("%Y-%m-%d %H:%M:%S UTC"), age_words(t, now - moment)
    )


def age_words(t: Say, seconds: float) -> str:
    for unit, length in _UNITS:
        if seconds >= length:
            return t(f"base.age.{unit}", count=int(seconds // length))
    return t("base.age.second", count=max(int(seconds), 0))


def lasting(t: Say, now: float, began: float) -> Markup:
    """A `<time>`: for how long something has gone on, kept true by the page's script."""
    exact = datetime.fromtimestamp(began, UTC).isoformat(timespec="milliseconds")
    return Markup('<time class="lasting" datetime="{}">{}</time>').format(exact, lasted(t, now - began))


def clock_time(moment: float) -> Markup:
    """A `<time>` of the day; the page's script says it in local time."""
    exact = datetime.fromtimestamp(moment, UTC)
    return Markup('<time class="clock" datetime="{}">{}</time>').format(
        exact.isoformat(timespec="milliseconds"), exact.strftime("%H:%M:%S")
    )


def without_scheme(url: str) -> str:
    """`127.0.0.1:41231` of `http://127.0.0.1:41231/`."""
    return url.partition("://")[2].rstrip("/") or url


def ago_words(t: Say, seconds: float) -> str:
    for unit, length in _UNITS:
        if seconds >= length:
            return t(f"base.ago.{unit}", count=int(seconds // length))
    return t("base.ago.now") if seconds < 10 else t("base.ago.second", count=int(seconds))


def lasted(t: Say, seconds: float) -> str:
    """A duration, e.g. `0.4 s`, `12 s`, `3 min 5 s`, `2 h 4 min`."""
    if seconds < 10:
        return t("base.lasted.second", count=f"{max(seconds, 0):.1f}")
    whole = round(seconds)
    if whole < 60:
        return t("base.lasted.second", count=whole)
    if whole < 3600:
        return t("base.lasted.minute", minutes=whole // 60, seconds=whole % 60)
    return t("base.lasted.hour", hours=whole // 3600, minutes=whole % 3600 // 60)
