"""What nox offers says what can be given to it."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def words_of(session: str) -> str:
    tree = ast.parse((ROOT / "noxfile.py").read_text("utf8"))
    (found,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == session)
    return ast.get_docstring(found) or ""


def test_the_chaos_session_names_what_can_be_given_to_it() -> None:
    asked = [sys.executable, "-m", "chaos", "--help"]
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    said = subprocess.run(asked, cwd=ROOT / "tests", env=here, capture_output=True, text=True, check=True).stdout
    usage = said[: said.index("\n\n")]
    options = set(re.findall(r"--\w+", usage))
    (stores,) = re.findall(r"--store {(.*?)}", usage)
    assert {"--store", "--control", "--minutes"} <= options
    for word in (*sorted(options), *stores.split(",")):
        assert word in words_of("chaos").lower(), word
