"""One module a command: ``parser()`` describes it, ``run(options)`` does it and returns the exit code.

``FAILURE``, where there is one, is the exit code of a failure; else it is 1.
"""
