"""Chapter 2: what an author writes, and the pure machine that runs it.

In reading order: `definition` (``@workflow``, ``@function``), `context` (what an author calls), `operation` (what a call
returns), `loop` (asyncio without a world), `machine` (completions in, commands out), `saga`, `lint`.
"""
