"""The blocks of Python on the SDK's page, run as they stand there."""

import re
import sys
import types
import unittest
from pathlib import Path

import keyrail
from keyrail.testing import Host, Refused


class Readme(unittest.TestCase):
    def test_its_blocks_work(self) -> None:
        page = Path(__file__).parents[1].joinpath("README.md").read_text(encoding="utf-8")
        blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
        self.assertEqual(len(blocks), 4)
        module = types.ModuleType("readme")
        sys.modules["readme"] = module
        self.addCleanup(sys.modules.pop, "readme")
        for block in blocks:
            exec(block, module.__dict__)  # noqa: S102
        module.test_it_sends_what_was_there_before()
        with self.assertRaisesRegex(Refused, "config.currency is not set"):
            Host(module.handle).run("red", key="k1")
        host = Host(module.handle, config={"currency": "EUR"})
        self.assertIs(host.run("", key="k1").outcome, keyrail.SKIP)
        host = Host(module.charge, outputs=["charged"])
        host.answer("POST", "https://api.example.com/charges", keyrail.Response(body="paid"))
        self.assertEqual([sent.value for sent in host.run("order").sent], [b"paid"])
        self.assertEqual(host.requests[0].body, b'{"order": "in/0/0"}')


if __name__ == "__main__":
    unittest.main()
