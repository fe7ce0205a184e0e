"""What can go wrong with a program on this machine, in words for the person who wrote it. Pure."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from cloud_manager.targets.local_run import Problem


def problem(code: str, cause: str, fix: str) -> Problem:
    one_line = " ".join(cause.split())
    return {"code": code, "cause": one_line, "fix": fix, "retryable": False}


def exited(status: int, lines: Sequence[str], port: int) -> Problem:
    """The program ended by itself. `status` as subprocess has it: negative for a signal."""
    how = f"was ended by {_signal(-status)}" if status < 0 else f"exited with code {status}"
    if any("address already in use" in line.lower() for line in lines):
        fix = f"another process has the port the program asks for; read the port from the PORT variable ({port} now)"
    elif status == 0:
        fix = "the entrypoint must go on running and answer HTTP; start the server in the foreground"
    else:
        fix = "mend the program; its whole output is in the service's logs"
    return problem("exited", f"the program {how}{_tail(lines)}", fix)


def never_listens(port: int, path: str, seconds: float, lines: Sequence[str], listens: bool) -> Problem:
    what = f"does not answer GET {path} with 2xx-4xx" if listens else "does not listen"
    cause = f"the program {what} on PORT={port} within {seconds:g} s{_tail(lines)}"
    return problem(
        "never_listens", cause, "listen on the PORT variable, or raise deploy.health.startup_seconds if it is slow"
    )


def wrong_port(found: Sequence[int], port: int, lines: Sequence[str]) -> Problem:
    where = ", ".join(str(one) for one in sorted(found))
    cause = f"the program listens on {where}, not on PORT={port}{_tail(lines)}"
    return problem("wrong_port", cause, "read the port from the PORT variable, e.g. int(os.environ['PORT'])")


def unhealthy(path: str, port: int, times: int, lines: Sequence[str]) -> Problem:
    cause = f"the program no longer answers GET {path} on port {port} ({times} times in a row){_tail(lines)}"
    return problem("unhealthy", cause, "look at the service's logs for what it is busy with")


def given_up(last: Problem, crashes: int) -> Problem:
    return {**last, "cause": f"given up after {crashes} crashes in a row; the last one: {last['cause']}"}


def entrypoint_missing(name: str, cwd: str) -> Problem:
    return problem(
        "entrypoint_missing",
        f"deploy.entrypoint: there is no {name} in {cwd} of the image",
        "name a file that lies beside deployment.yaml's program, or a command that one of the libs installs",
    )


def port_in_use(host: str, port: int, who: str | None) -> Problem:
    return problem(
        "port_in_use",
        f"port {port} on {host} is in use by {who or 'another process'}",
        "stop that process, or choose another deploy.network.service_host_port (or none, for a free one)",
    )


def cannot_listen(host: str, port: int, reason: str) -> Problem:
    return problem(
        "cannot_listen",
        f"cannot listen on {host}:{port}: {reason}",
        "choose a deploy.network.service_host_ip of this machine and a service_host_port above 1023",
    )


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _tail(lines: Sequence[str]) -> str:
    return f"; its last lines: {' | '.join(lines)}" if lines else ", without a word in its log"
