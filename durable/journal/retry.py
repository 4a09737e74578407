"""How long to wait before a function is tried again, and when to give up.

The delay before attempt n+1 is ``initial_delay * factor**(n-1)``, at most ``max_delay``, then moved at random by up to
``jitter`` of itself in either direction: without it, a thousand clients that failed together come back together. The random
part is drawn from a seed, and the moment of the next attempt is recorded with the failure, so that a replay waits no
longer than the first run would have.

A pure core: `next_delay_s` answers with a delay, or with None to give up.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from durable.errors import FunctionFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When a function that failed is tried again. Durations are given in seconds or as `timedelta`, and read in seconds.

    ``max_attempts`` counts the first attempt too; None means no bound. ``deadline`` bounds the time from the first attempt
    to the start of the last. ``no_retry`` lists exception types that are given to the workflow at once; one that comes out of a
    process as `FunctionFailed` is known by the names of its classes.

    >>> RetryPolicy(jitter=0).delays(4)
    [0.1, 0.2, 0.4, 0.8]
    """

    initial_delay: float = 0.1
    factor: float = 2.0
    max_delay: float = 60.0
    max_attempts: int | None = None
    jitter: float = 0.2
    deadline: float | None = None
    no_retry: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        for name in ("initial_delay", "max_delay", "deadline"):
            given = getattr(self, name)
            if isinstance(given, timedelta):
                object.__setattr__(self, name, given.total_seconds())
        checks = {
            "initial_delay must be above 0": self.initial_delay > 0,
            "factor must be at least 1": self.factor >= 1,
            "max_delay must be at least initial_delay": self.max_delay >= self.initial_delay,
            "max_attempts must be at least 1, or None": self.max_attempts is None or self.max_attempts >= 1,
            "jitter must be from 0 to 1": 0 <= self.jitter <= 1,
            "deadline must be above 0, or None": self.deadline is None or self.deadline > 0,
        }
        for message, holds in checks.items():
            if not holds:
                raise ValueError(f"RetryPolicy: {message}")
        if not isinstance(self.no_retry, tuple) or not all(isinstance(kind, type) for kind in self.no_retry):
            raise TypeError(f"RetryPolicy: no_retry is a tuple of exception types, not {self.no_retry!r}")

    if TYPE_CHECKING:  # for who checks types: more may be given than is read

        def __init__(
            self,
            *,
            initial_delay: float | timedelta = ...,
            factor: float = ...,
            max_delay: float | timedelta = ...,
            max_attempts: int | None = ...,
            jitter: float = ...,
            deadline: float | timedelta | None = ...,
            no_retry: tuple[type[BaseException], ...] = ...,
        ) -> None: ...

    def delay_s(self, failed_attempts: int, uniform: float = 0.5) -> float:
        """The delay after that many failures (1 is the first). ``uniform`` is a draw from [0, 1); 0.5 leaves jitter out."""
        exponent = min(failed_attempts - 1, 1_000)
        try:
            base = min(self.initial_delay * self.factor**exponent, self.max_delay)
        except OverflowError:
            base = self.max_delay
        return base * (1 + self.jitter * (2 * uniform - 1))

    def delays(self, n: int, seed: int | str = 0) -> list[float]:
        """The first ``n`` delays under a seed, for plots and tests."""
        draw = random.Random(seed)
        return [self.delay_s(failed, draw.random()) for failed in range(1, n + 1)]

    def next_delay_s(
        self, failed_attempts: int, elapsed_s: float, error: BaseException, seed: int | str
    ) -> float | None:
        """The delay before the next attempt, or None to give the error to the workflow."""
        names = getattr(error, "error_types", ()) if isinstance(error, FunctionFailed) else ()
        if isinstance(error, self.no_retry) or any(name in map(class_name, self.no_retry) for name in names):
            return None
        if self.max_attempts is not None and failed_attempts >= self.max_attempts:
            return None
        delay = self.delay_s(failed_attempts, random.Random(f"{seed}/{failed_attempts}").random())
        if self.deadline is not None and elapsed_s + delay > self.deadline:
            return None
        return delay

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from durable.notebook.tables import bundle

        return bundle(self)

    def _rows(self) -> Iterable[tuple[str, str]]:
        yield "attempts", "no bound" if self.max_attempts is None else str(self.max_attempts)
        yield "first delay", f"{self.initial_delay:g} s"
        yield "factor", f"{self.factor:g}"
        yield "longest delay", f"{self.max_delay:g} s"
        yield "jitter", f"± {self.jitter:.0%}"
        yield "deadline", "none" if self.deadline is None else f"{self.deadline:g} s"
        yield "not retried", ", ".join(kind.__name__ for kind in self.no_retry) or "none"


def class_name(kind: type[BaseException]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


NO_RETRY = RetryPolicy(max_attempts=1)
"""What a function without a policy has: one attempt, and its error goes to the workflow, as for any Python call."""
