"""Every workflow of the demonstrations, crashed before and after every journal write, resumed in another process.

What `test_crash_everywhere` does with its corpus of shapes is done here with what the notebooks define, as they define it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from resumed import assert_all_alike, crash_and_resume
from scenes import NOTEBOOKS, SCENES, Staged, staged, take_out, uncovered

from durable.testing import crash_everywhere
from durable.workflows.definition import REGISTRY

pytest.importorskip("cloudpickle", reason="two of the notebooks import `support`, which needs it (durable[notebook])")

NAMES = list(SCENES)
WRITTEN = "`workflow` is written 2 times, and 1 were found"
GROUPS = {"even": NAMES[::2], "odd": NAMES[1::2]}  # two, so that two cores share them


@pytest.fixture(autouse=True, scope="module")
def own_names() -> Iterator[None]:
    """Other tests have their ``order`` and ``pack``, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(REGISTRY, "workflows", dict(REGISTRY.workflows))
        patch.setattr(REGISTRY, "functions", dict(REGISTRY.functions))
        yield


@pytest.fixture(scope="module")
def stage(own_names: None, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Staged]:
    folder = tmp_path_factory.mktemp("demos")
    take_out(folder)
    return staged(folder)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_workflow_of_a_notebook_is_left_out(notebook: Path, tmp_path: Path) -> None:
    assert uncovered(notebook, tmp_path) == []


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("@durable.workflow\nasync def newcomer(ctx: Context) -> None: ...", "'newcomer' has no scene"),
        ("if True:\n    @durable.workflow\n    async def newcomer(ctx: Context) -> None: ...", WRITTEN),
        ("newcomer = durable.workflow(count.body)", WRITTEN),
    ],
    ids=["at the top", "deep in a cell", "without a decorator"],
)
def test_a_new_workflow_asks_for_a_scene(cell: str, told: str, tmp_path: Path) -> None:
    [counter] = [path for path in NOTEBOOKS if path.stem == "04-durable-counter"]
    content = json.loads(counter.read_text("utf8"))
    content["cells"].append({"cell_type": "code", "source": [cell]})
    (notebook := tmp_path / counter.name).write_text(json.dumps(content), "utf8")
    [wanted] = uncovered(notebook, tmp_path)
    assert wanted.startswith(told)


@pytest.mark.parametrize("group", GROUPS)
def test_every_crash_ends_alike_in_another_process_with_another_hash_seed(group: str, tmp_path: Path) -> None:
    names = GROUPS[group]
    take_out(code := tmp_path / "code")
    finished = crash_and_resume(tmp_path, code, names, (sys.executable, 1), (sys.executable, 4_242))
    assert len(finished) > 4 * len(names)
    assert_all_alike(finished, names)


@pytest.mark.parametrize("name", NAMES)
def test_it_survives_even_a_process_that_crashes_over_and_over(name: str, stage: Mapping[str, Staged]) -> None:
    scene = stage[name]
    given = () if scene.input is None else (scene.input,)
    crash_everywhere(scene.workflow, *given, sends=scene.sends, reset=scene.enter, same=scene.same).check()


def test_an_order_that_the_hash_seed_decides_is_caught(tmp_path: Path) -> None:
    code, name = tmp_path / "code", "05 no problem"
    take_out(code, [path for path in NOTEBOOKS if path.stem == SCENES[name].demo])
    [saga] = code.iterdir()
    right = saga.read_text("utf8")
    saga.write_text(right.replace("for part in PARTS", "for part in set(PARTS)"), "utf8")
    assert saga.read_text("utf8") != right
    finished = crash_and_resume(tmp_path, code, [name], (sys.executable, 1), (sys.executable, 4_242))
    with pytest.raises(AssertionError, match="DIVERGED"):
        assert_all_alike(finished, [name])
