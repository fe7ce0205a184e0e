"""Make the virtual environment of this checkout with nothing but python.

`python3 scripts/bootstrap.py [--google | --dev] .venv`: --google adds Google's clients and the twin of Google; --dev
adds these and what tests and checks need.

Standard library only. The host's own settings for pip (environment, pip.conf, proxies, CA) are obeyed, for fetching
pip itself too. Run again it does nothing until pyproject.toml or this file changes.
"""

from __future__ import annotations

import configparser
import hashlib
import html.parser
import importlib.util
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path

OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parent.parent
STAMPS = {  # files that say what is installed; the first is the kind's own, the others come with it
    "": ("installed",),
    "google": ("installed-google", "installed"),
    "dev": ("installed-dev", "installed-google", "installed"),
}
DEBIAN_WHEELS = Path("/usr/share/python-wheels")  # where Debian's python3-pip-whl keeps pip for ensurepip


class CannotBootstrap(Exception):
    """Ends the program with its words on stderr."""


def main(arguments: list[str]) -> int:
    use_new_enough_python()
    kind = next((name for name in ("dev", "google") if f"--{name}" in arguments), "")
    folders = [a for a in arguments if not a.startswith("-")]
    venv = Path(folders[0] if folders else ".venv").absolute()
    try:
        make_environment(venv, kind)
    except CannotBootstrap as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"error: this failed with exit status {error.returncode}: {' '.join(error.cmd)}\n")
        sys.stderr.write(
            "fix: read the lines above; behind a mirror or proxy set PIP_INDEX_URL, HTTPS_PROXY, PIP_CERT\n"
        )
        return 1
    return 0


def make_environment(venv: Path, kind: str) -> None:
    wanted = fingerprint()
    stamps = [venv / name for name in STAMPS[kind]]
    if stamps[0].is_file() and stamps[0].read_text() == wanted:
        return
    python = venv / "bin" / "python"
    if not works(python, f"import sys; assert sys.version_info >= {OLDEST!r}"):
        say(f"making {venv.name} with {sys.version.split()[0]}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(venv)], check=True)
    if not works(python, "import pip"):
        install_pip(python)
    say("installing what pyproject.toml asks for (the first time takes a minute or two)")
    command = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    wanted_here = [f"{ROOT}[emulator,gcp]" if kind else str(ROOT), *(dev_requirements() if kind == "dev" else [])]
    subprocess.run([*command, "--editable", *wanted_here], check=True)
    for stamp in stamps:
        stamp.write_text(wanted)


def fingerprint() -> str:
    """Changes when the environment must be brought up to date."""
    parts = [(ROOT / "pyproject.toml").read_bytes(), Path(__file__).read_bytes(), str(ROOT).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def dev_requirements() -> list[str]:
    """The `dev` group, read here because `pip install --group` needs pip 25.1 and Debian 12 has 23.0."""
    import tomllib

    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    return [str(requirement) for requirement in groups["dev"]]


def use_new_enough_python() -> None:
    """Go on under python >= 3.11: this one, or one that is on PATH under its own name."""
    if sys.version_info >= OLDEST:
        return
    for minor in range(20, OLDEST[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        if found:
            os.execv(found, [found, *sys.argv])  # noqa: S606  the same program, no shell on purpose
    sys.stderr.write(
        f"error: python {OLDEST[0]}.{OLDEST[1]} is needed, and {sys.executable} is {sys.version.split()[0]}\n"
        "fix: install a newer python (https://www.python.org/downloads/) and run: make PYTHON=/path/to/python3\n"
    )
    raise SystemExit(1)


# --- pip, where Debian has split it off -------------------------------------------------------------------------


def install_pip(python: Path) -> None:
    """Try the ways from the nearest to the farthest; Debian's python3 alone has neither ensurepip nor pip."""
    ways = (by_ensurepip, by_host_pip, by_wheel_at_hand, by_configured_index, by_uv, by_apt)
    for way in ways:
        if way(python) and works(python, "import pip"):
            say(f"pip came {way.__name__.replace('_', ' ')}")
            return
    raise CannotBootstrap(
        "this python has neither ensurepip nor pip, and no package index is configured from which pip could be "
        "fetched\nfix: apt-get install python3-venv   (as root; or set PIP_INDEX_URL)"
    )


def by_ensurepip(python: Path) -> bool:
    return bool(importlib.util.find_spec("ensurepip")) and run(str(python), "-m", "ensurepip", "--default-pip")


def by_host_pip(python: Path) -> bool:
    """pip >= 22.3 can work on another environment: https://pip.pypa.io/en/stable/cli/pip/#cmdoption-python"""
    return bool(importlib.util.find_spec("pip")) and run(
        sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "pip"
    )


def by_wheel_at_hand(python: Path) -> bool:
    folders = [DEBIAN_WHEELS, *(Path(link) for link in setting("find-links") if Path(link).is_dir())]
    wheels = [wheel for folder in folders for wheel in folder.glob("pip-*-py3-none-any.whl")]
    return bool(wheels) and install_wheel(python, max(wheels, key=lambda wheel: version_of(wheel.name)))


def by_configured_index(python: Path) -> bool:
    for index in [*setting("index-url"), *setting("extra-index-url")]:
        try:
            with tempfile.TemporaryDirectory() as folder:
                wheel = fetch_pip(index, Path(folder))
                if wheel and install_wheel(python, wheel):
                    return True
        except OSError as error:
            say(f"no pip from a configured index: {error}")
    return False


def by_uv(python: Path) -> bool:
    uv = shutil.which("uv")
    return bool(uv) and run(str(uv), "pip", "install", "--quiet", "--python", str(python), "pip")


def by_apt(python: Path) -> bool:
    """Debian's own pip wheel: apt-get fetches and verifies it, and neither step needs root."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return False
    with tempfile.TemporaryDirectory() as folder:
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            Path(folder).chmod(0o755)
            run("apt-get", "update", "-qq")  # a fresh container has no package lists
        if not run("apt-get", "download", "-qq", "python3-pip-whl", cwd=folder):
            return False
        for package in Path(folder).glob("*.deb"):
            run("dpkg-deb", "-x", str(package), folder)
        return any(install_wheel(python, wheel) for wheel in Path(folder).rglob("pip-*.whl"))


def install_wheel(python: Path, wheel: Path) -> bool:
    """A wheel is a zip that python can run from, pip's own too."""
    pip = f"{wheel}/pip"
    return run(str(python), pip, "install", "--quiet", "--no-index", "--disable-pip-version-check", str(wheel))


def fetch_pip(index: str, folder: Path) -> Path | None:
    """The newest release of pip on an index (https://packaging.python.org/en/latest/specifications/simple-repository-api/)."""
    page = index.rstrip("/") + "/pip/"
    if page.startswith("file:") and not page.endswith("index.html"):
        page += "index.html"
    links = Links()
    links.feed(read(page).decode())
    wheels = {link for link in links.found if re.search(r"/?pip-[\d.]+-py3-none-any\.whl(#|$)", link)}
    if not wheels:
        return None
    link = urllib.parse.urljoin(page, max(wheels, key=version_of))
    address, _, fragment = link.partition("#")
    data = read(address)
    if fragment.startswith("sha256=") and hashlib.sha256(data).hexdigest() != fragment[len("sha256=") :]:
        raise CannotBootstrap(f"{address} does not have the hash that the index promises\nfix: try again")
    target = folder / urllib.parse.unquote(address.rsplit("/", 1)[1])
    target.write_bytes(data)
    return target


class Links(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


def read(address: str) -> bytes:
    """Proxies come from the environment by urllib itself, the CA from pip's `cert` setting."""
    certificates = [path for path in setting("cert") if Path(path).is_file()]
    context = ssl.create_default_context(cafile=certificates[0] if certificates else None)
    with urllib.request.urlopen(address, timeout=60, context=context) as answer:  # noqa: S310  the host says where
        return bytes(answer.read())


def version_of(name: str) -> tuple[int, ...]:
    match = re.search(r"pip-([\d.]+)-", name)
    return tuple(int(part) for part in match.group(1).split(".") if part) if match else ()


def setting(name: str) -> list[str]:
    """A setting of pip, from where pip reads it: https://pip.pypa.io/en/stable/topics/configuration/"""
    value = os.environ.get("PIP_" + name.upper().replace("-", "_"))
    for path in config_files() if value is None else []:
        parser = configparser.RawConfigParser()
        try:
            parser.read(path)
        except (configparser.Error, UnicodeDecodeError) as error:
            say(f"{path} cannot be read: {error}")
            continue
        for section in ("global", "install"):
            value = parser.get(section, name, fallback=value)
    return (value or "").split()


def config_files() -> list[Path]:
    if os.environ.get("PIP_CONFIG_FILE"):
        return [Path(os.environ["PIP_CONFIG_FILE"])]
    home = Path.home()
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    mac = home / "Library" / "Application Support" / "pip" / "pip.conf"
    return [Path("/etc/pip.conf"), home / ".pip" / "pip.conf", mac, config / "pip" / "pip.conf"]


# --- small parts ------------------------------------------------------------------------------------------------


def works(python: Path, code: str) -> bool:
    return python.exists() and run(str(python), "-c", code)


def run(*command: str, cwd: str | None = None) -> bool:
    """Quiet: that one way fails is no news while there is another."""
    return subprocess.run(command, cwd=cwd, check=False, capture_output=True).returncode == 0


def say(text: str) -> None:
    sys.stderr.write(f"bootstrap: {text}\n")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
