"""Chapter 6: who may commit. A log a partition, replicated to a majority, as a pure state machine."""
