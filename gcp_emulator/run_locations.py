"""google.cloud.location.Locations of Cloud Run: the regions that it is offered in.

https://cloud.google.com/run/docs/locations
"""

from __future__ import annotations

from typing import Any

from google.cloud.location import locations_pb2

from gcp_emulator.grpc_server import Method, Service
from gcp_emulator.run_errors import denied
from gcp_emulator.settings import Settings

_REGIONS = (
    "africa-south1",
    "asia-east1",
    "asia-east2",
    "asia-northeast1",
    "asia-northeast2",
    "asia-northeast3",
    "asia-south1",
    "asia-south2",
    "asia-southeast1",
    "asia-southeast2",
    "australia-southeast1",
    "australia-southeast2",
    "europe-central2",
    "europe-north1",
    "europe-north2",
    "europe-southwest1",
    "europe-west1",
    "europe-west10",
    "europe-west12",
    "europe-west2",
    "europe-west3",
    "europe-west4",
    "europe-west6",
    "europe-west8",
    "europe-west9",
    "me-central1",
    "me-central2",
    "me-west1",
    "northamerica-northeast1",
    "northamerica-northeast2",
    "southamerica-east1",
    "southamerica-west1",
    "us-central1",
    "us-east1",
    "us-east4",
    "us-east5",
    "us-south1",
    "us-west1",
    "us-west2",
    "us-west3",
    "us-west4",
)


def locations_service(settings: Settings) -> Service:
    async def listed(request: Any) -> locations_pb2.ListLocationsResponse:
        project = request.name.removeprefix("projects/")
        if project not in (settings.project, settings.project_number):
            raise denied("run.locations.list", request.name)
        rows = [
            locations_pb2.Location(
                name=f"projects/{settings.project}/locations/{region}",
                location_id=region,
                labels={"cloud.googleapis.com/region": region},
            )
            for region in sorted({*_REGIONS, settings.region})
        ]
        return locations_pb2.ListLocationsResponse(locations=rows)

    answer = Method(listed, locations_pb2.ListLocationsRequest, locations_pb2.ListLocationsResponse)
    return Service("google.cloud.location.Locations", {"ListLocations": answer})
