"""Chapter 3: running the bodies of functions: on the event loop, in threads, in processes of their own.

In reading order: `runner` (attempts, timeouts, cancellation), `threads`, `processes`. What becomes of an answer is not decided
here: `durable.runtime.calls` does that.
"""
