"""`python -m system`: the reference platform alone."""

from system.stack.command_line import main

if __name__ == "__main__":
    raise SystemExit(main())
