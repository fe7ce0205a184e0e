"""What Cloud Run accepts as a service: the rules of the messages' own comments and of the documentation. Pure.

https://cloud.google.com/run/docs/reference/rpc/google.cloud.run.v2
Where Google's own words are known from reports they are used; the others say the same plainly.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from google.cloud import run_v2

from gcp_emulator.run_checks import DNS_LABEL, LABEL_KEY, LABEL_VALUE, RESERVED_NAMESPACES, Violation, Violations
from gcp_emulator.run_container_checks import container_violations
from gcp_emulator.run_gpu_checks import gpu_violations
from gcp_emulator.run_volume_checks import mount_violations, volume_violations

_Type = run_v2.TrafficTargetAllocationType
_LONGEST_SERVICE = 49
_LONGEST_REVISION = 63
_MOST_CONTAINERS = 10
_LONGEST_TIMEOUT = 3600
_MOST_CONCURRENCY = 1000


def service_id_violations(service_id: str) -> list[Violation]:
    """A letter first, no hyphen last, lower case, fewer than 50 characters."""
    if len(service_id) <= _LONGEST_SERVICE and DNS_LABEL.fullmatch(service_id):
        return []
    words = (
        "must begin with a letter, use only lowercase letters, digits and hyphens, not end with a hyphen,"
        " and must contain fewer than 50 characters."
    )
    return [Violation("service_id", words if service_id else "required field not present.")]


def service_violations(service: run_v2.Service, service_id: str) -> list[Violation]:
    """All that is wrong, in the order of the fields."""
    if not service.template.containers:
        return [_missing_template(service)]
    return list(
        chain(
            _description(service),
            _labels("service.labels", service.labels),
            _annotations("service.annotations", service.annotations),
            _template(service.template, service_id),
            _scaling(service),
            _traffic(service, service_id),
        )
    )


def _missing_template(service: run_v2.Service) -> Violation:
    if "template" in service:
        return Violation("service.template.containers", "required field not present.")
    return Violation("service.template", "required field not present.")


def _description(service: run_v2.Service) -> Violations:
    if len(service.description) > 512:
        yield Violation("service.description", "must be at most 512 characters long.")


def _labels(field: str, labels: Mapping[str, str]) -> Violations:
    """https://cloud.google.com/resource-manager/docs/creating-managing-labels#requirements"""
    if len(labels) > 64:
        yield Violation(field, "at most 64 labels are allowed.")
    for key, value in labels.items():
        if _reserved(key):
            yield Violation(field, f"label key '{key}' uses a namespace that is reserved for the system.")
        elif not LABEL_KEY.fullmatch(key):
            yield Violation(
                field,
                f"label key '{key}' must start with a lowercase letter and have at most 63 lowercase letters,"
                " digits, underscores and hyphens.",
            )
        elif not LABEL_VALUE.fullmatch(value):
            yield Violation(
                field,
                f"label value '{value}' of key '{key}' must have at most 63 lowercase letters, digits,"
                " underscores and hyphens.",
            )


def _annotations(field: str, annotations: Mapping[str, str]) -> Violations:
    for key in annotations:
        if _reserved(key):
            yield Violation(field, f"annotation key '{key}' uses a namespace that is reserved for the system.")
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > 256 * 1024:
        yield Violation(field, "annotations must be at most 262144 bytes in all.")


def _reserved(key: str) -> bool:
    namespace = key.split("/", 1)[0] if "/" in key else ""
    return any(namespace == one or namespace.endswith(f".{one}") for one in RESERVED_NAMESPACES)


def _template(template: run_v2.RevisionTemplate, service_id: str) -> Violations:
    at = "service.template"
    yield from _revision_name(template.revision, service_id)
    yield from _labels(f"{at}.labels", template.labels)
    yield from _annotations(f"{at}.annotations", template.annotations)
    yield from _revision_scaling(template.scaling)
    seconds = run_v2.RevisionTemplate.pb(template).timeout.ToTimedelta().total_seconds()
    if not 0 <= seconds <= _LONGEST_TIMEOUT:
        yield Violation(f"{at}.timeout", "must be between 1 second and 3600 seconds.")
    concurrency = template.max_instance_request_concurrency
    if not 0 <= concurrency <= _MOST_CONCURRENCY:
        yield Violation(f"{at}.max_instance_request_concurrency", "must be between 0 and 1000.")
    yield from _containers(template)
    yield from gpu_violations(template)
    yield from volume_violations(template)
    yield from mount_violations(template)


def _revision_name(revision: str, service_id: str) -> Violations:
    if not revision:
        return
    field = "service.template.revision"
    if not revision.startswith(f"{service_id}-"):
        yield Violation(field, "Revision name must be prefixed by the name of the enclosing Service.")
    elif len(revision) > _LONGEST_REVISION or not DNS_LABEL.fullmatch(revision):
        yield Violation(field, "must be a DNS label of at most 63 characters.")


def _containers(template: run_v2.RevisionTemplate) -> Violations:
    at = "service.template.containers"
    containers = list(template.containers)
    if len(containers) > _MOST_CONTAINERS:
        yield Violation(at, "at most 10 containers are allowed.")
    if len(containers) > 1:
        if sum(bool(container.ports) for container in containers) != 1:
            yield Violation(at, "Revision template should contain exactly one container with an exposed port.")
        names = [container.name for container in containers]
        if "" in names or len(set(names)) != len(names):
            yield Violation(at, "each container of several must have a name of its own.")
    for index, container in enumerate(containers):
        yield from container_violations(f"{at}[{index}]", container, template)


def _revision_scaling(scaling: run_v2.RevisionScaling) -> Violations:
    at = "service.template.scaling"
    low, high = scaling.min_instance_count, scaling.max_instance_count
    if low < 0:
        yield Violation(f"{at}.min_instance_count", "must be 0 or more.")
    if high < 0:
        yield Violation(f"{at}.max_instance_count", "must be 0 or more.")
    if 0 < high < low:
        yield Violation(f"{at}.min_instance_count", "must not be greater than max_instance_count.")


def _scaling(service: run_v2.Service) -> Violations:
    at, scaling = "service.scaling", service.scaling
    manual = scaling.scaling_mode == run_v2.ServiceScaling.ScalingMode.MANUAL
    if scaling.min_instance_count < 0:
        yield Violation(f"{at}.min_instance_count", "must be 0 or more.")
    if scaling.max_instance_count and scaling.min_instance_count > scaling.max_instance_count:
        yield Violation(f"{at}.min_instance_count", "must not be greater than max_instance_count.")
    if "manual_instance_count" in scaling and not manual:
        yield Violation(f"{at}.manual_instance_count", "can only be set when scaling_mode is MANUAL.")


def _traffic(service: run_v2.Service, service_id: str) -> Violations:
    at = "service.traffic"
    targets = list(service.traffic)
    if targets and sum(target.percent for target in targets) != 100:
        yield Violation(at, "Traffic percentages must sum to 100.")
    tags = [target.tag for target in targets if target.tag]
    if len(set(tags)) != len(tags):
        yield Violation(at, "Traffic tags must be unique.")
    for index, target in enumerate(targets):
        yield from _target(f"{at}[{index}]", target, service_id)


def _target(at: str, target: run_v2.TrafficTarget, service_id: str) -> Violations:
    if not 0 <= target.percent <= 100:
        yield Violation(f"{at}.percent", "must be between 0 and 100.")
    if target.type_ == _Type.TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION and not target.revision:
        yield Violation(f"{at}.revision", "required field not present.")
    if target.type_ == _Type.TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST and target.revision:
        yield Violation(f"{at}.revision", "must be empty for the allocation type LATEST.")
    if target.type_ == _Type.TRAFFIC_TARGET_ALLOCATION_TYPE_UNSPECIFIED:
        yield Violation(f"{at}.type", "required field not present.")
    # https://cloud.google.com/run/docs/rollouts-rollbacks-traffic-migration#tags: tag and service share a DNS label
    longest = 63 - len("---") - len(service_id) - 1 - 12
    if target.tag and (len(target.tag) > max(longest, 3) or not DNS_LABEL.fullmatch(target.tag)):
        yield Violation(f"{at}.tag", f"'{target.tag}' must be a DNS label of at most {max(longest, 3)} characters.")
