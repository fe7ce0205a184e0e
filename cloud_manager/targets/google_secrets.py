"""Whether a secret is there, and whether who runs the program may read it. Its value is never asked for."""

from __future__ import annotations

from cloud_manager.preflight import Found, failed, passed, skipped
from cloud_manager.targets.cloud_run_preflight_spec import SECRET_READERS, gcloud
from cloud_manager.targets.google_rest import Answer
from cloud_manager.targets.google_talk import MANAGER, Talk, last

SECRETS = "https://secretmanager.googleapis.com/v1"


async def secret(google: Talk, version: str, named: str | None) -> Found:
    """https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/get

    Args:
        version: `NAME/versions/VERSION`.
        named: `deploy.service_account`, which reads it.
    """
    name = version.partition("/")[0]
    base = f"{SECRETS}/projects/{google.project}/secrets"
    answer = await google.get(f"{base}/{version}")
    if answer.status == 404:
        return await _no_secret(google, base, name, version)
    google.check(answer, "secretmanager.versions.get")
    state = str(answer.body.get("state") or "")
    if state != "ENABLED":
        number = last(answer.body.get("name"))
        enable = gcloud("secrets", "versions", "enable", number, f"--secret={name}", f"--project={google.project}")
        return failed(f"{version} is {state.lower()}", "enable it, or name another version", enable)
    return await _readable(google, f"{base}/{name}", name, named or await google.default_account())


async def _no_secret(google: Talk, base: str, name: str, version: str) -> Found:
    there = await google.get(f"{base}/{name}")
    if there.status == 404:
        command = gcloud("secrets", "create", name, "--data-file=FILE", f"--project={google.project}")
        return failed(f"there is no secret {name} in {google.project}", "correct its name, or create it", command)
    google.check(there, "secretmanager.secrets.get")
    command = gcloud("secrets", "versions", "add", name, "--data-file=FILE", f"--project={google.project}")
    return failed(f"the secret {name} has no version {last(version)}", "name another, or add one", command)


async def _readable(google: Talk, url: str, name: str, runner: str) -> Found:
    """By the policies of the secret and of the project; what groups and folders grant is not seen there."""
    member = f"serviceAccount:{runner}"
    own = await google.get(f"{url}:getIamPolicy")
    google.check(own, "secretmanager.secrets.getIamPolicy")
    if _reads(own, member):
        return passed(f"{runner} may read it")
    project = await google.post(f"{MANAGER}/projects/{google.project}:getIamPolicy", {})
    google.check(project, "resourcemanager.projects.getIamPolicy")
    if _reads(project, member):
        return passed(f"{runner} may read it, by a role in the project")
    if _reads(own, "group:", "domain:") or _reads(project, "group:", "domain:"):
        return skipped(f"whether {runner} may read it depends on groups, which are not seen here")
    grant = (f"--member={member}", "--role=roles/secretmanager.secretAccessor", f"--project={google.project}")
    command = gcloud("secrets", "add-iam-policy-binding", name, *grant)
    return failed(f"{runner}, which the program runs as, may not read the secret {name}", "grant it", command)


def _reads(policy: Answer, *members: str) -> bool:
    """Whether a policy lets one of these read secrets; `group:` stands for any group."""
    for binding in policy.body.get("bindings") or ():
        if binding.get("role") in SECRET_READERS:
            for found in binding.get("members") or ():
                if found in members or any(one.endswith(":") and found.startswith(one) for one in members):
                    return True
    return False
