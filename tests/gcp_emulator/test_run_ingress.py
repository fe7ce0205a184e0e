"""Addresses of services: who may call, and which revision answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.cloud import run_v2
from google.iam.v1 import iam_policy_pb2, policy_pb2

from gcp_emulator import jwt
from gcp_emulator.ingress import chosen
from gcp_emulator.run_names import host, parse_host
from gcp_emulator.tokens import _GOOGLE
from tests.gcp_emulator.run_stock import IMAGE, PARENT, Stock, service, stock

NAME = f"{PARENT}/services/hello"
REVISION = run_v2.TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION


@pytest.fixture
async def google(tmp_path: Path) -> AsyncIterator[Stock]:
    async with stock(tmp_path) as found:
        yield found


async def test_a_service_is_private_until_it_is_opened(google: Stock) -> None:
    made = await google.create(service())
    closed = await google.web.get(f"{made.uri}/<path>")
    assert closed.status_code == 403
    assert "<title>403 Forbidden</title>" in closed.text
    assert "Your client does not have permission to get URL <code>/&lt;path&gt;</code> from this server." in closed.text
    binding = policy_pb2.Binding(role="roles/run.invoker", members=["allUsers"])
    policy = policy_pb2.Policy(bindings=[binding])
    await google.services.set_iam_policy(iam_policy_pb2.SetIamPolicyRequest(resource=NAME, policy=policy))
    assert (await google.web.get(made.uri)).status_code == 200


async def test_an_identity_token_for_the_address_opens_a_private_service(google: Stock) -> None:
    made = await google.create(service())
    key = google.twin.accounts.ensure(_GOOGLE)
    now = int(google.twin.clock.now())
    for audience, status in ((made.uri, 200), ("https://elsewhere.run.app", 403)):
        claims = {"aud": audience, "email": google.twin.settings.service_account, "iat": now, "exp": now + 600}
        token = jwt.sign(key.key, key.key_id, claims)
        answer = await google.web.get(made.uri, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == status


async def test_who_was_not_made_an_invoker_may_not_call(google: Stock) -> None:
    made = await google.create(service())
    key = google.twin.accounts.ensure(_GOOGLE)
    now = int(google.twin.clock.now())
    claims = {"aud": made.uri, "email": "robot@twin-project.iam.gserviceaccount.com", "iat": now, "exp": now + 600}
    authorization = {"Authorization": f"Bearer {jwt.sign(key.key, key.key_id, claims)}"}
    assert (await google.web.get(made.uri, headers=authorization)).status_code == 403
    binding = policy_pb2.Binding(role="roles/run.invoker", members=[f"serviceAccount:{claims['email']}"])
    policy = policy_pb2.Policy(bindings=[binding])
    await google.services.set_iam_policy(iam_policy_pb2.SetIamPolicyRequest(resource=NAME, policy=policy))
    assert (await google.web.get(made.uri, headers=authorization)).status_code == 200


async def test_addresses_of_nothing(google: Stock) -> None:
    made = await google.create(service(invoker_iam_disabled=True))
    for uri in (
        made.uri.replace("hello", "other"),
        made.uri.replace("us-central1", "europe-west1"),
        made.uri.replace("https://", "https://tag---"),
        "https://example.run.app",
    ):
        answer = await google.web.get(uri)
        assert answer.status_code == 404
        assert "Page not found" in answer.text


async def test_a_service_for_internal_callers_is_not_to_be_found_from_outside(google: Stock) -> None:
    internal = run_v2.IngressTraffic.INGRESS_TRAFFIC_INTERNAL_ONLY
    made = await google.create(service(invoker_iam_disabled=True, ingress=internal))
    assert (await google.web.get(made.uri)).status_code == 404


async def test_a_service_that_never_came_up_has_no_address(google: Stock) -> None:
    google.fail(call="revision", reason="HEALTH_CHECK_CONTAINER_ERROR")
    with pytest.raises(Exception, match="failed to start"):
        await google.create(service(invoker_iam_disabled=True))
    uri = f"https://{host('hello', 'us-central1', google.twin.settings.project_number)}"
    assert (await google.web.get(uri)).status_code == 404


async def test_traffic_is_split_as_asked(google: Stock) -> None:
    await google.create(service(template={"revision": "hello-one"}))
    wish = service(f"{IMAGE}:2", name=NAME, template={"revision": "hello-two"}, invoker_iam_disabled=True)
    wish.traffic = [
        run_v2.TrafficTarget(type_=REVISION, revision="hello-one", percent=30),
        run_v2.TrafficTarget(type_=REVISION, revision="hello-two", percent=70),
    ]
    made = await google.update(wish)
    shares = Counter(chosen(made, "", number / 100) for number in range(100))
    assert shares == {"hello-one": 30, "hello-two": 70}
    assert {(await google.web.get(made.uri)).text for _ in range(30)} <= {"hello-one", "hello-two"}


def test_hosts_are_read_as_they_are_made() -> None:
    number = "100000000001"
    for tag in ("", "next", "a-b"):
        made = host("hello-world", "europe-west1", number, tag)
        assert parse_host(f"{made}:443", number) == ("hello-world", "europe-west1", tag)
    assert parse_host("hello-42.us-central1.run.app", number) is None
