"""`gcp-cloudrun`, asked before anything is spent: what `cloud_run_preflight_spec.py` lists, over Google's REST APIs.

Two things are asked once and waited for by the rest: the credentials, and the project. The credentials are this
process's; the builder publishes with its own, which are the same where both run in one environment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.preflight import Found, Question, Unasked, failed, passed, skipped
from cloud_manager.settings import Settings
from cloud_manager.targets import cloud_run_preflight_spec as want
from cloud_manager.targets.cloud_run import place_of
from cloud_manager.targets.cloud_run_checks import NOT_INSTALLED
from cloud_manager.targets.cloud_run_preflight_spec import gcloud

if TYPE_CHECKING:
    from cloud_manager.targets.google_asked import Google

_KEY_OR = "set GOOGLE_APPLICATION_CREDENTIALS to a key or a workload identity file that is valid, or log in:"
_PROJECTS, _REGIONS = gcloud("projects", "list"), gcloud("run", "regions", "list")
_INSTALL = "pip install 'tango-cloud-deploy[gcp]'"
_LOG_IN = gcloud("auth", "application-default", "login")


class CloudRunPreflight:
    """Implements `Preflight`. One for each run: what is asked once is kept."""

    def __init__(self, settings: Settings) -> None:
        self._place = place_of(settings)
        self._bucket = settings.cloud_build_bucket
        self._google: asyncio.Task[Google] | None = None

    def questions(self, spec: DeploymentSpec | None) -> Sequence[Question]:
        place, region = self._place, self._place.region_of(spec) if spec is not None else self._place.region
        build = want.uses_cloud_build(spec, self._bucket)
        rows: list[tuple[str, Callable[[Google], Awaitable[Found]]]] = [
            ("credentials", _whose),
            ("project", lambda google: google.project_found()),
            ("apis", lambda google: google.apis(want.apis(spec, cloud_build=build))),
            ("permissions", lambda google: google.permissions(want.permissions(spec, cloud_build=build))),
            ("service_account", lambda google: google.account(spec.deploy.service_account if spec else None)),
            ("repository", lambda google: _repository(google, spec, want.repository_of(spec, place))),
            ("region", lambda google: google.region(region)),
        ]
        rows += self._of_file(spec, region)
        if build:
            rows.append(("cloud_build_account", lambda google: google.build_account(region)))
            rows.append(("cloud_build_bucket", lambda google: _sources(google, self._bucket, region)))
        missing = self._missing_setting()
        if missing is not None:
            waiting = partial(_given, skipped("waits for the settings"))
            return [Question("settings", partial(_given, missing)), *(Question(name, waiting) for name, _ in rows)]
        return [Question(name, partial(self._asked, ask)) for name, ask in rows]

    def _missing_setting(self) -> Found | None:
        if not _is_installed():
            return failed(NOT_INSTALLED[0], "install them where the manager runs, and start it anew", _INSTALL)
        if not self._place.project:
            return failed("GCP_PROJECT is not set", "set it for the manager; this lists yours:", _PROJECTS)
        if not self._place.region:
            return failed("GCP_REGION is not set", "set it for the manager; this lists them:", _REGIONS)
        return None

    def _of_file(
        self, spec: DeploymentSpec | None, region: str
    ) -> list[tuple[str, Callable[[Google], Awaitable[Found]]]]:
        if spec is None:
            return []
        runner = spec.deploy.service_account
        rows: list[tuple[str, Callable[[Google], Awaitable[Found]]]] = [
            ("accelerator", lambda google: google.accelerator(spec, region)),
            ("quota", lambda google: google.quota(want.needs_of(spec), region)),
        ]
        for written, version in want.secrets_of(spec).items():
            rows.append((f"secret:{written}", lambda google, version=version: _secret(google, version, runner)))  # type: ignore[misc]
        for bucket in dict.fromkeys(volume.bucket for volume in spec.deploy.data if volume.bucket):
            rows.append((f"bucket:{bucket}", lambda google, bucket=bucket: google.bucket(bucket, region)))  # type: ignore[misc]
        return rows

    async def aclose(self) -> None:
        task, self._google = self._google, None
        if task is not None:
            task.cancel()
            [google] = await asyncio.gather(task, return_exceptions=True)
            if not isinstance(google, BaseException):
                await google.aclose()

    async def _asked(self, ask: Callable[[Google], Awaitable[Found]]) -> Found:
        if self._google is None:
            self._google = asyncio.create_task(self._opened())
        first = ask is _whose
        try:
            google = await asyncio.shield(self._google)
        except Unasked as error:
            if first:
                raise
            raise Unasked(skipped("waits for the credentials")) from error
        return await ask(google)

    async def _opened(self) -> Google:
        """Raises Unasked, with what is wrong with the credentials."""
        return await asyncio.to_thread(_logged_in, self._place.project)


def _logged_in(project: str) -> Google:
    """Blocking: Google's packages are imported here, and a token is asked for. Raises Unasked."""
    from google.auth.exceptions import GoogleAuthError

    from cloud_manager.errors import DeployError
    from cloud_manager.targets.cloud_run_cloud import credentials
    from cloud_manager.targets.google_asked import Google
    from cloud_manager.targets.google_rest import GoogleRest, is_passing

    try:
        rest = GoogleRest(credentials())
        return Google(rest, project, rest.renew())
    except DeployError as error:
        raise Unasked(failed(error.problem.cause, _KEY_OR, _LOG_IN)) from error
    except GoogleAuthError as error:
        words = " ".join(str(error.args[0] if error.args else error).split())[:300]
        if is_passing(error):
            raise Unasked(failed(f"Google's token endpoint does not answer: {words}", "see to the network")) from error
        raise Unasked(failed(f"Google refuses the credentials: {words}", _KEY_OR, _LOG_IN)) from error


async def _secret(google: Google, version: str, runner: str | None) -> Found:
    from cloud_manager.targets.google_secrets import secret

    return await secret(google, version, runner)


async def _given(found: Found) -> Found:
    return found


async def _whose(google: Google) -> Found:
    return passed(google.member or "valid; Google does not say whose they are")


async def _repository(google: Google, spec: DeploymentSpec | None, where: want.Repository | None) -> Found:
    if spec is not None and spec.prebuilt:
        return skipped("the image is prebuilt: nothing is published")
    if where is None:
        return skipped("build.image_uri is no repository of Artifact Registry: `docker login` decides there")
    return await google.repository(where)


async def _sources(google: Google, bucket: str, region: str) -> Found:
    if not bucket:
        return skipped("CLOUD_BUILD_BUCKET is not set for the manager; the builder may know it", "set it for both")
    return await google.bucket(bucket, region, want.SOURCES)


def _is_installed() -> bool:
    try:
        names = ("google.auth", "requests", "google.cloud.run_v2", "google.cloud.logging_v2")
        return all(find_spec(name) is not None for name in names)
    except ModuleNotFoundError:
        return False
