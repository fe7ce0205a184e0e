"""*.run.app: a request's host names a service, or a tag of it; its traffic split, a revision; that one answers.

https://cloud.google.com/run/docs/triggering/https-request, …/securing/managing-access
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
from google.cloud import run_v2
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from gcp_emulator.run_controller import RunController
from gcp_emulator.run_iam import Policies
from gcp_emulator.run_instances import DidNotStart
from gcp_emulator.run_names import Name, parse_host
from gcp_emulator.run_project import Project
from gcp_emulator.run_store import RunStore

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "upgrade")
)
_Internal = (
    run_v2.IngressTraffic.INGRESS_TRAFFIC_INTERNAL_ONLY,
    run_v2.IngressTraffic.INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER,
    run_v2.IngressTraffic.INGRESS_TRAFFIC_NONE,
)

Identity = Callable[[str, str], str | None]
"""(identity token, audience) -> e-mail address"""


class Ingress:
    def __init__(  # noqa: PLR0913 - the parts that it brings together
        self,
        *,
        store: RunStore,
        controller: RunController,
        policies: Policies,
        project: Project,
        identity: Identity,
        owner: str,
        chance: random.Random,
    ) -> None:
        self._store = store
        self._controller = controller
        self._policies = policies
        self._project = project
        self._identity = identity
        self._owner = owner
        self._chance = chance
        self._client = httpx.AsyncClient(trust_env=False, follow_redirects=False, limits=httpx.Limits())

    async def close(self) -> None:
        await self._client.aclose()

    async def answer(self, request: Request) -> Response:
        place = parse_host(request.headers.get("host", ""), self._project.number)
        if place is None:
            return _not_found(request)
        name = Name(self._project.id, place[1], place[0])
        service = self._store.service(str(name))
        revision = chosen(service, place[2], self._chance.random()) if service is not None else None
        if service is None or revision is None or service.ingress in _Internal or service.default_uri_disabled:
            return _not_found(request)
        if not self._may_invoke(service, request):
            return _page(403, "Forbidden", "Your client does not have permission to get URL", request)
        try:
            address = await self._controller.address(name.of_revision(revision))
        except DidNotStart:
            address = None
        return await self._forward(request, address, service) if address else _unavailable()

    def _may_invoke(self, service: run_v2.Service, request: Request) -> bool:
        if service.invoker_iam_disabled or self._policies.may_invoke(service.name, None):
            return True
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return False
        audiences = [service.uri, *service.custom_audiences]
        callers = (self._identity(token.strip(), audience) for audience in audiences)
        caller = next((one for one in callers if one), None)
        # whose project it is may, too
        return caller is not None and (caller == self._owner or self._policies.may_invoke(service.name, caller))

    async def _forward(self, request: Request, address: tuple[str, int], service: run_v2.Service) -> Response:
        sent = self._client.build_request(
            request.method,
            f"http://{address[0]}:{address[1]}{_target(request)}",
            headers=[*_passed_on(request.headers.raw), (b"x-forwarded-proto", b"https")],
            content=_body(request),
            timeout=service.template.timeout.total_seconds(),
        )
        try:
            answer = await self._client.send(sent, stream=True)
        except httpx.TimeoutException:
            return Response("upstream request timeout", 504)
        except httpx.TransportError:
            return _unavailable()
        return _streamed(answer)


def chosen(service: run_v2.Service, tag: str, chance: float) -> str | None:
    """Short name of the revision that answers. Pure.

    Args:
        tag: from the host; "" where it names the service.
        chance: from 0 to below 1.
    """
    if tag:
        return next((one.revision for one in service.traffic_statuses if one.tag == tag), None)
    left = chance * 100
    for status in service.traffic_statuses:
        left -= status.percent
        if left < 0:
            return str(status.revision)
    return None


def _target(request: Request) -> str:
    query = request.scope["query_string"].decode("latin-1")
    path = (request.scope.get("raw_path") or request.url.path.encode()).decode("latin-1")
    return f"{path}?{query}" if query else path


def _passed_on(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name.decode("latin-1").lower() not in _HOP_BY_HOP]


def _body(request: Request) -> AsyncIterator[bytes] | None:
    sized = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    return request.stream() if sized else None


def _streamed(answer: httpx.Response) -> StreamingResponse:
    response = StreamingResponse(answer.aiter_raw(), answer.status_code, background=BackgroundTask(answer.aclose))
    response.raw_headers = [*_passed_on(answer.headers.raw), (b"server", b"Google Frontend")]
    return response


def _not_found(request: Request) -> Response:
    return _page(404, "Page not found", "The requested URL was not found on this server", request)


def _unavailable() -> Response:
    return Response("Service Unavailable", 503, media_type="text/plain")


def _page(status: int, title: str, words: str, request: Request) -> Response:
    """As Google's front end words it."""
    what = f"{words} <code>{_escaped(request.url.path)}</code> from this server." if status == 403 else f"{words}."
    return HTMLResponse(
        "<html><head>\n"
        '<meta http-equiv="content-type" content="text/html;charset=utf-8">\n'
        f"<title>{status} {title}</title>\n</head>\n"
        f"<body text=#000000 bgcolor=#ffffff>\n<h1>Error: {title}</h1>\n<h2>{what}</h2>\n<h2></h2>\n</body></html>\n",
        status,
    )


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def create_app(ingress: Ingress) -> Any:
    return Starlette(routes=[Route("/{path:path}", ingress.answer, methods=_METHODS)])
