"""Chapter 5: where a key lives. Read `ring` first, then `partitions`, `placement` and `router`. Pure: nothing here waits or sends.
"""
