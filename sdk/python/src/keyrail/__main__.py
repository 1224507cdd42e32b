"""``python -m keyrail build handler.py`` makes a handler a WebAssembly file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import __version__
from ._build import BuildError, build


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m keyrail", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = commands.add_parser("build", help="build a handler for the plugin folder")
    command.add_argument("module", type=Path, help="the file with the function @keyrail.handler")
    command.add_argument(
        "-o", "--output", type=Path, help="the file to write (default: MODULE.wasm here)"
    )
    command.add_argument(
        "-p",
        "--python-path",
        type=Path,
        action="append",
        default=[],
        help="another folder to import from; may be repeated. The module's own and this Python's "
        "packages are known",
    )
    given = parser.parse_args(arguments)
    output = given.output or Path(given.module.stem + ".wasm")
    try:
        build(given.module, output, given.python_path)
    except BuildError as error:
        print(f"keyrail: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
