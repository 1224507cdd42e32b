"""Runs componentize-py over a handler and this package."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_APP = "keyrail_app"
# What componentize-py loads. All that a handler imports is loaded while it is built, and nothing is
# to be left beside it then.
_SOURCE = """\
import sys
sys.dont_write_bytecode = True
import keyrail._guest
keyrail._guest.prepare()
import {module}
Guest = keyrail._guest.guest_of({module})
"""


class BuildError(Exception):
    """Why there is no file, for people."""


def build(module: Path, output: Path, python_path: Sequence[Path] = ()) -> None:
    """Builds the handler in the file ``module`` into the WebAssembly file ``output``."""
    if not module.is_file():
        raise BuildError(f"{module}: no such file")
    if not module.stem.isidentifier():
        raise BuildError(f"{module}: {module.stem!r} is no name that Python can import")
    if importlib.util.find_spec("componentize_py") is None:
        raise BuildError("componentize-py is not installed: pip install 'keyrail[build]'")
    folders = [module.resolve().parent, *(folder.resolve() for folder in python_path)]
    with tempfile.TemporaryDirectory(prefix="keyrail-") as made:
        # A folder with nothing but this package, since the one it lies in may hold a great deal.
        # A link would not do: the build sees nothing outside of the folders it is given.
        shutil.copytree(
            _PACKAGE, Path(made, "keyrail"), ignore=shutil.ignore_patterns("__pycache__")
        )
        Path(made, f"{_APP}.py").write_text(_SOURCE.format(module=module.stem), encoding="utf-8")
        part = Path(made, "part.wasm")
        command = [sys.executable, "-c", "import componentize_py; componentize_py.script()"]
        command += ["--wit-path", str(_PACKAGE / "wit"), "--world", "handler", "--quiet"]
        command += ["componentize", _APP, "--output", str(part)]
        # Of this Python, which need not be the one that componentize-py would find.
        packages = {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}
        folders += [folder for folder in sorted(packages) if folder.is_dir()]
        for folder in [Path(made), *folders]:
            command += ["--python-path", str(folder)]
        environment = {**os.environ, "RUST_BACKTRACE": "0"}
        ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if ran.returncode != 0 or not part.is_file():
            raise BuildError(f"{module} cannot be built:\n{_words(ran.stderr or ran.stdout)}")
        output.parent.mkdir(parents=True, exist_ok=True)
        # Renamed into place: a running Keyrail sees the old file or the whole new one.
        beside = output.with_name(output.name + ".part")
        beside.write_bytes(part.read_bytes())
        beside.replace(output)


def _words(output: str) -> str:
    """The handler's own traceback, if that is what componentize-py tells of."""
    own = output.rpartition("AssertionError: ")[2].partition("\n\nCaused by:")[0]
    return own.strip()
