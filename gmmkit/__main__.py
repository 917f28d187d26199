"""The command line as ``python -m gmmkit``."""

import sys

from gmmkit.cli import main

sys.exit(main())
