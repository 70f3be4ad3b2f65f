"""Upstream's own code as the measure: its answers to thousands of inputs, recorded, and ours beside them."""
