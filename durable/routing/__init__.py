"""Chapter 5: where a key lives. Read `ring` first, then `partitions`. Pure: nothing here waits, sends or
remembers.
"""
