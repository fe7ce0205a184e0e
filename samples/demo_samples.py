"""What `make demo` knows of each sample: what must be there first, and what a right answer is."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from cloud_manager.errors import DeployError
from image_builder.pip_settings import PipSettings

SAMPLES = Path(__file__).resolve().parent
TRAINING = ("torch==2.13.0", "scikit-learn")  # the environment in which digits is trained

Tell = Callable[[str], None]


class DemoFailed(DeployError):
    code = "demo_failed"


@dataclass(frozen=True)
class Sample:
    """What the demo knows of a sample: what it needs first, and what a right answer is."""

    folder: Path
    prepare: Callable[[Tell], None]
    ask: Callable[[httpx.Client, str], str]
    """Takes who asks and the service's URL, returns request and answer for people; DemoFailed if it is not right."""


def find(name: str) -> Sample:
    known = {
        "hello": Sample(SAMPLES / "hello", lambda tell: None, ask_hello),
        "digits": Sample(SAMPLES / "digits", train_digits, ask_digits),
    }
    if name not in known:
        raise DemoFailed(f"there is no demo of a sample {name!r}", f"Set SAMPLE to one of: {', '.join(known)}.")
    return known[name]


def ask_hello(http: httpx.Client, url: str) -> str:
    answer = answer_of(http.get(url, timeout=10))
    if not str(answer.get("greeting", "")).startswith("Hello"):
        raise DemoFailed(f"the service answered {answer}, without its greeting", "Read samples/hello/nn_model.")
    return f"GET {url}\n  {json.dumps(answer)}"


def ask_digits(http: httpx.Client, url: str) -> str:
    """Asks for two digits that the model was not trained on."""
    lines = []
    for digit, image in UNSEEN.items():
        answer = answer_of(http.post(f"{url}/predict", json=image, timeout=30))
        if answer.get("digit") != digit:
            raise DemoFailed(
                f"the model read {answer.get('digit')} where a {digit} was written",
                "Remove samples/digits/nn_model/digits.pt and run again: the model is trained anew.",
            )
        sure = max(answer["probabilities"])
        lines += [f"POST {url}/predict", *drawn(image), f"  read as {digit} ({sure:.1%} sure)"]
    return "\n".join(lines)


# The first 3 and the first 7 that train.py holds out.
UNSEEN = {
    3: [
        [0, 0, 9, 16, 10, 1, 0, 0],
        [0, 0, 8, 3, 16, 4, 0, 0],
        [0, 0, 0, 5, 14, 2, 0, 0],
        [0, 0, 2, 16, 15, 7, 0, 0],
        [0, 0, 0, 0, 3, 15, 2, 0],
        [0, 4, 6, 0, 0, 13, 7, 0],
        [0, 6, 13, 1, 5, 16, 3, 0],
        [0, 0, 10, 16, 15, 5, 0, 0],
    ],
    7: [
        [0, 0, 2, 13, 16, 9, 0, 0],
        [0, 0, 12, 12, 7, 16, 3, 0],
        [0, 1, 14, 3, 0, 16, 4, 0],
        [0, 0, 0, 4, 10, 16, 6, 0],
        [0, 0, 0, 13, 16, 16, 9, 0],
        [0, 0, 0, 5, 13, 1, 0, 0],
        [0, 0, 0, 11, 9, 0, 0, 0],
        [0, 0, 1, 16, 4, 0, 0, 0],
    ],
}


def drawn(image: list[list[int]]) -> list[str]:
    """Two characters per cell, the darker the more ink."""
    return ["  " + "".join(" ░▒▓█"[(level + 3) // 4] * 2 for level in row) for row in image]


def answer_of(response: httpx.Response) -> dict[str, Any]:
    try:
        value = response.raise_for_status().json()
    except ValueError as error:
        raise DemoFailed(f"the service answered no JSON: {response.text[:200]}", "Read its program.") from error
    return value if isinstance(value, dict) else {"answer": value}


def train_digits(tell: Tell) -> None:
    """Train where there are no weights yet, in an environment that uv makes for it."""
    folder = SAMPLES / "digits"
    if (folder / "nn_model" / "digits.pt").is_file():
        return
    tell("training the model (once; torch is fetched if this machine does not have it yet)")
    environment = SAMPLES.parent / ".state" / "train"
    python = environment / "bin" / "python"
    uv_pip = ["uv", "pip", "install", "--quiet", "--python", str(python), *cpu_torch()]
    command([sys.executable, "-m", "uv", "venv", "--quiet", "--clear", "--python", sys.executable, str(environment)])
    command([sys.executable, "-m", *uv_pip, *TRAINING])
    command([str(python), str(folder / "train.py")])


def cpu_torch() -> list[str]:
    """Options that keep CUDA out: none where the plain resolve brings none (macOS, a host with CPU wheels)."""
    plain_resolve = subprocess.run(
        [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "-"],
        input="\n".join(TRAINING),
        env=uv_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    return ["--torch-backend", "cpu"] if "nvidia-" in plain_resolve.stdout or plain_resolve.returncode else []


def uv_environment() -> dict[str, str]:
    """uv does not read pip's settings; the builder's own translation of them serves the training too."""
    return asyncio.run(PipSettings(os.environ).environment())


def command(words: list[str]) -> None:
    done = subprocess.run(words, env=uv_environment(), check=False)
    if done.returncode:
        raise DemoFailed(f"{' '.join(words)} ended with {done.returncode}", "Read the lines above; then run again.")
