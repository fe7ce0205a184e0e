"""What Cloud Build refuses, and what it fills in. Pure.

https://github.com/googleapis/googleapis/blob/master/google/devtools/cloudbuild/v1/cloudbuild.proto,
https://cloud.google.com/build/docs/build-config-file-schema (limits),
https://cloud.google.com/build/docs/configuring-builds/substitute-variable-values
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from gcp_emulator.run_errors import Refused

HOUR = 3600
QUIET = (3, 4, 5)
"""BuildOptions.LoggingMode without a log in a bucket: STACKDRIVER_ONLY, NONE, CLOUD_LOGGING_ONLY."""
_MOST = {"steps": 300, "args": 100, "env": 100, "tags": 64, "images": 100, "substitutions": 200}
_LONGEST = {"args": 10_000, "env": 65_536}
_TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
_OWN_KEY = re.compile(r"_[A-Z0-9_]+")
_VARIABLE = re.compile(r"\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Z_][A-Z0-9_]*))")
_BUCKET = re.compile(r"(?:gs://)?[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](?:/[^\r\n]*)?")
_LARGEST_DISK = 4000
_OUTPUT_ONLY = (
    *("name", "id", "project_id", "status", "status_detail", "results", "create_time", "start_time", "finish_time"),
    *("source_provenance", "build_trigger_id", "log_url", "timing", "approval", "warnings", "failure_info"),
)
_NOT_SERVED = ("artifacts", "secrets", "available_secrets", "dependencies", "git_config")
_SOURCES_NOT_SERVED = ("repo_source", "git_source", "storage_source_manifest", "connected_repository")
_REPOSITORY_VARIABLES = (
    *("REPO_NAME", "REPO_FULL_NAME", "BRANCH_NAME", "TAG_NAME", "REF_NAME", "REVISION_ID", "COMMIT_SHA", "SHORT_SHA"),
    *("TRIGGER_NAME", "TRIGGER_BUILD_CONFIG_PATH", "SERVICE_ACCOUNT_EMAIL", "SERVICE_ACCOUNT"),
)


def invalid(words: str) -> Refused:
    return Refused("INVALID_ARGUMENT", words)


def stripped(build: Any) -> Any:
    """A message of protobuf, without what is the service's to say."""
    kept = type(build)()
    kept.CopyFrom(build)
    for field in _OUTPUT_ONLY:
        kept.ClearField(field)
    for step in kept.steps:
        for field in ("timing", "pull_timing", "status", "exit_code"):
            step.ClearField(field)
    return kept


def check(build: Any) -> None:
    """Raises Refused."""
    for field in _NOT_SERVED:
        if field in _set_fields(build):
            raise Refused("UNIMPLEMENTED", f"build.{field} is not served by gcp_emulator.")
    if not build.steps:
        raise invalid("invalid build: no build steps specified")
    _check_counts(build)
    _check_source(build.source)
    _check_steps(build)
    _check_times(build)
    for tag in build.tags:
        if not _TAG.fullmatch(tag):
            raise invalid(f"invalid build: tag {tag!r} must match format ^[\\w][\\w.-]{{0,127}}$")
    if build.logs_bucket and not _BUCKET.fullmatch(build.logs_bucket):
        raise invalid(f"invalid bucket {build.logs_bucket!r}")
    _check_account(build)
    if not 0 <= build.options.disk_size_gb <= _LARGEST_DISK:
        raise invalid(f"invalid disk size: must be between 0 and {_LARGEST_DISK} GB")


def _check_account(build: Any) -> None:
    """https://cloud.google.com/build/docs/securing-builds/configure-user-specified-service-accounts"""
    if not build.service_account:
        return
    if not re.fullmatch(r"projects/[^/]+/serviceAccounts/[^/]+", build.service_account):
        raise invalid("invalid service account: must be projects/{PROJECT_ID}/serviceAccounts/{ACCOUNT}")
    options = build.options
    if not (build.logs_bucket or options.logging in QUIET or options.default_logs_bucket_behavior):
        raise invalid(
            "if 'build.service_account' is specified, the build must either (a) specify 'build.logs_bucket', (b) use"
            " the REGIONAL_USER_OWNED_BUCKET build.options.default_logs_bucket_behavior option, or (c) use either"
            " CLOUD_LOGGING_ONLY / NONE logging options"
        )


def _set_fields(message: Any) -> set[str]:
    return {field.name for field, _ in message.ListFields()}


def _check_counts(build: Any) -> None:
    for field in ("steps", "tags", "images", "substitutions"):
        if len(getattr(build, field)) > _MOST[field]:
            raise invalid(f"invalid build: too many {field}: {len(getattr(build, field))} > {_MOST[field]}")
    for number, step in enumerate(build.steps):
        for field in ("args", "env"):
            values = getattr(step, field)
            if len(values) > _MOST[field] or any(len(value) > _LONGEST[field] for value in values):
                raise invalid(f"invalid build step {number}: {field} exceed {_MOST[field]} of {_LONGEST[field]} bytes")


def _check_source(source: Any) -> None:
    kind = source.WhichOneof("source")
    if kind in _SOURCES_NOT_SERVED:
        raise Refused("UNIMPLEMENTED", f"build.source.{kind} is not served by gcp_emulator.")
    if kind != "storage_source":
        return
    if not source.storage_source.bucket or not source.storage_source.object_:
        raise invalid("invalid build: source.storage_source must have a bucket and an object")
    if not source.storage_source.object_.endswith((".tar.gz", ".tgz", ".zip")):
        raise invalid("invalid build: source.storage_source.object must be a gzipped archive (.tar.gz) or .zip")


def _check_steps(build: Any) -> None:
    before: set[str] = set()
    for number, step in enumerate(build.steps):
        if not step.name:
            raise invalid(f"invalid build step {number}: a build step must specify a name")
        if step.script and (step.args or step.entrypoint):
            raise invalid(f"invalid build step {number}: script cannot be used with args or entrypoint")
        if step.id and step.id in before:
            raise invalid(f"invalid build: build step ID {step.id!r} is not unique")
        if missing := [name for name in step.wait_for if name not in {"-", *before}]:
            raise invalid(f"invalid build step {number}: wait_for {missing[0]!r} is no earlier step")
        for pair in step.env:
            if "=" not in pair:
                raise invalid(f"invalid build step {number}: env {pair!r} must be of the form KEY=VALUE")
        if step.secret_env:
            raise Refused("UNIMPLEMENTED", "build.steps.secret_env is not served by gcp_emulator.")
        before |= {step.id} - {""}


def _check_times(build: Any) -> None:
    for what, duration, most in (("timeout", build.timeout, 24), ("queue_ttl", build.queue_ttl, 24 * 365)):
        if duration.nanos:
            raise invalid(f"invalid {what}: must be specified to second granularity")
        if not 0 <= duration.seconds <= most * HOUR:
            raise invalid(f"invalid {what}: must be between 0 and {most} hours")
    for number, step in enumerate(build.steps):
        if step.timeout.seconds > (build.timeout.seconds or HOUR):
            raise invalid(f"invalid build step {number}: its timeout must be at most that of the build")


# substitutions


def substituted(build: Any, builtin: Mapping[str, str]) -> Any:
    """The build with its variables replaced; those of a repository are empty, for there is none. Raises Refused."""
    own = dict(build.substitutions)
    for key in own:
        if not _OWN_KEY.fullmatch(key):
            raise _wrong_key(f'substitution key "{key}" does not respect format "^_[A-Z0-9_]+$"')
    values = {**dict.fromkeys(_REPOSITORY_VARIABLES, ""), **builtin, **own}
    used = {name for text in _texts(build) for name in _names(text)}
    loose = build.options.substitution_option == 1  # ALLOW_LOOSE
    if not loose and (unknown := sorted(used - values.keys())):
        raise _wrong_key(f'key in the template "{unknown[0]}" is not a valid built-in substitution')
    if not loose and not _mapped(build) and (unused := sorted(own.keys() - used)):
        raise _wrong_key(f'key "{unused[0]}" in the substitution data is not matched in the template')
    return _replaced(build, values)


def _wrong_key(words: str) -> Refused:
    return invalid(f"invalid value for 'build.substitutions': {words}")


def _mapped(build: Any) -> bool:
    return bool(build.options.automap_substitutions or any(step.automap_substitutions for step in build.steps))


def _texts(build: Any) -> Iterator[str]:
    yield from (*build.images, *build.tags, build.logs_bucket)
    for step in build.steps:
        yield from (step.name, step.dir_, step.entrypoint, *step.args, *step.env)


def _replaced(build: Any, values: Mapping[str, str]) -> Any:
    made = type(build)()
    made.CopyFrom(build)
    for field in ("images", "tags"):
        _each(getattr(made, field), values)
    made.logs_bucket = replaced(build.logs_bucket, values)
    for step in made.steps:
        for name in ("name", "dir_", "entrypoint"):
            setattr(step, name, replaced(getattr(step, name), values))
        for field in ("args", "env"):
            _each(getattr(step, field), values)
    return made


def _each(texts: Any, values: Mapping[str, str]) -> None:
    texts[:] = [replaced(text, values) for text in texts]


def _names(text: str) -> list[str]:
    return [match[1] or match[2] for match in _VARIABLE.finditer(text) if match[0] != "$$"]


def replaced(text: str, values: Mapping[str, str]) -> str:
    """`$NAME` and `${NAME}` by their values, nothing where there is none; `$$` is a dollar."""
    return _VARIABLE.sub(lambda match: "$" if match[0] == "$$" else values.get(match[1] or match[2], ""), text)
