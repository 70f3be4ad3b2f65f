"""One module a command: ``parser()`` describes it, ``run(options)`` does it and returns the exit code."""
