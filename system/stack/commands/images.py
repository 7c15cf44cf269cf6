"""The images of the platform and the files of its compose project: images build, compose env."""

from __future__ import annotations

import argparse
import os
import sys

from system.stack.commands.words import DONE, FAILED, Commands, command, group

_IMAGES = """\
  python -m system images build              from distribution packages, without any registry
  python -m system images build --official   on the official images, which are pulled

Names of images hold a key of their content: what is there already is not built again.
"""
_COMPOSE = """\
  docker compose --env-file "$(python -m system compose env)" -f system/compose.yaml up --wait

gives https://localhost; the authority to trust lies in tls/ca.pem of the stack's state folder
(`python -m system compose ca` prints where).
"""


def add(commands: Commands) -> None:
    """Add these commands to the command line."""
    images = group(commands, "images", "the images of the platform", _IMAGES)
    build = command(
        images,
        "build",
        _build,
        "build what is missing",
        "Prints variable and name of each image for an env file on standard output.",
    )
    build.add_argument("--official", action="store_true", help="stand on the official images")
    build.add_argument("--load", action="store_true", help="the image of Locust, too")
    compose = group(commands, "compose", "what system/compose.yaml reads", _COMPOSE)
    env = command(
        compose,
        "env",
        _env,
        "write the env file and the files that are mounted",
        "Prints the env file's path. Secrets stay those of the first time. Images that\n"
        "`images build` has made are named in it; else compose.yaml's own names hold.",
    )
    env.add_argument("--https-port", type=int, default=443, help="of the edge on 127.0.0.1 (443)")
    env.add_argument("--http-port", type=int, default=80, help="of the edge on 127.0.0.1 (80)")
    command(
        compose,
        "check",
        _check,
        "have compose read the file with every profile",
        "Needs no engine and leaves nothing.",
    )
    command(compose, "ca", _ca, "print where the authority to trust is", "A PEM file.")


def _build(options: argparse.Namespace) -> int:
    from system.images.build import Images

    images = Images(official=options.official, say=_say)
    for variable, image in images.build(*(["load"] if options.load else [])).items():
        print(f"{variable}={image}")
    return DONE


def _env(options: argparse.Namespace) -> int:
    from system.images.build import Images
    from system.stack.compose import Project
    from system.stack.errors import StackError
    from system.stack.state import StateFolder

    try:
        images = Images().built()
    except StackError:  # without an engine, compose.yaml's own names hold
        images = {}
    ports = {"edge-https": options.https_port, "edge-http": options.http_port}
    print(Project(StateFolder(options.stack)).prepare(images=images, ports=ports))
    return DONE


def _check(_options: argparse.Namespace) -> int:
    import subprocess

    from system.stack.compose import PROFILES, Project
    from system.stack.state import StateFolder

    state = StateFolder(f"compose-check-{os.getpid()}")
    try:
        project = Project(state)
        project.prepare()
        for profiles in ((), *((name,) for name in PROFILES), PROFILES):
            answer = subprocess.run([*project.arguments(*profiles), "config", "-q"], check=False)
            if answer.returncode != 0:
                return FAILED
            print(f"good    compose.yaml, {', '.join(profiles) or 'no profile'}")
    finally:
        state.remove()
    return DONE


def _ca(options: argparse.Namespace) -> int:
    from system.stack.compose import Project
    from system.stack.state import StateFolder

    print(Project(StateFolder(options.stack)).ca)
    return DONE


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
