"""google.devtools.cloudbuild.v1.CloudBuild: builds. Triggers and worker pools are not served.

https://github.com/googleapis/googleapis/blob/master/google/devtools/cloudbuild/v1/cloudbuild.proto
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from google.cloud.devtools.cloudbuild_v1 import types
from google.longrunning import operations_pb2
from google.protobuf import json_format

from gcp_emulator import build_checks as checks
from gcp_emulator.build_commands import command_of
from gcp_emulator.build_log import ensure_bucket, has_bucket, split_bucket
from gcp_emulator.build_runner import BuildRunner
from gcp_emulator.build_source import NoSource, resolve
from gcp_emulator.build_store import Build, BuildStore, Status, build_of_operation, order
from gcp_emulator.grpc_server import Method, Service
from gcp_emulator.logging_filter import BadFilter, parse
from gcp_emulator.run_errors import Refused, denied
from gcp_emulator.run_names import is_region
from gcp_emulator.run_project import Project
from gcp_emulator.storage_store import Store

_NAME = re.compile(r"projects/(?P<project>[^/]+)/locations/(?P<region>[^/]+)(?:/builds/(?P<build>[^/]+))?")
_PAGE = 100
_LARGEST_PAGE = 1000
_GLOBAL = "global"


class Builds:
    def __init__(self, *, store: BuildStore, runner: BuildRunner, objects: Store, project: Project) -> None:
        self._store = store
        self._runner = runner
        self._objects = objects
        self._project = project

    def service(self) -> Service:
        pb = {name: getattr(types, f"{name}Request").pb() for name in ("CreateBuild", "GetBuild", "RetryBuild")}
        listed, cancelled = types.ListBuildsRequest.pb(), types.CancelBuildRequest.pb()
        return Service(
            "google.devtools.cloudbuild.v1.CloudBuild",
            {
                "CreateBuild": Method(self.create, pb["CreateBuild"], operations_pb2.Operation),
                "GetBuild": Method(self.get, pb["GetBuild"], Build),
                "ListBuilds": Method(self.list, listed, types.ListBuildsResponse.pb()),
                "CancelBuild": Method(self.cancel, cancelled, Build),
                "RetryBuild": Method(self.retry, pb["RetryBuild"], operations_pb2.Operation),
                "GetDefaultServiceAccount": Method(
                    self.default_account, types.GetDefaultServiceAccountRequest.pb(), types.DefaultServiceAccount.pb()
                ),
            },
        )

    async def create(self, request: Any) -> Any:
        parent = self._parent(request.parent, request.project_id, "cloudbuild.builds.create")
        return self._submitted(parent, request.build, checks.substituted)

    async def retry(self, request: Any) -> Any:
        """The same once more: https://cloud.google.com/build/docs/api/reference/rest/v1/projects.builds/retry"""
        build = self._found(request, "cloudbuild.builds.create")
        return self._submitted(build.name.partition("/builds/")[0], build, lambda replaced, _: replaced)

    async def get(self, request: Any) -> Any:
        return self._found(request, "cloudbuild.builds.get")

    async def cancel(self, request: Any) -> Any:
        return await self._runner.cancel(self._found(request, "cloudbuild.builds.update").name)

    async def default_account(self, request: Any) -> Any:
        """https://cloud.google.com/build/docs/cloud-build-service-account"""
        self._parent(request.name.removesuffix("/defaultServiceAccount"), "", "cloudbuild.builds.get")
        email = f"projects/{self._project.id}/serviceAccounts/{self._project.compute_account}"
        return types.DefaultServiceAccount.pb()(name=request.name, service_account_email=email)

    async def cancel_operation(self, name: str) -> None:
        wanted = build_of_operation(name)
        for build in self._store.unfinished():
            if build.id == wanted:
                await self._runner.cancel(build.name)

    async def list(self, request: Any) -> Any:
        parent = self._parent(request.parent, request.project_id, "cloudbuild.builds.list")
        if request.page_size < 0:
            raise checks.invalid("page_size must not be negative")
        try:
            wanted = parse(request.filter)
            found = [build for build in self._store.all(parent) if wanted(json_format.MessageToDict(build))]
        except BadFilter as error:
            raise checks.invalid(str(error)) from error
        if request.page_token:
            last = _last(request.page_token)
            found = [build for build in found if order(build) < last]
        page = found[: min(request.page_size or _PAGE, _LARGEST_PAGE)]
        more = base64.urlsafe_b64encode(json.dumps(order(page[-1])).encode()).decode() if len(found) > len(page) else ""
        return types.ListBuildsResponse.pb()(builds=page, next_page_token=more)

    # a new build

    def _submitted(self, parent: str, asked: Any, substituted: Callable[[Any, Mapping[str, str]], Any]) -> Any:
        """Its operation. Nothing is kept of what is refused. substituted: replaces the variables, if there are any."""
        build = checks.stripped(asked)
        checks.check(build)
        self._identify(build, parent)
        build = substituted(build, self._builtin(build, parent))
        for step in build.steps:
            command_of(step)
        self._resolve_source(build)
        self._choose_log(build, parent)
        build.timeout.seconds = build.timeout.seconds or checks.HOUR
        build.queue_ttl.seconds = build.queue_ttl.seconds or checks.HOUR
        build.status = Status.QUEUED
        self._store.stamp(build.create_time)
        operation = self._store.create(build)
        self._runner.submit(build)
        return operation

    def _identify(self, build: Any, parent: str) -> None:
        build.id = str(uuid.uuid4())
        build.project_id = self._project.id
        build.name = f"{parent}/builds/{build.id}"
        region = parent.rpartition("/")[2]
        build.log_url = (
            f"https://console.cloud.google.com/cloud-build/builds;region={region}/{build.id}"
            f"?project={self._project.number}"
        )

    def _builtin(self, build: Any, parent: str) -> dict[str, str]:
        return {
            "PROJECT_ID": self._project.id,
            "PROJECT_NUMBER": self._project.number,
            "LOCATION": parent.rpartition("/")[2],
            "BUILD_ID": build.id,
        }

    def _resolve_source(self, build: Any) -> None:
        """The generation that is the newest now is the one that is built."""
        if build.source.WhichOneof("source"):
            at = build.source.storage_source
            try:
                generation = resolve(self._objects, at.bucket, at.object_, at.generation)
            except NoSource as error:
                raise Refused("NOT_FOUND", str(error)) from error
            resolved = build.source_provenance.resolved_storage_source
            resolved.bucket, resolved.object_, resolved.generation = at.bucket, at.object_, generation

    def _choose_log(self, build: Any, parent: str) -> None:
        """https://cloud.google.com/build/docs/securing-builds/store-manage-build-logs"""
        if build.options.logging in checks.QUIET:
            build.logs_bucket = ""
            return
        if not build.logs_bucket:
            own = build.options.default_logs_bucket_behavior
            region = parent.rpartition("/")[2]
            name = f"{self._project.id}-{region}-cloudbuild-logs" if own else self._shared_logs
            ensure_bucket(self._objects, name)
            build.logs_bucket = f"gs://{name}"
        bucket, _ = split_bucket(build.logs_bucket, build.id)
        if not has_bucket(self._objects, bucket):
            raise checks.invalid(
                f'invalid bucket "{bucket}"; default Cloud Build service account or user-specified service account does'
                " not have access to the bucket"
            )

    @property
    def _shared_logs(self) -> str:
        return f"{self._project.number}.cloudbuild-logs.googleusercontent.com"

    # names

    def _parent(self, parent: str, project: str, permission: str) -> str:
        """`projects/NUMBER/locations/LOCATION`. Raises Refused."""
        text = parent or f"projects/{project}/locations/{_GLOBAL}"
        match = _NAME.fullmatch(text)
        if match is None or match["build"]:
            raise checks.invalid(f"Invalid resource name: '{text}'.")
        return self._place(match, permission)

    def _place(self, match: re.Match[str], permission: str) -> str:
        if match["project"] not in (self._project.id, self._project.number):
            raise denied(permission, f"projects/{match['project']}")
        if match["region"] != _GLOBAL and not is_region(match["region"]):
            raise checks.invalid(f"Invalid location: '{match['region']}'.")
        return f"projects/{self._project.number}/locations/{match['region']}"

    def _found(self, request: Any, permission: str) -> Any:
        text = request.name or f"projects/{request.project_id}/locations/{_GLOBAL}/builds/{request.id}"
        match = _NAME.fullmatch(text)
        if match is None or not match["build"]:
            raise checks.invalid(f"Invalid resource name: '{text}'.")
        build = self._store.find(f"{self._place(match, permission)}/builds/{match['build']}")
        if build is None:
            raise Refused("NOT_FOUND", "Requested entity was not found.")
        return build


def _last(token: str) -> tuple[int, str]:
    try:
        time, name = json.loads(base64.urlsafe_b64decode(token))
        return int(time), str(name)
    except (binascii.Error, ValueError, TypeError) as error:
        raise checks.invalid("page_token is invalid") from error
