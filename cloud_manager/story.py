"""The words of the event history. Pure: what happened -> an event that a person can read."""

from __future__ import annotations

from cloud_manager.deployment import Deployment, Pinned
from cloud_manager.store.protocol import NewEvent
from image_builder.contract import BuildStatus, ImageReference, Problem


def building(build_id: str) -> NewEvent:
    return NewEvent("build", f"building the image (build {build_id[:12]})")


def image_ready(image: ImageReference, status: BuildStatus | None, *, built_now: bool) -> NewEvent:
    """built_now: the history says that it was being built; else it had been built for an earlier wish."""
    what = f"{image.digest[:19]}, {size(image.size)}"
    if not built_now:
        return NewEvent("build", f"the image is there already: {what}")
    if status is None or status.finished is None:
        return NewEvent("build", f"the image is ready: {what}")
    return NewEvent("build", f"the image is ready after {seconds(status.finished - status.created)}: {what}")


def image_gone() -> NewEvent:
    return NewEvent("build", "the image is gone from the builder's store; it is built again")


def prebuilt(uri: str) -> NewEvent:
    return NewEvent("build", f"nothing to build: {uri} is used as it is")


def brought_back(pinned: Pinned) -> NewEvent:
    image = pinned.image.digest[:19] if pinned.image is not None else pinned.image_uri
    return NewEvent("build", f"nothing to build: revision {pinned.revision} brings its image along, {image}")


def resolved(uri: str, found: str) -> NewEvent:
    return NewEvent("build", f"{uri} is {found}")


def build_left(build_id: str) -> NewEvent:
    return NewEvent("build", f"the build {build_id[:12]} is given up")


def applying(target: str, revision: str, *, healing: bool, update: bool, drift: tuple[str, ...] = ()) -> NewEvent:
    if drift:
        what = "; ".join(drift)
        message = f"the service on {target} was changed behind our back ({what}); putting revision {revision} back"
    elif healing:
        message = f"the service on {target} does not run any more; putting revision {revision} back"
    elif update:
        message = f"updating the service on {target} to revision {revision}"
    else:
        message = f"starting the service on {target} (revision {revision})"
    return NewEvent("target", message)


def coming_up(target: str, problem: Problem | None) -> NewEvent:
    return NewEvent("target", f"the service on {target} is coming up{f': {problem.cause}' if problem else ''}", problem)


def still_going(target: str) -> NewEvent:
    return NewEvent("target", f"what was on {target} before is still being removed; the service comes after it")


def running(url: str | None, waited: float) -> NewEvent:
    return NewEvent("phase", f"running{f' at {url}' if url else ''} after {seconds(waited)}")


def drifted(problem: Problem) -> NewEvent:
    return NewEvent("drift", f"left as it is: {problem.cause}", problem)


def as_deployed(target: str) -> NewEvent:
    return NewEvent("drift", f"the service on {target} is as it was deployed again")


def unchanged() -> NewEvent:
    return NewEvent("note", "nothing has changed: the service goes on as it was")


def removing(target: str) -> NewEvent:
    return NewEvent("target", f"removing the service from {target}")


def removed(target: str) -> NewEvent:
    return NewEvent("target", f"nothing is left on {target}")


def found_late(target: str) -> NewEvent:
    return NewEvent("target", f"something of the service has appeared on {target} after the stop: it is removed")


def left_behind(target: str, problem: Problem) -> NewEvent:
    return NewEvent("error", f"what was on {target} before cannot be removed: {problem.cause}", problem)


def stopped(row: Deployment) -> NewEvent:
    """Also while a builder that does not answer has still to be told."""
    unsaid = row.facts.build_id is not None or row.facts.asking is not None
    return NewEvent(
        "phase", "stopped; the build is given up as soon as the image builder answers" if unsaid else "stopped"
    )


def seconds(duration: float) -> str:
    """e.g. `0.4 s`, `12 s`, `3 min 5 s`."""
    if duration < 10:
        return f"{max(duration, 0):.1f} s"
    minutes, rest = divmod(round(duration), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def size(count: int) -> str:
    """Bytes in words, e.g. `12.3 MB`."""
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB"
