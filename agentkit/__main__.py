"""`python -m agentkit`."""

import os
import sys

import agentkit

# Python puts the current folder before everything else, which may be a stranger's: its html.py would run. Where that
# folder is this package's checkout it is still looked into, but last. What PYTHONPATH names stays as it is.
if not sys.flags.safe_path and sys.path[0] in ("", os.path.abspath(".")):
    del sys.path[0]
    if (checkout := os.path.dirname(os.path.abspath(agentkit.__path__[0]))) == os.path.abspath("."):
        sys.path.append(checkout)

from agentkit.cli import main

main()
