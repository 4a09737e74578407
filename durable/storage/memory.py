"""A store in memory: the reference, in which the whole contract can be read in one sitting.

Why it exists: it says what `durable.ports.Store` means without an engine in the way, it is what tests and
simulations run on, and the browser has no disk.

How it works: the keys are cut into *pages* of a few hundred, sorted, and an index holds the first key of each
page. To find a key is two binary searches, to insert one moves a few hundred pointers at most, and to scan is
to walk pages: each cost stays flat as the store grows to millions of keys. A snapshot takes the index and
leaves the pages where they are; from then on the first write to a page copies that page (*copy on write*), so
a snapshot costs nothing until something changes.

::

    index    b""          b"kiwi"            b"plum"
               |             |                  |
    pages    [apple, fig]  [kiwi, lime, ...]  [plum, quince]

Limits: nothing outlives the process, and ``sync`` only counts its calls. Reads on another thread are safe; a
scan of the live store there may see the first half of a batch and not the second, a snapshot never does.

Read next: `durable.storage.rocksdb`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from itertools import chain
from threading import Lock

from durable.errors import StoreClosed
from durable.ports import Batch
from durable.storage.ranges import is_empty, key_range

PAGE_KEYS_MAX = 512
"""A page that grows past this is cut in two. Between 128 and 2,048 the speed hardly changes."""


class _Page:
    """Neighbouring keys in order, and their values. ``version`` is the store's when the page was made."""

    __slots__ = ("keys", "values", "version")

    def __init__(self, keys: list[bytes], values: dict[bytes, bytes], version: int) -> None:
        self.keys = keys
        self.values = values
        self.version = version

    def part(self, low: int, high: int | None, version: int) -> _Page:
        keys = self.keys[low:high]
        return _Page(keys, {key: self.values[key] for key in keys}, version)


class _Pages:
    """The pages and the first key of each.

    Replaced as a whole when a page comes or goes: another thread holds the old index or the new one.
    """

    __slots__ = ("firsts", "pages")

    def __init__(self, firsts: list[bytes], pages: list[_Page]) -> None:
        self.firsts = firsts
        self.pages = pages

    def find(self, key: bytes) -> int:
        """Where the page of the key is. The first page begins at ``b""``, so there always is one."""
        return bisect_right(self.firsts, key) - 1

    def replaced(self, at: int, pages: list[_Page]) -> _Pages:
        firsts = self.firsts[:at] + [page.keys[0] for page in pages] + self.firsts[at + 1 :]
        firsts[0] = b""
        return _Pages(firsts, self.pages[:at] + pages + self.pages[at + 1 :])


class InMemoryStore:
    """An ordered key-value store in memory. Make one with `open`.

    ``syncs`` counts the calls of `sync`.

    >>> store = InMemoryStore.open()
    >>> store.write([(b"b", b"2"), (b"a", b"1"), (b"c", b"3"), (b"b", None)])
    >>> list(store.scan(b""))
    [(b'a', b'1'), (b'c', b'3')]
    >>> before = store.snapshot()
    >>> store.write([(b"a", b"changed")])
    >>> before.get(b"a"), store.get(b"a")
    (b'1', b'changed')
    """

    def __init__(self) -> None:
        self._index: _Pages | None = _Pages([b""], [_Page([], {}, 0)])
        self._version = 0
        self._changing = Lock()  # a snapshot taken on another thread must not fall into the middle of a batch
        self.syncs = 0

    @classmethod
    def open(cls) -> InMemoryStore:
        """A new, empty store."""
        return cls()

    def get(self, key: bytes) -> bytes | None:
        index = self._index or self._opened()
        return index.pages[bisect_right(index.firsts, key) - 1].values.get(key)

    def scan(
        self, prefix: bytes, *, start: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """As the port says. What is written meanwhile shows in it from the next page on."""
        self._opened()
        low, high = key_range(prefix, start, reverse)
        return self._walk_back(low, high) if reverse else self._walk(low, high)

    def write(self, batch: Batch) -> None:
        self._opened()
        for key, value in batch:  # checked first: a batch that cannot be applied whole is not begun
            if not isinstance(key, bytes) or not isinstance(value, bytes | None):
                raise TypeError(f"a store takes bytes, not {type(key).__name__}: {type(value).__name__}")
        with self._changing:
            for key, value in batch:
                if value is None:
                    self._delete(key)
                else:
                    self._put(key, value)

    def sync(self) -> None:
        """Count the call: memory is as stable as it will get."""
        self._opened()
        self.syncs += 1

    def snapshot(self) -> InMemorySnapshot:
        with self._changing:
            index = self._opened()
            self._version += 1  # every page is shared from here on, and is copied before it changes
            return InMemorySnapshot(_Pages(list(index.firsts), list(index.pages)))

    def close(self) -> None:
        """Forget everything."""
        self._index = None

    def _opened(self) -> _Pages:
        if self._index is None:
            raise StoreClosed("the store in memory was closed, and what it held is gone; open another one")
        return self._index

    def _put(self, key: bytes, value: bytes) -> None:
        at, page = self._own_page(key)
        if key in page.values:
            page.values[key] = value
            return
        page.values[key] = value  # before its key shows: a reader must find the value of each key it sees
        insort(page.keys, key)
        if len(page.keys) > PAGE_KEYS_MAX:
            half = PAGE_KEYS_MAX // 2
            halves = [page.part(0, half, self._version), page.part(half, None, self._version)]
            self._index = self._opened().replaced(at, halves)

    def _delete(self, key: bytes) -> None:
        index = self._opened()
        if key not in index.pages[index.find(key)].values:
            return
        at, page = self._own_page(key)
        del page.keys[bisect_left(page.keys, key)]
        del page.values[key]
        if not page.keys and len(index.pages) > 1:
            self._index = index.replaced(at, [])

    def _own_page(self, key: bytes) -> tuple[int, _Page]:
        """The page of the key, and where it is; copied first if a snapshot holds it too."""
        index = self._index or self._opened()
        at = bisect_right(index.firsts, key) - 1
        page = index.pages[at]
        if page.version != self._version:
            page = index.pages[at] = _Page(list(page.keys), dict(page.values), self._version)
        return at, page

    def _walk(self, low: bytes, high: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        while not is_empty(low, high):
            index = self._opened()  # again for each page: between two rows anything may have been written
            at = index.find(low)
            yield from _rows(index.pages[at], low, high)
            if at + 1 == len(index.firsts):
                return
            low = index.firsts[at + 1]

    def _walk_back(self, low: bytes, high: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        while not is_empty(low, high):
            index = self._opened()
            at = len(index.pages) - 1 if high is None else bisect_left(index.firsts, high) - 1
            yield from reversed(_rows(index.pages[max(at, 0)], low, high))
            if at <= 0:
                return
            high = index.firsts[at]


class InMemorySnapshot:
    """A store in memory as it was at one instant. Made by `InMemoryStore.snapshot`."""

    def __init__(self, pages: _Pages) -> None:
        self._pages: _Pages | None = pages

    def get(self, key: bytes) -> bytes | None:
        pages = self._opened()
        return pages.pages[pages.find(key)].values.get(key)

    def scan(
        self, prefix: bytes, *, start: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        pages = self._opened()
        low, high = key_range(prefix, start, reverse)
        if is_empty(low, high):
            return iter(())
        first = pages.find(low)
        last = len(pages.pages) if high is None else bisect_left(pages.firsts, high)
        run = pages.pages[first:last]
        if reverse:
            return chain.from_iterable(reversed(_rows(page, low, high)) for page in reversed(run))
        return chain.from_iterable(_rows(page, low, high) for page in run)

    def close(self) -> None:
        self._pages = None

    def _opened(self) -> _Pages:
        if self._pages is None:
            raise StoreClosed("this snapshot was closed; take another one")
        return self._pages


def _rows(page: _Page, low: bytes, high: bytes | None) -> list[tuple[bytes, bytes]]:
    """The rows of one page that are in the range: a copy, since the page may change while they are read."""
    keys = page.keys
    end = len(keys) if high is None else bisect_left(keys, high)
    values = page.values
    found = [(key, values.get(key)) for key in keys[bisect_left(keys, low) : end]]
    return [(key, value) for key, value in found if value is not None]  # None: deleted meanwhile
