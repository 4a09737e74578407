"""The test of `promises`: outputs as they were printed once keep them, and with one word changed they do not."""

from __future__ import annotations

import pytest
from promises import PROMISES, blocks

OWNERS = """\
node    partitions
node-1          52
node-2          50
node-3          50
node-4          50
node-5          54
"""
ROUTED = f"""\
the ring says
{OWNERS}
the nodes say
{OWNERS}0 of 256 partitions have another owner
---
as the ring says: 60 of 60
---
order    handed to  the ring says  its owner  packed on
order-0  node-1     node-2         node-2     node-2
order-1  node-2     node-1         node-1     node-1
order-2  node-3     node-4         node-4     node-4
order-3  node-4     node-4         node-4     node-4
order-4  node-5     node-2         node-2     node-2
order-5  node-1     node-2         node-2     node-2
order-6  node-2     node-2         node-2     node-2
order-7  node-3     node-1         node-1     node-1
order-8  node-4     node-3         node-3     node-3
order-9  node-5     node-2         node-2     node-2
---
node    orders  by its share
node-1      10          12.2
node-2      16          11.7
node-3      14          11.7
node-4      11          11.7
node-5       9          12.7
---
nodes that tell the same about all sixty: 5
---
owners: node-5 and node-1
errand:     a teapot, packed on node-5
store room: served errand
"""
WITHOUT = """\
without node-3
node    partitions
node-1          64
node-2          65
node-4          60
node-5          67
50 of 256 partitions have another owner
"""
HEAD = "node    of the circle  keys"
RINGS = f"""\
before
{HEAD}
node-1          20.3%     1
node-3          19.5%     4

without node-3
{HEAD}
node-1          25.0%     5
4 of 12 keys move, to node-1 and node-2

back
{HEAD}
node-1          20.3%     1
node-3          19.5%     4
4 of 12 keys move, all to node-3
"""
DIED = "node-3  ALIVE (4), then SUSPECT (4), then DEAD (4)\nmark: node-3 is killed\n"
FAILED_OVER = f"""\
node-3 runs parcel-5, parcel-6, parcel-10, parcel-11
---
{DIED}---
parcel     epoch  later  packed on  weighed on  labelled on
parcel-1       2      2  node-1     node-1      node-1
parcel-2       1      1  node-4     node-4      node-4
parcel-3       1      1  node-2     node-2      node-2
parcel-4       1      1  node-5     node-5      node-5
parcel-5       1      2  node-3     node-1      node-1
parcel-6       1      2  node-3     node-2      node-2
parcel-7       1      1  node-5     node-5      node-5
parcel-8       1      1  node-4     node-4      node-4
parcel-9       1      1  node-2     node-2      node-2
parcel-10      1      2  node-3     node-1      node-1
parcel-11      1      2  node-3     node-2      node-2
parcel-12      1      1  node-4     node-4      node-4
---
{DIED}mark: node-3 restarts
---
{RINGS}---
before
{OWNERS}
{WITHOUT}
back
{OWNERS}50 of 256 partitions have another owner
---
zombie: node-1, heir: node-3, result: ['node-1', 'node-3', 'node-3']
---
node    had refused  has refused now
node-1            0                0
node-2            2                2
node-3            1                2
node-4            0                0
node-5            0                1
---
asked at  packed on  weighed on  labelled on
node-1    node-1     node-3      node-3
node-2    node-1     node-3      node-3
node-3    node-1     node-3      node-3
node-4    node-1     node-3      node-3
node-5    node-1     node-3      node-3
---
the epoch has only grown: True
the owner now: node-1
---
#  operation   with      gave          began    took
0  CALL pack   "a vase"  ✓ "node-1"        0  <10 ms
1  CALL weigh  "a vase"  ✓ "node-3"        0  0.81 s
2  CALL label  "a vase"  ✓ "node-3"  +0.82 s  <10 ms
"""
SHOWN = {"12-distributed-execution": ROUTED, "13-node-failure": FAILED_OVER}


def shown(words: str) -> list[str]:
    return [block.strip("\n") for block in words.split("---\n")]


@pytest.mark.parametrize("demo", PROMISES)
def test_what_was_printed_keeps_the_promises(demo: str) -> None:
    PROMISES[demo](shown(SHOWN[demo]))


BROKEN = {
    "another owner": ("12", "0 of 256 partitions", "1 of 256 partitions"),
    "an order elsewhere": ("12", "60 of 60", "59 of 60"),
    "another ring than the names give": ("12", "node-3     node-1         node-1     node-1", "node-3" + 3 * "  node-5"),
    "owned by one and run by another": ("12", "node-3         node-3     node-3", "node-3         node-3     node-4"),
    "handed to one node": ("12", "order-4  node-5", "order-4  node-1"),
    "a load that is not the ring's": ("12", "node-1      10 ", "node-1      11 "),
    "a node that tells another story": ("12", "all sixty: 5", "all sixty: 4"),
    "an errand that ran elsewhere": ("12", "packed on node-5", "packed on node-1"),
    "weighed by the dead": ("13", "parcel-6       1      2  node-3     node-2", "parcel-6       1      2  node-3     node-3"),
    "weighed without a copy": ("13", "parcel-10      1      2  node-3     node-1", "parcel-10      1      2  node-3     node-4"),
    "packed again": ("13", "parcel-11      1      2  node-3", "parcel-11      1      2  node-2"),
    "failed over in the same epoch": ("13", "parcel-5       1      2", "parcel-5       1      1"),
    "another one noticed it": ("13", "parcel-9       1      1", "parcel-9       1      2"),
    "never held dead": ("13", ", then DEAD (4)", ""),
    "not back": ("13", "mark: node-3 restarts", ""),
    "another ring than before": ("13", f"back\n{HEAD}\nnode-1          20.3%", f"back\n{HEAD}\nnode-1          25.0%"),
    "no third ring": ("13", "\nback\nnode    of the circle", "\nnode    of the circle"),
    "keys that went elsewhere": ("13", "all to node-3", "to node-1 and node-3"),
    "another result before": ("13", "'node-3', 'node-3']", "'node-1', 'node-3']"),
    "an heir that refuses nothing": ("13", "node-3            1                2", "node-3            1                1"),
    "a refusal that is missing": ("13", "node-5            0                1", "node-5            0                0"),
    "a zombie that refuses itself": ("13", "node-1            0                0", "node-1            0                1"),
    "another result after": ("13", "node-4    node-1     node-3", "node-4    node-1     node-1"),
    "an epoch that fell": ("13", "only grown: True", "only grown: False"),
    "an heir that keeps it": ("13", "the owner now: node-1", "the owner now: node-3"),
    "the zombie's answer in the journal": ("13", 'weigh  "a vase"  ✓ "node-3"', 'weigh  "a vase"  ✓ "node-1"'),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_a_promise_that_is_broken_is_seen(what: str) -> None:
    number, words, instead = BROKEN[what]
    [demo] = [demo for demo in PROMISES if demo.startswith(number)]
    assert words in SHOWN[demo]
    with pytest.raises((AssertionError, ValueError)):
        PROMISES[demo](shown(SHOWN[demo].replace(words, instead)))


def test_outputs_are_taken_as_words() -> None:
    def cell(*outputs: dict[str, object], kind: str = "code") -> dict[str, object]:
        return {"cell_type": kind, "outputs": list(outputs)}

    displayed = {"output_type": "display_data", "data": {"text/html": "<b>2</b>", "text/plain": ["2", "\n3"]}}
    printed = {"output_type": "stream", "name": "stdout", "text": "1\n"}
    assert blocks([cell(printed), cell(kind="markdown"), cell(displayed)]) == ["1\n", "2\n3"]
