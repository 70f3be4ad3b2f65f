"""``python -m minikubelet.cli``."""

import sys

from minikubelet.cli.main import main

sys.exit(main())
