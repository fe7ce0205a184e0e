"""`make demo`: a sample goes from its deployment.yaml to an answer, called the way TANGO's project manager calls.

SAMPLE names a folder beside this file, TARGET where it runs: `local`, or `gcp-cloudrun` on an offline twin of Google.
ONCE=1 stops by itself, with exit status 0 only if the service answered rightly. Everything it makes is in .state/demo
of the checkout, so that a second run is fast; nothing it starts outlives it.
"""

from __future__ import annotations

import os

import httpx
from demo_samples import DemoFailed, find
from demo_steps import (
    STATE,
    alone,
    ask,
    choose_places,
    copy,
    deploy,
    heading,
    look_around,
    out,
    plain,
    say,
    short,
    stopped_at_the_end,
    wait_for_interrupt,
)

from cloud_manager.cli import up
from cloud_manager.cli.acting import manager as manager_at
from cloud_manager.errors import DeployError


def main() -> int:
    daemons: list[up.Daemon] = []
    try:
        with up.interruptible():
            run(os.environ.get("SAMPLE") or "hello", os.environ.get("TARGET") or "local", daemons)
    except DeployError as error:
        out.print(f"[red]error:[/] {plain(error.problem.cause)}\n[yellow]fix:[/] {plain(error.problem.fix)}")
        for daemon in daemons:
            out.print(f"[dim]the last lines of {daemon.log}:[/]\n{plain(daemon.tail())}")
        return 1
    except KeyboardInterrupt:
        out.print("stopped; nothing is left running.")
        return 130
    return 0


def run(sample: str, target: str, daemons: list[up.Daemon]) -> None:
    once = os.environ.get("ONCE", "") not in ("", "0")
    if target == "local":
        on_this_machine(sample, once, daemons)
    elif target == "gcp-cloudrun":
        from demo_google import on_google  # what it needs is not installed for others

        on_google(sample, os.environ.get("BASE", ""), once, daemons)
    else:
        raise DemoFailed(f"there is no demo of a target {target!r}", "Set TARGET to local or gcp-cloudrun.")


def on_this_machine(name: str, once: bool, daemons: list[up.Daemon]) -> None:
    """The whole demo, from the folders to the last good-bye."""
    sample, home = find(name), STATE / name
    with alone(home, name), httpx.Client(trust_env=False) as http:
        sample.prepare(heading)
        places = choose_places(home, local=True)
        project = copy(sample, "deployment.yaml", places.shared_root)
        heading(f"starting the image builder and the cloud manager (logs in {short(places.logs)})")
        with up.running(places, say) as pair, manager_at(places.manager_url) as manager:
            daemons += [pair.builder, pair.manager]
            with stopped_at_the_end(places, manager, name):
                url = deploy(places, manager, name)
                answer = ask(sample, http, url, manager, name)
                heading("the service answers")
                say(answer)
                look_around(places, project, name, [("the service", url), ("ask it yourself", f"curl {url}")])
                if not once:
                    wait_for_interrupt(daemons)
    out.print("stopped; nothing is left running.")


if __name__ == "__main__":
    raise SystemExit(main())
