"""Changes by others are seen, whoever made them; what Google fills in is nobody's change."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from google.cloud import run_v2

from cloud_manager.deployment import Key
from cloud_manager.deployment_spec import DeploymentSpec
from cloud_manager.targets.cloud_run_observation import Update, next_step, observation
from cloud_manager.targets.cloud_run_place import Place
from cloud_manager.targets.cloud_run_spec import service_of
from cloud_manager.targets.cloud_run_traits import ASKED, differences
from cloud_manager.targets.target import Wanted

DEPLOY = {
    "type": "gcp-cloudrun",
    "env": {"GREETING": "hello"},
    "secrets": {"KEY": "key:3"},
    "data": [{"mount": "/weights", "bucket": "models"}],
    "scaling": {"max_instances": 3},
    "health": {"path": "/healthz"},
}


def asked(**deploy: object) -> run_v2.Service:
    spec = DeploymentSpec.model_validate({"build": {"image_uri": "r/a:1"}, "deploy": DEPLOY | deploy})
    wanted = Wanted(Key("7", "42"), spec, "0" * 16, image_uri="r/a:1")
    return service_of(wanted, Place("p", "us-central1"))


def as_google_has_it(wish: run_v2.Service) -> run_v2.Service:
    """Ready, and with what Google writes into it by itself."""
    there = run_v2.Service(wish)
    there.generation = there.observed_generation = 1
    there.terminal_condition = run_v2.Condition(state=run_v2.Condition.State.CONDITION_SUCCEEDED)
    there.uri = "https://a.run.app"
    there.latest_ready_revision = f"{there.name}/revisions/a-00001-abc"
    there.ingress = run_v2.IngressTraffic.INGRESS_TRAFFIC_ALL
    there.launch_stage = "GA"
    template = there.template
    template.timeout = template.timeout or timedelta(seconds=300)
    template.max_instance_request_concurrency = template.max_instance_request_concurrency or 80
    template.service_account = template.service_account or "1-compute@developer.gserviceaccount.com"
    template.scaling.max_instance_count = template.scaling.max_instance_count or 100
    template.containers[0].ports[0].name = "http1"
    template.containers[0].resources.limits = {"cpu": "1000m", "memory": "512Mi"}
    template.containers[0].name = "a-1"
    return there


def _set_env(service: run_v2.Service) -> None:
    service.template.containers[0].env.append(run_v2.EnvVar(name="MORE", value="x"))


def _set_secret(service: run_v2.Service) -> None:
    secret = next(one for one in service.template.containers[0].env if one.name == "KEY")
    secret.value_source.secret_key_ref.version = "4"


def _set_image(service: run_v2.Service) -> None:
    service.template.containers[0].image = "r/a:2"


def _set_sidecar(service: run_v2.Service) -> None:
    service.template.containers.append(run_v2.Container(image="r/spy"))


def _set_memory(service: run_v2.Service) -> None:
    service.template.containers[0].resources.limits = {"cpu": "1", "memory": "1Gi"}


def _set_most(service: run_v2.Service) -> None:
    service.template.scaling.max_instance_count = 9


def _set_least(service: run_v2.Service) -> None:
    service.template.scaling.min_instance_count = 1


def _set_bucket(service: run_v2.Service) -> None:
    service.template.volumes[0].gcs.bucket = "others"


def _set_probe(service: run_v2.Service) -> None:
    service.template.containers[0].liveness_probe.period_seconds = 99


def _open(service: run_v2.Service) -> None:
    service.invoker_iam_disabled = True


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (_set_env, "environment"),
        (_set_secret, "environment"),
        (_set_image, "image"),
        (_set_sidecar, "number of containers"),
        (_set_memory, "size"),
        (_set_most, "greatest number of instances"),
        (_set_least, "least number of instances"),
        (_set_bucket, "volumes"),
        (_set_probe, "liveness probe"),
        (_open, "access"),
    ],
)
def test_a_change_by_any_tool_is_named_and_put_right(change: Callable[[run_v2.Service], None], what: str) -> None:
    """Also by one that leaves our name in `client`, as all do that read a service, change it and write it back."""
    there = as_google_has_it(asked())
    change(there)
    seen = observation([there])
    assert seen.drift == (f"its {what} was changed",)
    assert (seen.state, seen.revision) == ("ready", None)
    step = next_step([there], asked())
    assert isinstance(step, Update)
    assert differences(step.service) == ()


@pytest.mark.parametrize("deploy", [{}, {"scaling": {}, "health": {}, "data": [], "secrets": {}}, {"public": True}])
def test_what_google_fills_in_is_no_change(deploy: dict[str, object]) -> None:
    """Else every service would be updated for ever."""
    there = as_google_has_it(asked(**deploy))
    assert observation([there]).drift == ()
    assert observation([there]).revision is not None


def test_a_service_of_an_older_release_is_as_it_was_deployed() -> None:
    """Else a new release would restart every service."""
    there = as_google_has_it(asked())
    for text in ("", "[]", "nonsense"):
        there.annotations[ASKED] = text
        assert differences(there) == ()
    del there.annotations[ASKED]
    assert differences(there) == ()


def test_what_was_asked_holds_no_value_of_a_variable() -> None:
    assert "hello" not in asked().annotations[ASKED]
