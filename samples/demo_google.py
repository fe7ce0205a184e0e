"""`make demo TARGET=gcp-cloudrun`: the same sample on Google Cloud Run, as its offline twin has it.

Builder, manager and Google's own clients in this process find the twin by their environment alone, as they would find
a company's proxy. Started anew each time; images and services that an earlier demo left are still there.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from demo_samples import DemoFailed, Sample, find
from demo_steps import (
    STATE,
    USER,
    alone,
    ask,
    choose_places,
    copy,
    deploy,
    heading,
    look_around,
    out,
    say,
    short,
    stopped_at_the_end,
    wait_for_interrupt,
)

from cloud_manager.cli import up
from cloud_manager.cli.acting import manager as manager_at
from cloud_manager.cli.client import Manager

YAML = "deployment_gcp_cloudrun.yaml"
SHOWN = (
    "https_proxy",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "REQUESTS_CA_BUNDLE",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CLOUD_PROJECT",
    "GCP_REGION",
)
OF_ANOTHER_PROJECT = ("GCP_PROJECT", "GCP_REGIONS", "ARTIFACT_REPOSITORY", "CLOUD_BUILD_BUCKET")
OPEN, SHUT = "\n  public: true", "\n  # public: true"
LOG_LINES = 5
STOP_WITHIN = 15.0  # seconds; its services get ten of them


def on_google(name: str, base: str, once: bool, daemons: list[up.Daemon]) -> None:
    """The whole demo: private first, then open to everyone, then nothing is left of it at Google."""
    sample, home = find(name), STATE / f"{name}-gcp-cloudrun"
    with alone(home, name):
        sample.prepare(heading)
        with twin(home / "google", home / "google.log", daemons):
            places = choose_places(home, local=False)
            project = copy(sample, YAML, places.shared_root)
            heading(
                f"starting the image builder and the cloud manager, in that environment (logs in {short(places.logs)})"
            )
            with up.running(places, say) as pair, manager_at(places.manager_url) as manager:
                daemons += [pair.builder, pair.manager]
                stage = Stage(sample, name, project, base, places, manager)
                with stopped_at_the_end(places, manager, name):
                    stage.privately()
                    url = stage.openly()
                    stage.show_log()
                    look_around(places, project, name, rows(home / "google", url))
                    if not once:
                        wait_for_interrupt(daemons)
                nothing_is_left()
    out.print("stopped; nothing is left running.")


@dataclass(frozen=True)
class Stage:
    sample: Sample
    name: str
    project: Path
    base: str
    places: up.Places
    manager: Manager

    def privately(self) -> None:
        self._write(OPEN, SHUT)
        url = deploy(self.places, self.manager, self.name)
        heading("private is the default: it answers those alone who may call it")
        with httpx.Client() as anyone:
            status = anyone.get(url).status_code
        if status != httpx.codes.FORBIDDEN:
            raise DemoFailed(f"{url} answered {status} to somebody without a token", "Read the events above.")
        say(f"GET {url}\n    {status}, without a token")
        with httpx.Client(headers={"Authorization": f"Bearer {identity_token(url)}"}) as known:
            say("with an identity token of the service account:")
            say(ask(self.sample, known, url, self.manager, self.name))

    def openly(self) -> str:
        """Returns the service's URL."""
        self._write(SHUT, OPEN)
        heading("`public: true` is put into its deployment.yaml, and it is started again")
        url = deploy(self.places, self.manager, self.name)
        heading("the service answers everyone")
        with httpx.Client() as anyone:
            say(ask(self.sample, anyone, url, self.manager, self.name))
        return url

    def show_log(self) -> None:
        heading("as Google's own client lists it; and the end of its log")
        for line in revisions():
            say(line)
        say(self.manager.logs(USER, self.name, tail=LOG_LINES).strip())

    def _write(self, old: str, new: str) -> None:
        path = self.project / "deployment.yaml"
        text = path.read_text().replace(old, new)
        path.write_text(text.replace("base_image: scratch", f"base_image: {self.base}") if self.base else text)


# --- the twin ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def twin(state: Path, log: Path, daemons: list[up.Daemon]) -> Iterator[None]:
    """Google, here: this process and what it starts meanwhile know it by the environment that the twin wrote."""
    ports = up.free_port(), up.free_port()
    options = ("--state", str(state), "--port", str(ports[0]), "--control-port", str(ports[1]), "--forward")
    google = up.Daemon("gcp_emulator", f"http://{up.HOST}:{ports[1]}", log, *options)
    heading("starting the offline twin of Google Cloud; what follows speaks to it as to Google, by this environment")
    try:
        google.start(os.environ)
        daemons.append(google)
        google.wait_healthy()
        enter(state / "environment")
        yield
    finally:
        with up.deaf():
            google.stop(STOP_WITHIN)


def enter(file: Path) -> None:
    words = (shlex.split(line)[1].partition("=") for line in file.read_text().splitlines())
    variables = {name: value for name, _, value in words}
    for name in SHOWN:
        say(f"export {name}={variables[name].removeprefix(f'{Path.cwd()}/')}")
    say(f"all of it: . {short(file)}")
    for name in OF_ANOTHER_PROJECT:
        os.environ.pop(name, None)
    os.environ.update(variables)


# --- as Google's own clients see it -----------------------------------------------------------------------------


def identity_token(url: str) -> str:
    """Of the service account, for this service: https://cloud.google.com/run/docs/authenticating/service-to-service"""
    from google.auth.transport.requests import Request
    from google.oauth2.id_token import fetch_id_token

    return str(fetch_id_token(Request(), url))  # type: ignore[no-untyped-call]


def revisions() -> list[str]:
    """Of all services there are: name, whether it is ready, its share of the requests."""
    from google.cloud import run_v2

    found = []
    for service in services():
        shares = {
            one.revision: one.percent for one in run_v2.ServicesClient().get_service(name=service).traffic_statuses
        }
        for one in run_v2.RevisionsClient().list_revisions(parent=service):
            short_name = one.name.rpartition("/")[2]
            states = {condition.type_: condition.state.name for condition in one.conditions}
            found.append(
                f"{short_name:<32}{states.get('Ready', '?'):<24}{shares.get(short_name, 0):>3} % of the requests"
            )
    return found


def services() -> list[str]:
    """Full names of all that run in the region."""
    from google.cloud import run_v2

    place = f"projects/{os.environ['GOOGLE_CLOUD_PROJECT']}/locations/{os.environ['GCP_REGION']}"
    return [one.name for one in run_v2.ServicesClient().list_services(parent=place)]


def nothing_is_left() -> None:
    left = services()
    if left:
        raise DemoFailed(f"Google still has {', '.join(left)}", "Read the manager's log.")
    heading("services that Google's own client lists: none")


def rows(state: Path, url: str) -> list[tuple[str, str]]:
    environment = short(state / "environment")
    return [
        ("the service", url),
        ("ask it yourself", f"(. {environment}; curl {url})"),
        ("gcloud, gsutil", f". {environment}; then as at Google, as far as gcp_emulator/README.md says"),
    ]
