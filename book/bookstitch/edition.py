"""Which book is this? The commit, the date and the versions of a build, as a directive.

A page that says "captured from actual execution" must say of what. In MyST:

    ```{edition}
    :packages: durable msgspec papermill
    ```

prints a short list. The date is the day of the build in UTC, or that of `SOURCE_DATE_EPOCH`, so that a reproducible
build stays one. `extension` reads the page again when anything of it has changed.
Limit: outside a git checkout there is no commit, and it says so.
Read next: `check`.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

from bookstitch.problems import BookError
from bookstitch.render import Page

PACKAGES = ("jupyter-book", "myst-nb", "papermill", "ipykernel")


class Edition(SphinxDirective):
    """The `edition` directive: a field list of commit, date and versions."""

    option_spec: ClassVar[dict[str, Any] | None] = {"packages": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir)
        page: Page = self.env.bookstitch.setdefault(self.env.docname, Page())  # type: ignore[attr-defined]
        packages = tuple(self.options.get("packages", " ".join(PACKAGES)).split())
        page.editions.append((packages, edition_text(root, packages)))
        rows = [
            nodes.field("", nodes.field_name("", name), nodes.field_body("", nodes.paragraph("", value)))
            for name, value in edition(root, packages)
        ]
        return [nodes.field_list("", *rows, classes=["edition"])]


def edition(root: Path, packages: Iterable[str]) -> list[tuple[str, str]]:
    """What the list says, by name."""
    fixed = [("Commit", commit(root)), ("Built on", day()), ("Python", platform.python_version())]
    return fixed + [(name, version(name)) for name in packages]


def edition_text(root: Path, packages: Iterable[str]) -> str:
    """What changes from build to build."""
    return " ".join(value for _, value in edition(root, packages))


@cache
def commit(root: Path) -> str:
    """The commit that was built, and whether the files were as committed."""
    try:
        found = git(root, "rev-parse", "HEAD")
        changed = git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown (not built from a git checkout)"
    return found[:12] + (" with uncommitted changes" if changed else "")


def git(root: Path, *arguments: str) -> str:
    """The output of a git command in the book's folder."""
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def day() -> str:
    """The day of this build, in UTC. Raises BookError for a `SOURCE_DATE_EPOCH` that is no time."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        moment = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise BookError([f"SOURCE_DATE_EPOCH={epoch}: is no number of seconds since 1970"]) from error
    return moment.strftime("%Y-%m-%d")


def version(package: str) -> str:
    """The installed version of a package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
