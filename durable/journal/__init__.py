"""Chapter 2, pure: the journal, and what is decided from it.

In reading order: `entries` (what a journal is made of), `codec` and `failures` (values and exceptions as bytes), `keys` (every
key in the store), `journal` (rows put together for a reader), `replay` (the table), `retry`, `timers`.
"""
