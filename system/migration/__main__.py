"""`python -m system.migration`, which is `bin/migrate`."""

import sys

from system.migration.entrypoints.command_line import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
