"""Prints a generated file: `python -m system.platform.config example|required` (R0.18)."""

from __future__ import annotations

import sys

from system.platform.config.environment_files import example, required


def main(arguments: list[str]) -> int:
    """Print one of the generated files."""
    texts = {"example": example, "required": required}
    if len(arguments) != 1 or arguments[0] not in texts:
        sys.stderr.write("usage: python -m system.platform.config example|required\n")
        return 2
    sys.stdout.write(texts[arguments[0]]())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
