#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""usage: tpms_test.py BUILD [TEST...]

VMs with several TPMs beside one with one, which is a CRB: Debian's drivers find each at its window, each is the
platform's instance that the machine file gives and has the banks that it says, and all attest.
"""

import json
import re
import subprocess

from machine import BANYAN, MachineTest, TOP, main, vm


class Tpms(MachineTest):
    def further_tpms(self, name):
        """What the agent found at /dev/tpm1 and on: number and name of the attestation key."""
        console = (self.evidence / "consoles" / f"{name}.log").read_text(errors="replace")
        return re.findall(r"banyan-agent: tpm(\d+): tpm_tis, banks [a-z0-9 ]+, IAK ([0-9a-f]+)", console)

    def looks(self, name):
        """Driver and banks of each TPM, as Linux finds them."""
        console = (self.evidence / "consoles" / f"{name}.log").read_text(errors="replace")
        return [tuple(found) for found in re.findall(r"banyan-agent: tpm\d+: (\w+), banks ([a-z0-9 ]+)", console)]

    def iak(self, instance):
        names = self.data / f"banyan/platform/private/instances/{instance:03}.names"
        return json.loads(names.read_text())["iak"]

    def test_a_vm_has_as_many_as_its_file_says_and_they_look_as_it_says(self):
        file = self.file(TOP + vm("alpha", "cloud-amd64", tpms=3) + '[[vm.further_tpm]]\nbanks = ["sha1"]\n' +
                         vm("beta", "cloud-amd64", tpms=2, banks=["sha256", "sha384"], did_vid=0x12341014) +
                         vm("gamma", "cloud-amd64", interface="crb", banks=["sha384", "sha256"]))
        self.expect(self.run_machine(file), 0)
        report = self.report()
        self.expect_attested(report)
        self.assertEqual(self.further_tpms("alpha"), [("1", self.iak(16)), ("2", self.iak(17))])
        self.assertEqual(self.further_tpms("beta"), [("1", self.iak(24))])
        self.assertEqual(self.further_tpms("gamma"), [])
        self.assertNotEqual(self.iak(16), self.iak(17))
        every = ("tpm_tis", "sha1 sha256 sha384")
        self.assertEqual(self.looks("alpha"), [every, ("tpm_tis", "sha1"), every])
        self.assertEqual(self.looks("beta"), [("tpm_tis", "sha256 sha384"), every])
        self.assertEqual(self.looks("gamma"), [("tpm_crb", "sha256 sha384")])
        # The same code whatever the interface, in another place.
        alpha, _, gamma = (one["pcrs"]["sha384"] for one in report["vms"])
        self.assertEqual(alpha["17"], gamma["17"])
        self.assertNotEqual(alpha["18"], gamma["18"])
        self.verify_as_another(file)

    def verify_as_another(self, file):
        """The owner of a machine file that says FIFO does not take a CRB for it."""
        anchor = self.data / "banyan/platform/public/manufacturer.pem"
        for text, status in ((file.read_text(), 0), (file.read_text().replace('"crb"', '"fifo"'), 1)):
            verified = subprocess.run([BANYAN, "verify", "--evidence", self.evidence, "--machine",
                                       self.file(text, f"verify-{status}.toml"), "--trust", anchor],
                                      capture_output=True, text=True, check=False)
            self.assertEqual(verified.returncode, status, verified.stdout + verified.stderr)
        self.assertIn("gamma: PCR 18", verified.stdout + verified.stderr)
        self.assertNotIn("alpha: ", verified.stdout + verified.stderr)

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
