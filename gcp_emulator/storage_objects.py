"""Objects: list, read, change, compose, copy, delete. How they come in is in `storage_uploads`."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.responses import Response

from gcp_emulator.storage_call import Call, answer
from gcp_emulator.storage_checksums import Sums, pieces
from gcp_emulator.storage_errors import invalid, no_object, unimplemented
from gcp_emulator.storage_listing import Asked, page
from gcp_emulator.storage_media import media
from gcp_emulator.storage_preconditions import Preconditions, whole_number
from gcp_emulator.storage_resources import mapping, merged, shown_object, storage_class, writable_object
from gcp_emulator.storage_store import Incoming, Store, Written, version

Json = dict[str, Any]
_MOST_SOURCES = 32
_CARRIED = ("cacheControl", "contentDisposition", "contentEncoding", "contentLanguage", "contentType", "customTime")


class Objects:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def list_objects(self, call: Call) -> Response:
        """storage.objects.list"""
        self._store.bucket(call.bucket)
        asked = Asked.of(call.query)
        found = page(asked, self._store.names_after(call.bucket, asked.prefix, asked.after))
        result: Json = {"kind": "storage#objects"}
        if found.prefixes:
            result["prefixes"] = found.prefixes
        if found.items:
            result["items"] = [shown_object(resource, call.base) for resource in found.items]
        if found.token:
            result["nextPageToken"] = found.token
        return answer(call, result)

    async def get(self, call: Call) -> Response:
        """storage.objects.get, of what is known or of the bytes"""
        row = self._store.object(call.bucket, call.object, call.number("generation"))
        call.preconditions().check_read(version(row))
        if call.media:
            return media(call, row["resource"], self._store.blobs.path(row["blob"]))
        return answer(call, shown_object(row["resource"], call.base))

    async def patch(self, call: Call) -> Response:
        """storage.objects.patch"""
        sent = writable_object(await call.json())
        row = self._changeable(call)
        return self._changed(call, row, merged(row["resource"], sent))

    async def update(self, call: Call) -> Response:
        """storage.objects.update: what is not sent is gone"""
        sent = writable_object(await call.json())
        row = self._changeable(call)
        fixed = {key: value for key, value in row["resource"].items() if key not in (*_CARRIED, "metadata")}
        return self._changed(call, row, merged(fixed, sent))

    async def delete(self, call: Call) -> Response:
        """storage.objects.delete"""
        self._store.delete_object(self._changeable(call))
        return Response(status_code=204)

    def _changeable(self, call: Call) -> Json:
        row = self._store.object(call.bucket, call.object, call.number("generation"))
        call.preconditions().check(version(row))
        return row

    def _changed(self, call: Call, row: Json, resource: Json) -> Response:
        return answer(call, shown_object(self._store.change_object(row, resource), call.base))

    async def compose(self, call: Call) -> Response:
        """storage.objects.compose"""
        body = await call.json()
        if body.get("deleteSourceObjects"):
            raise unimplemented("the field deleteSourceObjects of storage.objects.compose")
        self._store.check_target(call.bucket, call.object, call.preconditions())
        rows = self._sources(call.bucket, body)
        metadata = mapping("destination", body.get("destination"))
        with Incoming(self._store) as incoming:
            try:
                await asyncio.to_thread(self._join, incoming, rows)
            except FileNotFoundError:  # deleted meanwhile
                raise no_object(call.bucket, "a source of the composition") from None
            written = incoming.done()
            sums = Sums(written.sums.size, written.sums.crc32c, None)
            count = sum(int(row["resource"].get("componentCount", 1)) for row in rows)
            whole = Written(written.path, sums, {"componentCount": count})
            resource = self._store.put((call.bucket, call.object), metadata, whole, call.preconditions())
        return answer(call, shown_object(resource, call.base))

    def _sources(self, bucket: str, body: Json) -> list[Json]:
        sources = body.get("sourceObjects") or []
        if not isinstance(sources, list):
            raise invalid("Invalid value for field 'sourceObjects': it is no list.")
        if not 1 <= len(sources) <= _MOST_SOURCES:
            raise invalid(f"The number of source components provided ({len(sources)}) must be from 1 to 32.")
        rows = []
        for item in sources:
            source = mapping("sourceObjects", item)
            row = self._store.object(bucket, str(source.get("name")), whole_number(_words(source), "generation"))
            Preconditions.of(_words(mapping("objectPreconditions", source.get("objectPreconditions")))).check(
                version(row)
            )
            rows.append(row)
        return rows

    def _join(self, incoming: Incoming, rows: list[Json]) -> None:
        for row in rows:
            for piece in pieces(self._store.blobs.path(row["blob"])):
                incoming.write(piece)

    async def copy(self, call: Call) -> Response:
        """storage.objects.copy"""
        return answer(call, shown_object(await self._copied(call), call.base))

    async def rewrite(self, call: Call) -> Response:
        """storage.objects.rewrite, always done in one call"""
        resource = await self._copied(call)
        result = {
            "kind": "storage#rewriteResponse",
            "totalBytesRewritten": resource["size"],
            "objectSize": resource["size"],
            "done": True,
            "resource": shown_object(resource, call.base),
        }
        return answer(call, result)

    async def _copied(self, call: Call) -> Json:
        sent = await call.json()
        source = call.matched.arguments
        generation = call.number("sourceGeneration")
        row = self._store.object(source["sourceBucket"], source["sourceObject"], generation)
        Preconditions.of(call.query, "ifSource").check(version(row))
        self._store.check_target(call.bucket, call.object, call.preconditions())
        metadata = _metadata_of_copy(row["resource"], sent)
        written = self._store.link(row)
        try:
            return self._store.put((call.bucket, call.object), metadata, written, call.preconditions())
        finally:
            written.discard()

    async def test_permissions(self, call: Call) -> Response:
        """storage.objects.testIamPermissions"""
        self._store.object(call.bucket, call.object)
        return answer(call, permissions(call))


def permissions(call: Call) -> Json:
    """Whoever may call at all has them all. Raises StorageError 400 for another service's."""
    asked = call.request.query_params.getlist("permissions")
    for permission in asked:
        if not permission.startswith("storage."):
            raise invalid(f"Permission {permission} is not one of Cloud Storage.")
    return {"kind": "storage#testIamPermissionsResponse", "permissions": asked}


def _metadata_of_copy(source: Json, sent: Json) -> Json:
    """The source's, unless the request says any. The storage class is said apart."""
    own = writable_object(sent)
    metadata = own or {key: source[key] for key in (*_CARRIED, "metadata") if key in source}
    wanted = sent.get("storageClass")
    storage_class(wanted)
    return {**metadata, "storageClass": wanted} if wanted else metadata


def _words(value: Json) -> dict[str, str]:
    return {key: str(item) for key, item in value.items()}
