"""Images with a base run in a real Docker Engine, and leave nothing there."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.api_core import exceptions
from google.cloud import run_v2

from gcp_emulator.runtime_process import carriers
from tests import needs
from tests.gcp_emulator.run_images import push
from tests.gcp_emulator.run_stock import PARENT, Stock, service, stock
from tests.gcp_emulator.test_run_process import Registry, _identity

SERVER = r"""
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* Answers with GREETING and the first line of /data/file. */
static void end(int number) { _exit(0); }
int main(int count, char **words) {
    if (count > 1) return 3;
    signal(SIGTERM, end);
    char line[64] = "", answer[256], asked[1024];
    FILE *file = fopen("/data/file", "r");
    if (file) { fgets(line, sizeof line, file); fclose(file); }
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(atoi(getenv("PORT")))};
    int listening = socket(AF_INET, SOCK_STREAM, 0);
    bind(listening, (struct sockaddr *)&any, sizeof any);
    listen(listening, 8);
    printf("listening\n"); fflush(stdout);
    for (;;) {
        int caller = accept(listening, 0, 0);
        if (read(caller, asked, sizeof asked) > 0) {
            int size = strlen(getenv("GREETING")) + 1 + strlen(line);
            const char *head = "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s %s";
            int all = snprintf(answer, sizeof answer, head, size, getenv("GREETING"), line);
            write(caller, answer, all);
        }
        close(caller);
    }
}
"""


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
async def google(tmp_path: Path, registry: Registry, docker_engine: str) -> AsyncIterator[Stock]:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "file").write_text("mounted")
    async with stock(tmp_path, registry.runtime, docker=docker_engine, secrets=tmp_path / "secrets") as found:
        await registry.located.start()
        label = f"label=gcp_emulator={_identity(found)}"
        try:
            yield found
        finally:
            await registry.located.stop()
    assert _docker(docker_engine, "network", "ls", "--quiet", "--filter", label) == ""
    assert _docker(docker_engine, "ps", "--all", "--quiet", "--filter", label) == ""
    images = _docker(docker_engine, "images", "--quiet", "--filter", label).split()
    if images:
        _docker(docker_engine, "rmi", "--force", *set(images))


def _docker(engine: str, *words: str) -> str:
    return subprocess.run(
        [needs.program("docker"), "-H", engine, *words], capture_output=True, text=True, check=True
    ).stdout


def _program(folder: Path) -> bytes:
    source = folder / "server.c"
    source.write_text(SERVER)
    built = subprocess.run(
        [needs.program("gcc"), "-static", "-w", "-o", folder / "server", source], capture_output=True, check=False
    )
    if built.returncode:
        needs.missing(f"gcc cannot make a static program: {built.stderr.decode()[-200:]}")
    return (folder / "server").read_bytes()


@pytest.mark.slow
async def test_a_container_is_deployed_updated_and_gone(
    google: Stock, registry: Registry, tmp_path: Path, docker_engine: str
) -> None:
    async with registry.client() as client:
        files = {"bin/server": _program(tmp_path)}
        image = await push(client, "native", files, Entrypoint=["/bin/server"], WorkingDir="/")
    container = run_v2.Container(
        image=image,
        env=[run_v2.EnvVar(name="GREETING", value="good\nmorning")],
        volume_mounts=[run_v2.VolumeMount(name="data", mount_path="/data")],
    )
    volume = run_v2.Volume(name="data", secret=run_v2.SecretVolumeSource(secret="file"))
    made = await google.create(
        service(template={"containers": [container], "volumes": [volume]}, invoker_iam_disabled=True)
    )
    assert (await google.web.get(made.uri)).text == "good\nmorning mounted"
    for process in carriers(_identity(google)):  # our supervisor and `docker run`: the container itself goes on
        process.kill()
    assert (await google.web.get(made.uri)).text == "good\nmorning mounted"
    label = f"label=gcp_emulator={_identity(google)}"
    assert len(_docker(docker_engine, "ps", "--quiet", "--filter", label).split()) == 1
    bad = run_v2.Container(image=image, args=["leave"])
    with pytest.raises(exceptions.GoogleAPICallError, match="failed to start and listen on the port"):
        await google.update(
            service(name=f"{PARENT}/services/hello", template={"containers": [bad]}, invoker_iam_disabled=True)
        )
    assert (await google.web.get(made.uri)).text == "good\nmorning mounted"
