"""Errors, atomic files, undo stack, clock, identifiers, configuration: stdlib only."""
