"""Which options there are, and what may be written behind them.

A misspelt option would do nothing, and a value of another kind would fail far from its line; so both are said at once, before
anything else is done.
Read next: `settings`.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

DEFAULTS: dict[str, Any] = {
    "notebooks": "demos",
    "timeout": 60.0,
    "workers": 0,
    "parameters": {},
    "sources": [],
    "allow_unused": False,
    "web": "",
}


def unknown(options: Iterable[str]) -> Iterator[str]:
    """A complaint for every option that does not exist: misspelt, it would do nothing, in silence."""
    for name in options:
        if name not in DEFAULTS:
            near = difflib.get_close_matches(name, DEFAULTS, 1)
            yield f"{name}: there is no such option" + "".join(f"; did you mean bookstitch_{found}?" for found in near)


def mistyped(options: Mapping[str, Any]) -> Iterator[str]:
    """A complaint for every option whose value cannot be meant."""
    for name, (words, fits) in KINDS.items():
        if name in options and not fits(options[name]):
            yield f"{name}: {options[name]!r} is not {words}"


def is_texts(value: Any) -> bool:
    """One path, or several."""
    return is_text(value) or (isinstance(value, list | tuple) and all(map(is_text, value)))


def is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_parameters(value: Any) -> bool:
    """Names and what they stand for; a nested mapping may have other keys, if they can be told apart as JSON."""
    try:
        json.dumps(value, sort_keys=True, default=str)
    except (TypeError, ValueError):
        return False
    return isinstance(value, dict) and all(isinstance(key, str) and key.isidentifier() for key in value)


KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "notebooks": ("the name of a folder", is_text),
    "timeout": ("a number of seconds above 0", lambda value: is_number(value) and value > 0),
    "workers": ("a whole number from 0", lambda value: isinstance(value, int) and is_number(value) and value >= 0),
    "parameters": ("a mapping from variables' names", is_parameters),
    "sources": ("a list of folders and files", is_texts),
    "allow_unused": ("true or false", lambda value: isinstance(value, bool)),
    "web": ("the name of a folder", lambda value: isinstance(value, str)),
}
