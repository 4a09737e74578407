"""Chapter 3: everything that one can ask of an execution, and the face that asks it.

In reading order: `desk` (the questions, in bytes), `face` (the same with types: submit, list, export), `handle` (one execution,
seen from outside). Who answers is another room: `durable.runtime` on one node.
"""
