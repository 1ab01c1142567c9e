"""python -m loader: the podrate command."""

import sys

from loader.cli import main

sys.exit(main())
