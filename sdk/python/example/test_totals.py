import unittest

from totals import handle

import keyrail
from keyrail.testing import Host


class Totals(unittest.TestCase):
    def setUp(self) -> None:
        self.host = Host(handle, outputs=["totals"])

    def test_amounts_of_a_customer_add_up(self) -> None:
        (sent,) = self.host.run("7", key="ann").sent
        self.assertEqual((sent.key, sent.value), (b"ann", b"7"))
        self.assertIs(self.host.run("1", key="bob").outcome, keyrail.DONE)
        self.assertEqual(self.host.run("-2", key="ann").sent[0].value, b"5")

    def test_what_is_no_number_is_a_dead_letter_and_changes_nothing(self) -> None:
        self.host.run("5", key="ann")
        for value in ("many", "", None):
            run = self.host.run(value, key="ann")
            self.assertIsInstance(run.failure, keyrail.DeadLetter)
            self.assertEqual(run.failure.code if run.failure else "", "no-number")
            self.assertEqual(run.sent, ())
        self.assertEqual(self.host.state("ann", "total"), b"5")


if __name__ == "__main__":
    unittest.main()
