"""Sandboxes and containers: models, store, one verb a file, recovery, stats, events."""
