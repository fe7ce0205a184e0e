"""What is seen in Cloud Run, and what it means to the person who deploys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from google.cloud import run_v2

from cloud_manager.targets.cloud_run_observation import (
    Create,
    Delete,
    Nothing,
    Update,
    image_of_ready,
    next_step,
    observation,
)

State = run_v2.Condition.State
Pinned = run_v2.TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION
PARENT = "projects/p/locations/us-central1/services"
LISTEN = (
    "Revision 'a-00001-abc' is not ready and cannot serve traffic. The user-provided container failed to start and "
    "listen on the port defined provided by the PORT=8080 environment variable within the allocated timeout.\n\n"
    "Logs URL: https://console.cloud.google.com/logs\nFor more troubleshooting guidance, see https://x"
)


def service(name: str = "a", revision: str = "one", minute: int = 1, **more: Any) -> run_v2.Service:
    """One that is ready, unless `more` says otherwise."""
    made = run_v2.Service(
        name=f"{PARENT}/{name}",
        labels={"cloud-deploy-revision": revision},
        generation=1,
        observed_generation=1,
        client="cloud-deploy",
        update_time=datetime(2026, 1, 1, 0, minute, tzinfo=UTC),
        template=run_v2.RevisionTemplate(
            containers=[run_v2.Container(image="i", ports=[run_v2.ContainerPort(container_port=8080)])]
        ),
        latest_created_revision=f"{PARENT}/{name}/revisions/{name}-00001-abc",
        latest_ready_revision=f"{PARENT}/{name}/revisions/{name}-00001-abc",
        uri=f"https://{name}.run.app",
        terminal_condition=run_v2.Condition(type_="Ready", state=State.CONDITION_SUCCEEDED),
    )
    for field, value in more.items():
        setattr(made, field, value)
    return made


def failed(reason: str, message: str, **more: Any) -> run_v2.Service:
    condition = run_v2.Condition(type_="Ready", state=State.CONDITION_FAILED, message=message)
    if reason in run_v2.Condition.RevisionReason.__members__:
        condition.revision_reason = run_v2.Condition.RevisionReason[reason]
    else:
        condition.reason = run_v2.Condition.CommonReason[reason]
    return service(terminal_condition=condition, **more)


def test_nothing_is_absent() -> None:
    assert observation([]).state == "absent"


def test_what_is_ready_has_an_address() -> None:
    seen = observation([service()])
    assert (seen.state, seen.revision, seen.url, seen.problem) == ("ready", "one", "https://a.run.app", None)


def test_what_comes_up_has_the_address_of_what_serves() -> None:
    condition = run_v2.Condition(state=State.CONDITION_RECONCILING)
    coming = service(reconciling=True, terminal_condition=condition)
    assert (observation([coming]).state, observation([coming]).url) == ("pending", "https://a.run.app")
    coming.latest_ready_revision = ""
    assert observation([coming]).url is None, "Google names an address before anything answers there"


def test_a_newer_wish_that_google_has_not_looked_at_is_not_ready() -> None:
    assert observation([service(generation=2)]).state == "pending"


def test_a_deletion_is_seen() -> None:
    assert observation([service(delete_time=datetime(2026, 1, 1, tzinfo=UTC))]).state == "removing"


def test_a_program_that_does_not_start_is_told_with_its_last_words() -> None:
    seen = observation([failed("HEALTH_CHECK_CONTAINER_ERROR", LISTEN)], ["Traceback", "ImportError: no torch"])
    assert (seen.state, seen.revision) == ("failed", "one")
    assert seen.problem is not None
    assert seen.problem.code == "never_listens"
    assert "PORT=8080" in seen.problem.cause
    assert "its last lines: Traceback | ImportError: no torch" in seen.problem.cause
    assert "Logs URL" not in seen.problem.cause


def test_the_end_of_a_program_is_told_where_google_notes_it() -> None:
    words = ["no weights found", "Container called exit(3)."]
    seen = observation([failed("REVISION_FAILED", LISTEN)], words)
    assert seen.problem is not None
    assert seen.problem.code == "exited"
    assert "exited with code 3; its last lines: no weights found" in seen.problem.cause


@pytest.mark.parametrize(
    ("reason", "code", "fix"),
    [
        ("CONTAINER_MISSING", "image_missing", "build or push the image again"),
        ("CONTAINER_PERMISSION_DENIED", "image_denied", "--location=us-central1 --member=serviceAccount:robot@x.iam"),
        ("SECRETS_ACCESS_CHECK_FAILED", "secret_denied", "roles/secretmanager.secretAccessor"),
        ("VPC_NETWORK_NOT_FOUND", "network_missing", "GCP_NETWORK"),
        ("INTERNAL", "cloud_run_failed", "mend what it names"),
    ],
)
def test_each_reason_has_its_fix(reason: str, code: str, fix: str) -> None:
    words = "Revision 'a' is not ready and cannot serve traffic. Agent robot@x.iam.gserviceaccount.com\nmust read it."
    problem = observation([failed(reason, words)]).problem
    assert problem is not None
    assert problem.code == code
    assert fix in problem.fix
    assert problem.cause == "Cloud Run: Agent robot@x.iam.gserviceaccount.com must read it"


@pytest.mark.parametrize("more", [{"client": "gcloud"}, {"traffic": [run_v2.TrafficTarget(type_=Pinned, percent=100)]}])
def test_what_others_changed_is_put_right(more: dict[str, Any]) -> None:
    changed = service(**more)
    seen = observation([changed])
    assert (seen.state, seen.revision) == ("ready", None), "the controller applies what has no revision"
    assert len(seen.drift) == 1
    assert seen.problem is not None and seen.problem.retryable
    assert isinstance(next_step([changed], service()), Update)


def test_the_old_service_goes_once_the_new_one_answers() -> None:
    old, new = service("a", "one", 1), service("b", "two", 2)
    coming = service("b", "two", 2, reconciling=True, latest_ready_revision="")
    seen = observation([old, coming])
    assert (seen.state, seen.revision, seen.url) == ("pending", "two", "https://a.run.app")
    assert next_step([old, coming], new) == Nothing()
    seen = observation([old, new])
    assert (seen.state, seen.revision, seen.url) == ("pending", None, "https://b.run.app")
    assert next_step([old, new], new) == Delete((old.name,))


def test_the_image_that_serves_is_told_by_its_digest() -> None:
    """Of the revision that is ready; Google resolves a tag when it makes one."""
    serving = service()
    images = {"a-00001-abc": "r/a@sha256:1", "a-00002-abc": "r/a@sha256:2"}
    revisions = [
        run_v2.Revision(name=f"{serving.name}/revisions/{name}", containers=[run_v2.Container(image=image)])
        for name, image in images.items()
    ]
    assert image_of_ready(serving, revisions) == "r/a@sha256:1"
    assert image_of_ready(serving, revisions[1:]) is None
    revisions[0].containers[0].image = "r/a:1"
    assert image_of_ready(serving, revisions) is None


def test_what_is_there_is_left_alone() -> None:
    assert next_step([service()], service()) == Nothing()
    assert next_step([service(reconciling=True)], service()) == Nothing()
    assert next_step([service(delete_time=datetime(2026, 1, 1, tzinfo=UTC))], service()) == Nothing()
    assert isinstance(next_step([], service()), Create)
    assert isinstance(next_step([service()], service(revision="two")), Update)
    assert isinstance(next_step([failed("INTERNAL", "x")], service()), Update)
