#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""usage: tpms_test.py BUILD [TEST...]

VMs with several TPMs beside one with one: Debian's driver finds each at its window, each is the platform's
instance that the machine file gives, and all attest.
"""

import json
import re

from machine import MachineTest, TOP, main, vm


class Tpms(MachineTest):
    def further_tpms(self, name):
        """What the agent found at /dev/tpm1 and on: number and name of the attestation key."""
        console = (self.evidence / "consoles" / f"{name}.log").read_text(errors="replace")
        return re.findall(r"banyan-agent: tpm(\d+): IAK ([0-9a-f]+)", console)

    def iak(self, instance):
        names = self.data / f"banyan/platform/private/instances/{instance:03}.names"
        return json.loads(names.read_text())["iak"]

    def test_a_vm_has_as_many_as_its_file_says(self):
        file = self.file(TOP + vm("alpha", "cloud-amd64", tpms=3) + vm("beta", "cloud-amd64", tpms=2) + vm("gamma", "cloud-amd64"))
        self.expect(self.run_machine(file), 0)
        self.expect_attested(self.report())
        self.assertEqual(self.further_tpms("alpha"), [("1", self.iak(16)), ("2", self.iak(17))])
        self.assertEqual(self.further_tpms("beta"), [("1", self.iak(24))])
        self.assertEqual(self.further_tpms("gamma"), [])
        self.assertNotEqual(self.iak(16), self.iak(17))

    def test_a_platform_grows_with_the_machine(self):
        self.data = self.dir / "data"
        self.expect(self.run_machine(self.file(TOP + vm("alpha", "cloud-amd64"))), 0)
        first = self.iak(1)
        self.assertFalse((self.data / "banyan/platform/private/instances/016.names").exists())
        self.expect(self.run_machine(self.file(TOP + vm("alpha", "cloud-amd64", tpms=9))), 0)
        self.expect_attested(self.report())
        self.assertEqual(self.further_tpms("alpha"), [(str(n), self.iak(15 + n)) for n in range(1, 9)])
        self.assertEqual(self.iak(1), first)


if __name__ == "__main__":
    main()
