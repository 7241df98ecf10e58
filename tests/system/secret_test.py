#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""usage: secret_test.py BUILD [TEST...]

A secret sealed to PCR 17 opens in a later run of the same files, and not with another kernel or command line.
"""

from machine import COMMAND_LINE, MachineTest, TOP, main, vm


class Secret(MachineTest):
    def secret_of(self, machine, task):
        self.expect(self.run_machine(self.file(TOP + machine), "--task", task), 0)
        report = self.report()
        self.expect_attested(report)
        return report["vms"][0]["secret"].split(" ", 1)

    def test_opens_with_the_same_files_only(self):
        same = vm("alpha", "cloud-amd64")
        what, digest = self.secret_of(same, "seal")
        self.assertEqual(what, "sealed")
        self.assertEqual(self.secret_of(same, "unseal"), ["unsealed", digest])
        for other in (vm("alpha", "amd64"), vm("alpha", "cloud-amd64", command_line=COMMAND_LINE + " quiet")):
            what, why = self.secret_of(other, "unseal")
            self.assertEqual(what, "refused", why)
        self.assertEqual(self.secret_of(same, "unseal"), ["unsealed", digest])


if __name__ == "__main__":
    main()
