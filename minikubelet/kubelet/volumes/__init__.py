"""Volumes of pods: what is made on the host for them, and how it is taken away again."""
