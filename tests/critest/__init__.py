"""critest, the CRI conformance suite of cri-tools, offline: `scripts/critest` and the host lane run it.

- `packages`: programs from Debian packages.
- `images`: substitutes for the images that the suite pulls, and the mirror that serves them.
- `suite`: one run of the suite and its JUnit report.
- `runtimes`: the runtime that the suite talks to.
- `expectations`: what this host can't do, with the reasons.
"""
