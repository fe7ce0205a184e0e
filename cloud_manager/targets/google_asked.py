"""The single questions to Google, and what their answers mean for a person. Each says where Google describes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.preflight import Found, Unasked, failed, passed, skipped
from cloud_manager.targets import cloud_run_preflight_spec as want
from cloud_manager.targets.cloud_run_preflight_spec import Need, Repository, gcloud
from cloud_manager.targets.cloud_run_sizes import gpu_of
from cloud_manager.targets.google_talk import MANAGER, Talk, last, number_of

_USAGE = "https://serviceusage.googleapis.com"
_IAM = "https://iam.googleapis.com/v1"
_REGISTRY = "https://artifactregistry.googleapis.com/v1"
_BUILD = "https://cloudbuild.googleapis.com/v1"
_RUN = "https://run.googleapis.com/v1"
_STORAGE = "https://storage.googleapis.com/storage/v1"


class Google(Talk):
    """The questions about the project, places and sizes; secrets have a module of their own."""

    # -- project -------------------------------------------------------------------------------------------------

    async def project_found(self) -> Found:
        """https://cloud.google.com/resource-manager/reference/rest/v3/projects/get"""
        answer = await self.get(f"{MANAGER}/projects/{self.project}")
        if answer.status in (403, 404) and answer.disabled is None:
            return failed(
                f"the project {self.project} does not exist, or {self.who} may not see it",
                "check GCP_PROJECT, or grant the right to see it",
                self.grant("resourcemanager.projects.get"),
            )
        self.check(answer, "resourcemanager.projects.get")
        state = str(answer.body.get("state") or "")
        if state != "ACTIVE":
            fix = "restore it, or name another in GCP_PROJECT"
            return failed(f"the project {self.project} is {state}", fix, gcloud("projects", "undelete", self.project))
        return passed(f"{self.project}, number {number_of(answer)}")

    async def apis(self, names: Sequence[str]) -> Found:
        """https://cloud.google.com/service-usage/docs/reference/rest/v1/services/batchGet"""
        full = [("names", f"projects/{self.project}/services/{name}") for name in names]
        answer = await self.get(f"{_USAGE}/v1/projects/{self.project}/services:batchGet", full)
        self.check(answer, "serviceusage.services.get")
        on = {last(one.get("name")) for one in answer.body.get("services") or () if one.get("state") == "ENABLED"}
        missing = [name for name in names if name not in on]
        if missing:
            command = gcloud("services", "enable", *missing, f"--project={self.project}")
            cause = f"not enabled in {self.project}: {', '.join(missing)}"
            return failed(cause, "enable what is missing, and wait a minute", command)
        return passed(", ".join(name.removesuffix(".googleapis.com") for name in names))

    async def permissions(self, names: Sequence[str]) -> Found:
        """https://cloud.google.com/resource-manager/reference/rest/v3/projects/testIamPermissions"""
        missing = await self.missing(f"{MANAGER}/projects/{self.project}", names, "resourcemanager.projects.get")
        if missing:
            commands = map(self.bind, want.roles_for(missing))
            return failed(f"{self.who} lacks: {', '.join(missing)}", "grant the least roles that hold them", *commands)
        return passed(f"all {len(names)} that are used in the project")

    async def account(self, named: str | None) -> Found:
        """https://cloud.google.com/run/docs/reference/iam/roles#additional-configuration

        named: `deploy.service_account`; else the project's default account runs the program.
        """
        runner = named or await self.default_account()
        return await self._acts_as(runner, "which the program runs as", self._no_account(runner, named))

    async def build_account(self, region: str) -> Found:
        """https://cloud.google.com/build/docs/api/reference/rest/v1/projects.locations/getDefaultServiceAccount"""
        answer = await self.get(f"{_BUILD}/projects/{self.project}/locations/{region}/defaultServiceAccount")
        self.check(answer, "cloudbuild.builds.get")
        builder = last(answer.body.get("serviceAccountEmail"))
        if not builder:
            page = "https://cloud.google.com/build/docs/cloud-build-service-account-updates"
            return failed("Cloud Build has no default service account here, so it takes no builds", f"see {page}")
        if builder.endswith("@cloudbuild.gserviceaccount.com"):
            return passed(f"{builder} builds")
        return await self._acts_as(builder, "which builds", self._no_account(builder, None))

    async def _acts_as(self, runner: str, whose: str, none: Found) -> Found:
        """none: the answer where there is no such account."""
        base = f"{_IAM}/projects/-/serviceAccounts/{quote(runner, safe='@')}"
        answer = await self.post(f"{base}:testIamPermissions", {"permissions": [want.ACT_AS]})
        if answer.status == 404:
            return none
        self.check(answer, "iam.serviceAccounts.get")
        if want.ACT_AS in (answer.body.get("permissions") or ()):
            return passed(f"{self.who} may act as {runner}, {whose}")
        command = gcloud(
            "iam", "service-accounts", "add-iam-policy-binding", runner, f"--project={self.project}",
            f"--member={self.said_member}", "--role=roles/iam.serviceAccountUser",
        )  # fmt: skip
        return failed(f"{self.who} may not act as {runner}, {whose}", "grant it", command)

    def _no_account(self, runner: str, named: str | None) -> Found:
        name, _, domain = runner.partition("@")
        if named is None:
            fix = "name one in deploy.service_account, or enable the API whose coming makes the default one"
            command = gcloud("services", "enable", "compute.googleapis.com", f"--project={self.project}")
            return failed(f"the project has no default service account ({runner})", fix, command)
        project = domain.removesuffix(".iam.gserviceaccount.com")
        command = gcloud("iam", "service-accounts", "create", name, f"--project={project}")
        return failed(f"deploy.service_account: there is no {runner}", "correct the file, or create it", command)

    # -- places --------------------------------------------------------------------------------------------------

    async def repository(self, where: Repository) -> Found:
        """https://cloud.google.com/artifact-registry/docs/reference/rest/v1/projects.locations.repositories"""
        place = (f"--location={where.location}", f"--project={where.project}")
        base = f"{_REGISTRY}/{where.resource}"
        answer = await self.get(base)
        if answer.status == 404:
            create = ("artifacts", "repositories", "create", where.name, "--repository-format=docker", *place)
            cause = f"there is no repository {where.name} in {where.location} of {where.project}"
            return failed(cause, "create it, or name another (ARTIFACT_REPOSITORY, build.image_uri)", gcloud(*create))
        self.check(answer, "artifactregistry.repositories.get")
        kind = str(answer.body.get("format") or "")
        if kind != "DOCKER":
            cause = f"the repository {where.name} in {where.location} is for {kind.lower()}, not for docker images"
            create = ("artifacts", "repositories", "create", "cloud-deploy", "--repository-format=docker", *place)
            return failed(cause, "name another in ARTIFACT_REPOSITORY, e.g. a new one", gcloud(*create))
        missing = await self.missing(base, want.PUBLISHING, "artifactregistry.repositories.get")
        if missing:
            grant = (f"--member={self.said_member}", "--role=roles/artifactregistry.writer")
            command = gcloud("artifacts", "repositories", "add-iam-policy-binding", where.name, *place, *grant)
            return failed(f"{self.who} lacks on {where.name}: {', '.join(missing)}", "grant it", command)
        return passed(f"{where.location}-docker.pkg.dev/{where.project}/{where.name}")

    async def region(self, region: str) -> Found:
        """https://cloud.google.com/run/docs/reference/rest/v1/projects.locations/list"""
        answer = await self.get(f"{_RUN}/projects/{self.project}/locations", [("pageSize", "500")])
        self.check(answer, "run.locations.list")
        offered = sorted(str(one.get("locationId") or "") for one in answer.body.get("locations") or ())
        if region in offered:
            return passed(f"{region} offers Cloud Run")
        fix = "write deploy.region, or set GCP_REGION, as this lists them:"
        return failed(f"Cloud Run is not offered in {region}", fix, gcloud("run", "regions", "list"))

    async def bucket(self, name: str, region: str, asked: Sequence[str] = ()) -> Found:
        """https://cloud.google.com/storage/docs/json_api/v1/buckets/testIamPermissions

        Which a bucket answers to everybody, also to who may not see what else it is.
        """
        params = [("permissions", permission) for permission in asked or ("storage.objects.get",)]
        answer = await self.get(f"{_STORAGE}/b/{quote(name, safe='')}/iam/testPermissions", params)
        if answer.status == 404:
            create = (
                "storage",
                "buckets",
                "create",
                f"gs://{name}",
                f"--location={region}",
                f"--project={self.project}",
            )
            return failed(f"there is no bucket {name}", "correct its name, or create it", gcloud(*create))
        self.check(answer, "storage.buckets.get")
        held = answer.body.get("permissions") or ()
        missing = [permission for permission in asked if permission not in held]
        if missing:
            grant = (f"--member={self.said_member}", "--role=roles/storage.objectAdmin")
            command = gcloud("storage", "buckets", "add-iam-policy-binding", f"gs://{name}", *grant)
            return failed(f"{self.who} lacks on gs://{name}: {', '.join(missing)}", "grant it", command)
        return passed(f"gs://{name}")

    # -- sizes ---------------------------------------------------------------------------------------------------

    async def accelerator(self, spec: DeploymentSpec, region: str) -> Found:
        """Google has no call that lists them: its page does, and a quota above nothing proves it."""
        gpu = gpu_of(spec)
        if gpu is None:
            return skipped("no GPU is asked for")
        known = want.GPU_REGIONS.get(gpu, ())
        if region in known:
            return passed(f"{region} offers {gpu}")
        need = next((need for need in want.needs_of(spec) if need.gpu), None)
        try:
            granted = need is not None and (want.limit_of(await self._metrics(), need.metric, region) or 0) > 0
        except Unasked as error:
            why = f"{region} is not known here to offer {gpu}, and its quota cannot be asked"
            raise Unasked(skipped(why, error.found.fix, *error.found.commands)) from error
        if granted:
            return passed(f"{region} offers {gpu}: the project has a quota for it")
        page = "https://cloud.google.com/run/docs/configuring/services/gpu#supported-regions"
        fix = f"write deploy.region: {' or '.join(known)} (all of them: {page})" if known else f"see {page}"
        return failed(f"Cloud Run offers no {gpu} in {region}", fix)

    async def quota(self, needs: Sequence[Need], region: str) -> Found:
        """https://cloud.google.com/run/quotas"""
        metrics = await self._metrics()
        limits = [(need, want.limit_of(metrics, need.metric, region)) for need in needs]
        over = [(need, limit) for need, limit in limits if limit is not None and not want.fits(need, limit)]
        if over:
            causes = (
                f"{one.instances} x {one.said} needs {one.total} of {one.metric}, {limit} are granted"
                for one, limit in over
            )
            fix = "lower deploy.scaling.max_instances or deploy.resources, or ask for more"
            commands = (want.more_quota(need, self.project, region) for need, _ in over)
            return failed(f"quota of {region}: {'; '.join(causes)}", fix, *commands)
        known = [f"{one.instances} x {one.said}" for one, limit in limits if limit is not None]
        if not known:
            return skipped(f"Google tells no limits of {region}", "", _quota_list(self.project))
        return passed(f"{', '.join(known)} fit{'s' if len(known) == 1 else ''} in {region}")

    async def _metrics(self) -> Sequence[Mapping[str, Any]]:
        rows: Sequence[Mapping[str, Any]] = await self.once("metrics", self._all_metrics)
        return rows

    async def _all_metrics(self) -> Sequence[Mapping[str, Any]]:
        """https://cloud.google.com/service-usage/docs/reference/rest/v1beta1/services.consumerQuotaMetrics/list"""
        url = f"{_USAGE}/v1beta1/projects/{self.project}/services/run.googleapis.com/consumerQuotaMetrics"
        rows: list[Mapping[str, Any]] = []
        page = ""
        while True:
            params = [("view", "FULL"), ("pageSize", "500"), *([("pageToken", page)] if page else [])]
            answer = await self.get(url, params)
            self.check(answer, "serviceusage.quotas.get")
            rows += answer.body.get("metrics") or ()
            page = str(answer.body.get("nextPageToken") or "")
            if not page:
                return rows


def _quota_list(project: str) -> str:
    return gcloud("beta", "quotas", "info", "list", "--service=run.googleapis.com", f"--project={project}")
