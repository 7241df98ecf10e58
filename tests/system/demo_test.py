#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""usage: demo_test.py BUILD [TEST...]

The machine files of docs/examples, from the command line to the verdict: every VM launches by SKINIT, runs its Debian
kernel without one exit, attests, and is verified again from copies of nothing but evidence, machine file and root.
"""

import shutil
import subprocess

from machine import BANYAN, BUILD, MachineTest, SOURCE, main


class Demo(MachineTest):
    def attest(self, file, *options):
        """The report of a run in which all went well."""
        self.expect(self.run_machine(SOURCE / "docs/examples" / file, *options), 0)
        report = self.report()
        self.expect_attested(report)
        for vm in report["vms"]:
            launch = vm["launch"]
            self.assertLess(launch["start_ns"], launch["hash_start_ns"])
            self.assertLessEqual(launch["hash_start_ns"], launch["hash_end_ns"])
            self.assertLessEqual(launch["hash_end_ns"], launch["entry_ns"])
            self.assertEqual(launch["wait_for_other_domain_ns"], 0)
            for bank in ("sha256", "sha384"):
                for pcr in ("17", "18"):
                    self.assertEqual(vm["pcrs"][bank][pcr], vm["expected"][bank][pcr])
                self.assertNotIn(set(vm["pcrs"][bank]["17"]), [{"0"}, {"f"}])
        return report

    def verify_copies(self, file):
        """banyan verify on another place, with what an owner would hand out."""
        place = self.dir / "elsewhere"
        shutil.copytree(self.evidence, place / "evidence")
        shutil.copy(SOURCE / "docs/examples" / file, place / "machine.toml")
        shutil.copy(self.data / "banyan/platform/public/manufacturer.pem", place)
        verified = subprocess.run([BANYAN, "verify", "--evidence", "evidence", "--machine", "machine.toml", "--trust",
                                   "manufacturer.pem"], cwd=place, capture_output=True, text=True, check=False)
        self.assertEqual(verified.returncode, 0, verified.stdout + verified.stderr)

    def test_one_vm(self):
        report = self.attest("one-vm.toml")
        self.assertEqual([vm["kernel"] for vm in report["vms"]], ["debian:amd64"])
        self.verify_copies("one-vm.toml")

    def test_two_vms(self):
        report = self.attest("two-vms.toml")
        self.assertEqual([vm["kernel"] for vm in report["vms"]], ["debian:amd64", "debian:cloud-amd64"])
        alpha, beta = report["vms"]
        self.assertNotEqual(alpha["pcrs"]["sha384"]["17"], beta["pcrs"]["sha384"]["17"])

    def test_four_vms_overlap_in_time(self):
        report = self.attest("four-vms.toml")
        self.assertEqual(len(report["vms"]), 4)
        launches = [vm["launch"] for vm in report["vms"]]
        # Measured at the same time: the last began before the first was done.
        self.assertLess(max(one["hash_start_ns"] for one in launches), min(one["hash_end_ns"] for one in launches))
        self.verify_copies("four-vms.toml")
        self.assertEqual(report["vms"][0]["pcrs"]["sha256"]["17"], report["vms"][2]["pcrs"]["sha256"]["17"])

    def test_kernel_is_the_packages_byte_for_byte(self):
        for flavour in ("amd64", "cloud-amd64"):
            kernel = subprocess.run(["sha256sum", BUILD / "images" / flavour / "vmlinuz"], capture_output=True, text=True,
                                    check=True)
            self.assertIn(kernel.stdout.split()[0], (BUILD / "images/packages.json").read_text())


if __name__ == "__main__":
    main()
