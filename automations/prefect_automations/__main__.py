"""The command: `python -m prefect_automations`, or `python -m automations.prefect_automations` inside a project."""

import sys

from .cli import main as main

if __name__ == "__main__":
    sys.exit(main())
