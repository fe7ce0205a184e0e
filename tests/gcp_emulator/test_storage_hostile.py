"""Whatever is sent, the answer is one of Google's: never a 500, and the next call works."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gcp_emulator.clock import ManualClock
from gcp_emulator.faults import Faults
from gcp_emulator.state import State
from gcp_emulator.storage import create_app

_ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "x", "a\r\nb: c", "\ud800", "\0", "ü"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["enabled", "x", "name"]), inner),
    max_leaves=4,
)
_FIELDS = [
    "name",
    "labels",
    "iamConfiguration",
    "storageClass",
    "location",
    "lifecycle",
    "versioning",
    "metadata",
    "contentType",
    "contentEncoding",
    "cacheControl",
    "customTime",
    "crc32c",
    "md5Hash",
    "bindings",
    "etag",
    "version",
    "sourceObjects",
    "destination",
    "uniformBucketLevelAccess",
    "publicAccessPrevention",
    "bucketPolicyOnly",
    "objectPreconditions",
    "generation",
]
_BODY = st.dictionaries(st.sampled_from(_FIELDS), _ODD | st.dictionaries(st.sampled_from(_FIELDS), _ODD, max_size=2))
_QUERY = st.dictionaries(
    st.sampled_from(
        [
            "project",
            "name",
            "uploadType",
            "upload_id",
            "generation",
            "ifGenerationMatch",
            "maxResults",
            "pageToken",
            "fields",
            "prefix",
            "delimiter",
            "startOffset",
            "sourceGeneration",
            "permissions",
            "alt",
        ]
    ),
    st.sampled_from(["", "0", "-1", "x", "9" * 5000, "media", "resumable", "multipart", "items(", "ü", "\0", "a/"]),
    max_size=3,
)
_CALLS = (
    ("POST", "/storage/v1/b"),
    ("PATCH", "/storage/v1/b/kept"),
    ("PUT", "/storage/v1/b/kept"),
    ("PUT", "/storage/v1/b/kept/iam"),
    ("GET", "/storage/v1/b"),
    ("GET", "/storage/v1/b/kept/o"),
    ("GET", "/storage/v1/b/kept/o/there"),
    ("GET", "/storage/v1/b/%FF%00/o/%ED%A0%80"),
    ("PATCH", "/storage/v1/b/kept/o/there"),
    ("PUT", "/storage/v1/b/kept/o/there"),
    ("POST", "/storage/v1/b/kept/o/new/compose"),
    ("POST", "/storage/v1/b/kept/o/there/copyTo/b/kept/o/copy"),
    ("POST", "/storage/v1/b/kept/o/there/rewriteTo/b/kept/o/copy"),
    ("POST", "/upload/storage/v1/b/kept/o"),
    ("PUT", "/upload/storage/v1/b/kept/o"),
    ("POST", "/batch/storage/v1"),
)
_HEADERS = {"Authorization": "Bearer x"}


class _Api:
    def __init__(self, folder: Path) -> None:
        self.state = State(folder)
        self._app = create_app(self.state, Faults(), ManualClock(), lambda header: header)

    def call(self, verb: str, path: str, **more: Any) -> httpx.Response:
        async def answer() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://storage") as client:
                return await client.request(verb, path, headers={**_HEADERS, **more.pop("headers", {})}, **more)

        return asyncio.run(answer())


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Api]:
    api = _Api(tmp_path_factory.mktemp("storage"))
    api.call("POST", "/storage/v1/b?project=p", json={"name": "kept"})
    api.call("POST", "/upload/storage/v1/b/kept/o?uploadType=media&name=there", content=b"data")
    yield api
    api.state.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(_CALLS), _BODY, _QUERY)
@example(("POST", "/storage/v1/b"), {"name": "odd", "iamConfiguration": "x"}, {"project": "p"})
@example(("POST", "/storage/v1/b/kept/o/new/compose"), {"sourceObjects": ["x"]}, {})
@example(("PATCH", "/storage/v1/b/kept"), {"storageClass": []}, {})
@example(("PATCH", "/storage/v1/b/kept/o/there"), {"contentType": "a\r\nb: c"}, {})
def test_odd_metadata_is_refused_in_googles_form(
    api: _Api, call: tuple[str, str], body: dict[str, Any], query: dict[str, str]
) -> None:
    answer = api.call(*call, params=query, content=json.dumps(body))
    if answer.status_code >= 400 and answer.headers["content-type"].startswith("application/json"):
        assert answer.json()["error"]["code"] == answer.status_code
    read = api.call("GET", "/storage/v1/b/kept/o/there?alt=media")
    assert (read.status_code, read.content) == (200, b"data")
    assert "\n" not in "".join(read.headers.values())
    assert api.call("GET", "/storage/v1/b/kept").status_code == 200


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([("POST", "/upload/storage/v1/b/kept/o?uploadType=multipart"), ("POST", "/batch/storage/v1")]),
    st.lists(st.sampled_from([b"--s", b"--", b"\r\n", b"\n", b"A: b", b"GET /x HTTP/1.1", b"{}", b"[]", b"\xff"])),
)
def test_odd_bodies_of_parts_are_refused(api: _Api, call: tuple[str, str], words: list[bytes]) -> None:
    answer = api.call(*call, content=b"".join(words), headers={"Content-Type": "multipart/mixed; boundary=s"})
    assert answer.status_code < 500
