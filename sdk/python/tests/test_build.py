"""The build command, with a builder that is none."""

import contextlib
import importlib.util
import io
import os
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from keyrail.__main__ import main

# It takes componentize-py's arguments, loads the app as that does, and fails in its words.
_BUILDER = """
import sys, traceback

def script():
    given = dict(zip(sys.argv[1:], sys.argv[2:]))
    folders = [value for name, value in zip(sys.argv, sys.argv[1:]) if name == "--python-path"]
    assert given["--world"] == "handler" and given["--wit-path"].endswith("wit"), given
    sys.path[:0] = folders
    types = type(sys)("keyrail._guest")
    types.prepare, types.guest_of = (lambda: None), (lambda module: module.__name__)
    import keyrail
    sys.modules["keyrail._guest"] = keyrail._guest = types
    try:
        guest = __import__(given["componentize"]).Guest
    except Exception:
        trace = traceback.format_exc()
        sys.exit(f"Traceback:\\nAssertionError: {trace}\\n\\nCaused by:\\n    much more")
    with open(given["--output"], "w") as out:
        out.write(guest)
"""


class Build(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        builder = self.folder / "builder"
        builder.mkdir()
        (builder / "componentize_py.py").write_text(_BUILDER)
        path = os.pathsep.join([str(builder), os.environ.get("PYTHONPATH", "")])
        for patch in (
            mock.patch.dict(os.environ, PYTHONPATH=path),
            mock.patch.object(importlib.util, "find_spec", return_value=object()),
        ):
            patch.start()
            self.addCleanup(patch.stop)

    def refused(self, name: str) -> str:
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            self.assertEqual(main(["build", str(self.folder / name)]), 1)
        return said.getvalue()

    def test_it_writes_the_file_and_nothing_else(self) -> None:
        (self.folder / "handler.py").write_text("import keyrail\n")
        output = self.folder / "plugins" / "h.wasm"
        self.assertEqual(main(["build", str(self.folder / "handler.py"), "-o", str(output)]), 0)
        self.assertEqual(output.read_text(), "handler")
        self.assertEqual([path.name for path in output.parent.iterdir()], ["h.wasm"])
        left = sorted(path.name for path in self.folder.iterdir())
        self.assertEqual(left, ["builder", "handler.py", "plugins"])

    def test_a_module_may_import_from_folders_that_are_named(self) -> None:
        (self.folder / "more").mkdir()
        (self.folder / "more" / "orders.py").touch()
        (self.folder / "handler.py").write_text("import orders\n")
        output = str(self.folder / "handler.wasm")
        arguments = ["build", str(self.folder / "handler.py"), "-o", output]
        self.assertEqual(main([*arguments, "-p", str(self.folder / "more")]), 0)

    def test_what_a_module_fails_with_is_told_as_python_does(self) -> None:
        (self.folder / "handler.py").write_text("import keyrail\nimport nosuch\n")
        said = self.refused("handler.py")
        self.assertIn("handler.py cannot be built:\nTraceback (most recent call last):\n", said)
        self.assertTrue(said.endswith("\nModuleNotFoundError: No module named 'nosuch'\n"), said)
        self.assertNotIn("Caused by", said)

    def test_a_module_must_be_there_and_have_a_name_to_import(self) -> None:
        self.assertIn("none.py: no such file", self.refused("none.py"))
        (self.folder / "my-handler.py").touch()
        self.assertIn(
            "'my-handler' is no name that Python can import", self.refused("my-handler.py")
        )

    def test_it_says_what_to_install(self) -> None:
        (self.folder / "handler.py").touch()
        with mock.patch.object(importlib.util, "find_spec", return_value=None):
            self.assertIn("pip install 'keyrail[build]'", self.refused("handler.py"))


if __name__ == "__main__":
    unittest.main()
