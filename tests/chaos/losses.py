"""Two sorts of losses: what nothing can explain but broken safety, and what may also be a matter of time.

=================  ====================================================================================================
`Contradiction`    two results told for one execution; copies that committed different entries or have different rows; a
                   history that no order explains; a completed journal that disagrees with what bodies did
any other string   an end that did not come, an accepted execution that is not there, a copy that is missing
=================  ====================================================================================================

A run of chaos must have neither. Its control (`chaos.control`) counts contradictions only: whoever waits for a short time misses
completions also of a cluster in which all is well.

Read next: `chaos.judge`.
"""

from __future__ import annotations

from collections.abc import Iterable


class Contradiction(str):
    """A loss, in words, that no patience would have healed."""

    __slots__ = ()


def contradictions(losses: Iterable[str]) -> list[Contradiction]:
    """Those among ``losses``."""
    return [loss for loss in losses if isinstance(loss, Contradiction)]
