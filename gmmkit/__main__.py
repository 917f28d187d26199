"""The command line as ``python -m gmmkit``."""

import sys

from gmmkit.cli.main import main

sys.exit(main())
