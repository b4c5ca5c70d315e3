"""`python -m runnable_otel`: the same as the command `runnable-otel`."""

import sys

from runnable_otel.cli import main

sys.exit(main())
