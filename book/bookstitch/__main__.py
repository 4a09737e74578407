"""`python -m bookstitch execute | check`: the demos without the book.

    python -m bookstitch execute           # run what is out of date; the next build uses the results
    python -m bookstitch execute 3 7       # only these numbers
    python -m bookstitch check             # notebooks and markers, nothing is executed

Both read `_config.yml` in the present folder, or in `--root`. The status is 0, or 1 with a line for every problem.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bookstitch.demos import discover
from bookstitch.problems import BookError
from bookstitch.settings import Settings


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run it."""
    parser = argparse.ArgumentParser(prog="python -m bookstitch", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path(), help="the folder of _config.yml")
    commands = parser.add_subparsers(dest="command", required=True)
    execute = commands.add_parser("execute", help="run the notebooks that are out of date")
    execute.add_argument("numbers", type=int, nargs="*", help="only these demos")
    commands.add_parser("check", help="check notebooks and markers without running anything")
    options = parser.parse_args(arguments)
    try:
        settings = Settings.from_yaml(options.root)
        if options.command == "execute":
            return run_execute(settings, options.numbers)
        return run_check(settings)
    except BookError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def run_execute(settings: Settings, numbers: list[int]) -> int:
    """Execute all demos, or those named."""
    from bookstitch.execute import execute, results

    found = results(settings, discover(settings))
    if unknown := [n for n in numbers if n not in found]:
        raise BookError(f"there is no demo {n} in {settings.name(settings.notebooks)}" for n in unknown)
    wanted = [found[n] for n in numbers] if numbers else list(found.values())
    ran = execute(settings, wanted)
    sys.stdout.write(f"{ran} of {len(wanted)} notebooks executed, the others are up to date\n")
    return 0


def run_check(settings: Settings) -> int:
    """Check, and say how it went."""
    from bookstitch.check import check

    if problems := check(settings):
        raise BookError(problems)
    sys.stdout.write("notebooks and markers are in order\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
