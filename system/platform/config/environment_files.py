"""Draws `.env.example` and `.env.required` from the table of variables (R0.18)."""

from __future__ import annotations

from system.platform.config.variables import LISTS, VARIABLES


def example() -> str:
    """Return the text of `.env.example`: every variable with its default and meaning."""
    lines = [
        "# Every variable, its default and meaning.",
        "# Generated: python -m system.platform.config example > .env.example",
        "",
    ]
    for variable in VARIABLES:
        default = variable.shown_default or (
            variable.default if isinstance(variable.default, str) else ""
        )
        if variable.secret and default:
            default = ""
        lines += [f"# {variable.meaning}", f"{variable.name}={default}", ""]
    return "\n".join(lines).rstrip() + "\n"


def required() -> str:
    """Return the text of `.env.required`: what production mode does not start without (R0.14)."""
    lines = [
        "# Production mode refuses to start without these.",
        "# Generated: python -m system.platform.config required > .env.required",
        "",
    ]
    lines += [
        f"{variable.name}="
        for variable in VARIABLES
        if (variable.secret and variable.name not in LISTS) or variable.required
    ]
    return "\n".join(lines) + "\n"
