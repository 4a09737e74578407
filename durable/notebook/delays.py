"""The delays between attempts, beside the policy that gives them.

The band is what the policy allows; each dot is a delay that it gave under a seed; a ring is a delay that a journal recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from durable.journal.entries import JournalEntry
from durable.journal.retry import RetryPolicy
from durable.notebook.figure import Figure, esc, html_table, svg, tag, text, text_table

SHOWN_MAX = 12
WIDTH, HEIGHT = 370, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 6, 16, 40


def retry_delays(
    policy: RetryPolicy,
    seeds: Iterable[int | str] = (),
    recorded: Sequence[JournalEntry] = (),
    n: int | None = None,
) -> Figure:
    """The first ``n`` delays of a policy: the band that it allows, those of some seeds, and those that a journal has.

    ``n`` is by default as many as there are before the policy gives up, at most 8.
    """
    bound = 8 if policy.max_attempts is None else policy.max_attempts - 1
    kept = [[(a.next_at_ms - (a.failed_at_ms or a.started_at_ms)) / 1000 for a in entry.attempts] for entry in recorded]
    kept = [waits for waits in kept if waits]
    shown = min(n or min(bound, 8), SHOWN_MAX) or 1
    chosen = list(seeds)
    drawn = {str(seed): policy.delays(shown, seed) for seed in chosen}
    rows = [[name, value] for name, value in policy._rows()]
    table = html_table([], [[tag("span", esc(name), class_="durable-muted"), esc(value)] for name, value in rows])
    plot = _plot(policy, shown, list(drawn.values()), kept)
    note = f"{shown} waits" + (f", {len(chosen)} seeds" if chosen else "")
    note += f", {len(kept)} recorded" if kept else ""
    body = tag("div", tag("div", plot, class_="durable-grow") + tag("div", table), class_="durable-side")
    middle = RetryPolicy.delays(_plain(policy), shown)
    head = ["wait", "allowed", *[f"seed {seed}" for seed in chosen], *(["recorded"] * len(kept))]
    lines = []
    for index in range(shown):
        low, high = middle[index] * (1 - policy.jitter), middle[index] * (1 + policy.jitter)
        given = [f"{waits[index]:.2f}" for waits in drawn.values()]
        lines.append([str(index + 1), f"{low:.2f} to {high:.2f} s", *given, *_column(kept, index)])
    return Figure(body, "\n".join([text_table([], rows), "", note, text_table(head, lines)]))


def _column(kept: Sequence[Sequence[float]], index: int) -> list[str]:
    return [f"{waits[index]:.2f}" if index < len(waits) else "" for waits in kept]


def _plain(policy: RetryPolicy) -> RetryPolicy:
    return RetryPolicy(initial_delay=policy.initial_delay, factor=policy.factor, max_delay=policy.max_delay, jitter=0.0)


def _plot(policy: RetryPolicy, shown: int, drawn: Sequence[Sequence[float]], kept: Sequence[Sequence[float]]) -> str:
    middle = _plain(policy).delays(shown)
    top_s = max(value * (1 + policy.jitter) for value in middle)
    top_s = max([top_s, *(value for waits in kept for value in waits[:shown])])
    step = (WIDTH - LEFT - RIGHT) / shown

    def x(index: float) -> float:
        return round(LEFT + step * (index + 0.5), 1)

    def y(value_s: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - value_s / top_s), 1)

    parts = [_axes(top_s, y)]
    for index, value in enumerate(middle):
        low, high = y(value * (1 - policy.jitter)), y(value * (1 + policy.jitter))
        wide = min(step * 0.62, 44)
        tall = max(low - high, 1.5)
        parts.append(tag("rect", x=x(index) - wide / 2, y=high, width=wide, height=tall, rx=3, class_="durable-wait"))
        parts.append(text(x(index), HEIGHT - BOTTOM + 16, index + 1, class_="durable-small", text_anchor="middle"))
        for number, waits in enumerate(drawn):
            at = x(index) + (number - (len(drawn) - 1) / 2) * min(wide / max(len(drawn), 1), 7)
            parts.append(tag("circle", cx=round(at, 1), cy=y(waits[index]), r=2.6, class_="durable-run"))
        for waits in kept:
            if index < len(waits):
                parts.append(tag("circle", cx=x(index), cy=y(waits[index]), r=6, class_="durable-line"))
    if policy.max_delay <= top_s:
        at = y(policy.max_delay)
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="durable-deadline"))
        parts.append(text(LEFT + 4, at - 5, f"longest delay {policy.max_delay:g} s, before jitter", class_="durable-small"))
    parts.append(
        text(
            (LEFT + WIDTH) / 2,
            HEIGHT - 6,
            "wait after failed attempt",
            class_="durable-small",
            text_anchor="middle",
        )
    )
    picture = svg(
        "".join(parts),
        "delays between attempts",
        HEIGHT,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        style="height:auto;max-width:100%",
    )
    return picture + _key(policy, bool(drawn), bool(kept))


def _axes(top_s: float, y: object) -> str:
    assert callable(y)
    power = 10.0 ** (len(f"{top_s:.9f}".partition(".")[0]) - 1)
    while power > top_s:
        power /= 10
    step = next(size for size in (power / 5, power / 2, power, 2 * power, 5 * power) if top_s / size <= 5)
    parts = [tag("line", x1=LEFT, x2=LEFT, y1=TOP, y2=HEIGHT - BOTTOM, class_="durable-axis")]
    for index in range(int(top_s / step) + 1):
        at = y(index * step)
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="durable-grid"))
        parts.append(text(LEFT - 7, at + 4, f"{index * step:g} s", class_="durable-small", text_anchor="end"))
    return "".join(parts)


def _key(policy: RetryPolicy, seeds: bool, kept: bool) -> str:
    shapes = [("what the policy allows", tag("rect", x=1, y=1, width=24, height=10, rx=3, class_="durable-wait"))]
    if seeds:
        shapes.append(("delays under a seed", tag("circle", cx=13, cy=6, r=2.6, class_="durable-run")))
    if kept:
        shapes.append(("delays in the journal", tag("circle", cx=13, cy=6, r=5, class_="durable-line")))
    items = (f"<span>{tag('svg', shape, class_='durable-svg', width=26, height=12)}{esc(words)}</span>" for words, shape in shapes)
    return tag("div", "".join(items), class_="durable-legend")
