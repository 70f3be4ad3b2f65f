"""Container images that the tests build themselves: no registry and no network is needed.

- `build`: layers, images and indexes as bytes.
- `layout`: OCI layout directories and tars, docker archives.
- `catalog`: the images that tests and benchmarks use.
"""
