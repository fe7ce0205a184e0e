"""The peer: Google's own client as its documentation shows it, in a process that has the twin's environment.

A word and a name on each line of the input; a line of JSON for each:
`create NAME` -> {"seconds": until `result()` returned, "google": of these, Google's own}; `look NAME` -> {"google": …};
`delete NAME` -> {}.
"""

from __future__ import annotations

import json
import sys
import time

from google.cloud import run_v2

HELLO = "us-docker.pkg.dev/cloudrun/container/hello"


def google_seconds(service: run_v2.Service) -> float:
    """From the creation to the readiness that the service itself tells."""
    ready = service.terminal_condition.last_transition_time
    return float((ready - service.create_time).total_seconds())


def created(client: run_v2.ServicesClient, parent: str, name: str) -> dict[str, float]:
    container = run_v2.Container(image=HELLO)
    service = run_v2.Service(template=run_v2.RevisionTemplate(containers=[container]))
    began = time.perf_counter()
    made = client.create_service(parent=parent, service=service, service_id=name).result(timeout=120)
    return {"seconds": time.perf_counter() - began, "google": google_seconds(made)}


def main(parent: str) -> None:
    client = run_v2.ServicesClient()
    for line in sys.stdin:
        word, name = line.split()
        full = f"{parent}/services/{name}"
        if word == "create":
            answer = created(client, parent, name)
        elif word == "look":
            answer = {"google": google_seconds(client.get_service(name=full))}
        else:
            client.delete_service(name=full).result(timeout=120)
            answer = {}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
