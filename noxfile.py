"""Everything that is done to this project, by name: `nox --list`, `nox -s tests`, `nox -s book`.

Each session makes its own virtual environment below `.nox/` and keeps it for the next time. Only nox itself must be
there; the README's two commands bring it.
"""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import sys
import tarfile
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["tests", "lint", "book"]
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = False

ROOT = Path(__file__).parent
HTML = ROOT / "_build" / "html"
DIST = ROOT / "dist"
PYTHONS = ["3.11", "3.12", "3.13"]
LEVELDB_WHEELS_UP_TO = (3, 12)  # plyvel has no wheel for later Pythons
EVERYTHING = "cluster,cli,notebook,book"


@nox.session
def tests(session: nox.Session) -> None:
    """The whole suite on this Python; `-- ARGUMENTS` go to pytest."""
    run_tests(session)


@nox.session(name="tests-all", python=PYTHONS)
def tests_all(session: nox.Session) -> None:
    """The whole suite on every supported Python that this machine has."""
    run_tests(session)


@nox.session(python=PYTHONS)
def sweep(session: nox.Session) -> None:
    """Every shape of workflow, crashed at every journal write, with more hash seeds and settings than `tests` takes."""
    session.install("-e", ".[test]")
    suite = "tests/processes/test_crash_everywhere.py"
    session.run("python", "-m", "pytest", "-n", "2", "-ra", suite, env={"DURABLE_SWEEP": "1"})


def run_tests(session: nox.Session) -> None:
    session.install("-e", f".[test,{EVERYTHING}]")
    install_leveldb(session)
    # -ra names every skipped test with its reason
    session.run("python", "-m", "pytest", "-n", "2", "--dist", "loadgroup", "-ra", *session.posargs)


def install_leveldb(session: nox.Session) -> None:
    """From a wheel where there is one, else built against Debian's library; failing that, its tests skip and say so."""
    answer = session.run("python", "-c", "import sys; print(*sys.version_info[:2])", silent=True)
    version = tuple(int(part) for part in str(answer).split()[:2])
    if version > LEVELDB_WHEELS_UP_TO:
        header = Path("/usr/include/leveldb/db.h")
        if not header.exists() and shutil.which("apt-get") and os.geteuid() == 0:
            apt = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "libleveldb-dev", "g++"]
            session.run(*apt, external=True, success_codes=range(256), silent=True)
        if not header.exists():
            session.warn("no LevelDB here: plyvel has no wheel for this Python, and libleveldb-dev is not installed")
            return
    session.install("-e", ".[leveldb]", success_codes=range(256))


@nox.session
def lint(session: nox.Session) -> None:
    """Style and types."""
    session.install("-e", f".[lint,test,{EVERYTHING}]")
    session.run("ruff", "check", ".")
    session.run("mypy", "--strict")


@nox.session
def book(session: nox.Session) -> None:
    """Execute the demos that are out of date and build the book; any warning is an error."""
    build_book(session)


def build_book(session: nox.Session) -> None:
    session.install("-e", f".[{EVERYTHING}]")
    shutil.rmtree(HTML, ignore_errors=True)  # pages that no longer exist; results of demos are kept elsewhere
    session.run("jupyter-book", "build", ".", "-W", "-n", "--keep-going", "--all")
    session.log(f"the book: {(HTML / 'index.html').as_uri()}")
    session.log("`nox -s serve` serves it on loopback")


@nox.session
def demos(session: nox.Session) -> None:
    """Execute the demos that are out of date, without building; `-- 3 7` for some of them."""
    session.install("-e", f".[{EVERYTHING}]")
    session.run("python", "-m", "bookstitch", "execute", *session.posargs)


@nox.session
def site(session: nox.Session) -> None:
    """Look at the built book in a browser: requests, console, widths, contrast, widgets."""
    session.install("-e", f".[test,{EVERYTHING}]")
    session.run("python", "-m", "pytest", "-ra", "tests/book/test_browser.py", "-k", "real", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure all that the page of measures shows, and draw it; `-- --workloads W1,W11` only some of it.

    This is `python -m bench`, which lives in tests/bench; `-- --help` says what else it takes. Result files and figures are written
    into .bench/, or beside the file that `-- --out FILE` names. Nothing here writes the page: `python -m bench.page` does.
    """
    session.install("-e", f".[bench,{EVERYTHING}]")
    session.run("python", "-m", "bench", *session.posargs, env={"PYTHONPATH": str(ROOT / "tests")})


@nox.session
def simulate(session: nox.Session) -> None:
    """Play seeds of a simulated cluster under faults; `-- --minutes 10`, `-- --first 42 --seeds 1 --trace`."""
    session.install("-e", ".[cluster]")
    session.run("python", "-m", "durable.sim", *session.posargs)


@nox.session
def chaos(session: nox.Session) -> None:
    """Real processes under faults, then judged, for over half an hour; `-- --rounds 20 --minutes 2` is a short look.

    Their stores are RocksDB's; `-- --store leveldb` and `-- --store mixed` (both engines in one cluster) do the same with LevelDB.
    `-- --seed 7` takes other faults. `-- --control` is a short test of the harness itself: with the epoch check switched off in
    the nodes it must find contradictions, and with it none.
    """
    session.install("-e", f".[test,{EVERYTHING}]")
    install_leveldb(session)
    session.run("python", "-m", "chaos", *session.posargs, env={"PYTHONPATH": str(ROOT / "tests")})


@nox.session(venv_backend="none")
def serve(session: nox.Session) -> None:
    """Serve the built book on loopback, on a free port, until Ctrl-C."""
    require_book(session)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(HTML))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        sys.stdout.write(f"http://127.0.0.1:{server.server_port}/  (Ctrl-C ends it)\n")
        sys.stdout.flush()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            session.log("stopped")


@nox.session
def publish(session: nox.Session) -> None:
    """Build, then put the site into dist/: one folder and one archive, ready for any static host."""
    build_book(session)
    folder, archive = DIST / "durable-book", DIST / "durable-book.tar.gz"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(HTML, folder, ignore=shutil.ignore_patterns(".buildinfo", "_sources", "reports"))
    (folder / ".nojekyll").touch()  # or GitHub Pages leaves out every folder whose name begins with an underscore
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)
    session.log(f"{folder.relative_to(ROOT)}/ and {archive.relative_to(ROOT)}")


def require_book(session: nox.Session) -> None:
    if not (HTML / "index.html").exists():
        session.error("there is no book yet: nox -s book")
