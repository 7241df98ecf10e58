#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""usage: verify_test.py BUILD [TEST...]

Evidence of real runs, judged offline: two VMs with the same image, run twice. What the verifier must see through is done
to copies of the evidence, and to the owner's files; each refusal must be for the right reason.
"""

import hashlib
import json
import os
import shutil
import subprocess

from machine import BANYAN, BUILD, COMMAND_LINE, MachineTest, main, vm

ACCEPT = 'accept_insecure = ["dma-drain"]\n'
FILES = ("ak.pem", "quote.msg", "quote.sig", "pcrs.bin", "nonce", "eventlog.bin", "ek.crt", "ek-rsa.crt", "iak.crt",
         "report.cose")


def machine_file(accept=ACCEPT, machine="", **keys):
    keys = {"command_line": COMMAND_LINE, **keys}
    return "schema = 1\n[machine]\n" + accept + machine + vm("alpha", **keys) + vm("beta", **keys)


class RealEvidence(MachineTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.machine = cls.shared / "machine.toml"
        cls.machine.write_text(machine_file(), encoding="utf-8")
        cls.environment = {**os.environ, "XDG_DATA_HOME": str(cls.shared / "data"), "TMPDIR": "/tmp"}
        cls.public = cls.shared / "data/banyan/platform/public"
        cls.private = cls.shared / "data/banyan/platform/private"
        cls.trust = cls.public / "manufacturer.pem"
        for run in ("first", "second"):
            done = subprocess.run([BANYAN, "run", cls.machine, "--evidence", cls.shared / run], env=cls.environment,
                                  capture_output=True, text=True, check=False, timeout=600)
            if done.returncode != 0:
                raise AssertionError(f"{done.stdout}{done.stderr}kept: {cls.shared}")

    def setUp(self):
        super().setUp()
        shutil.copytree(self.shared / "second", self.evidence)

    def verify(self, machine=None, trust=None, evidence=None, options=()):
        done = subprocess.run([BANYAN, "verify", "--evidence", evidence or self.evidence, "--machine",
                               machine or self.machine, "--trust", trust or self.trust, *options],
                              env=self.environment, capture_output=True, text=True, check=False, timeout=120)
        self.output = done.stdout + done.stderr
        return done.returncode

    def changed(self, path, name, offset=5000):
        """A copy of the file with one byte changed."""
        content = bytearray(path.read_bytes())
        content[offset] ^= 1
        copy = self.dir / name
        copy.write_bytes(content)
        return copy

    def test_attests(self):
        self.expect(self.verify(options=["--json", self.json]), 0, "attested")
        report = json.loads(self.json.read_text())
        alpha, beta = report["vms"]
        self.assertEqual(report["verdict"], "attested")
        self.assertEqual(alpha["pcrs"], alpha["expected"])
        self.assertEqual(alpha["pcrs"]["sha256"]["17"], beta["pcrs"]["sha256"]["17"])  # the same image
        self.assertNotEqual(alpha["pcrs"]["sha256"]["18"], beta["pcrs"]["sha256"]["18"])  # another place

    def test_stock_tools_read_it(self):
        for name in ("alpha", "beta"):
            folder = self.evidence / name
            nonce = (folder / "nonce").read_bytes().hex()
            for command in (
                    ["tpm2_checkquote", "-Q", "-u", "ak.pem", "-m", "quote.msg", "-s", "quote.sig", "-f", "pcrs.bin", "-g",
                     "sha384", "-q", nonce],
                    ["tpm2_eventlog", "eventlog.bin"],
                    ["openssl", "verify", "-x509_strict", "-CAfile", self.trust, "-untrusted", "../owner/chain.pem",
                     "iak.crt", "ek.crt", "ek-rsa.crt"]):
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
                self.assertEqual(done.returncode, 0, done.stderr)
                if command[0] == "tpm2_eventlog":
                    kernel = hashlib.sha256((BUILD / "images/amd64/vmlinuz").read_bytes()).hexdigest()
                    self.assertIn(kernel, done.stdout)

    def test_ima_measured_what_was_predicted(self):
        lines = (self.evidence / "alpha/ima.log").read_text().splitlines()
        self.assertEqual(len(lines), 1, lines)
        aggregate = hashlib.sha256(bytes(320)).hexdigest()
        self.assertIn(f"ima-sig sha256:{aggregate} boot_aggregate", lines[0])

    def test_alphas_evidence_is_not_betas(self):
        shutil.rmtree(self.evidence / "beta")
        shutil.copytree(self.evidence / "alpha", self.evidence / "beta")
        self.expect(self.verify(), 1, "beta   2", "refused (class)", '"vTPM 1 EK", expected "vTPM 2 EK"')

    def test_alphas_quote_is_not_betas(self):
        for name in ("quote.msg", "quote.sig", "pcrs.bin"):
            shutil.copy(self.evidence / "alpha" / name, self.evidence / "beta" / name)
        self.expect(self.verify(), 1, "refused (quote)", "beta")

    def test_alphas_report_is_not_betas(self):
        shutil.copy(self.evidence / "alpha/report.cose", self.evidence / "beta/report.cose")
        self.expect(self.verify(), 1, "refused (report)", "beta")

    def test_evidence_of_an_earlier_run(self):
        shutil.rmtree(self.evidence / "alpha")
        shutil.copytree(self.shared / "first/alpha", self.evidence / "alpha")
        self.expect(self.verify(), 1, "refused (report)", "nonce", "another time")
        self.expect(self.verify(evidence=self.shared / "first"), 0)
        self.expect(self.verify(evidence=self.shared / "first",
                                options=["--owner", self.shared / "second/owner"]), 1, "refused (report)", "nonce")

    def test_one_byte_of_each_file(self):
        for name in FILES:
            path = self.evidence / "alpha" / name
            good = path.read_bytes()
            spoiled = bytearray(good)
            # A byte that means something: of pcrs.bin the last of a value, of the others one in the middle.
            spoiled[len(good) // 2 if name != "pcrs.bin" else 138 + 31] ^= 1
            path.write_bytes(spoiled)
            self.assertEqual(self.verify(), 1, f"{name}: {self.output}")
            path.unlink()
            self.expect(self.verify(), 1, "refused (files)", name)
            path.write_bytes(good)
        self.expect(self.verify(), 0)

    def test_another_kernel(self):
        kernel = self.changed(BUILD / "images/amd64/vmlinuz", "vmlinuz")
        initrd = str(BUILD / "share/banyan/initrd-amd64.img")
        text = machine_file(kernel=str(kernel), initrd=initrd)
        self.expect(self.verify(self.file(text)), 1, "refused (pcr)", "PCR 17", "event 2", '"kernel"', str(kernel),
                    hashlib.sha256(kernel.read_bytes()).hexdigest(),
                    hashlib.sha256((BUILD / "images/amd64/vmlinuz").read_bytes()).hexdigest())

    def test_another_initrd(self):
        initrd = self.changed(BUILD / "share/banyan/initrd-amd64.img", "initrd")
        self.expect(self.verify(self.file(machine_file(initrd=str(initrd)))), 1, "refused (pcr)", "PCR 17", "event 3",
                    '"initrd"', str(initrd))

    def test_another_command_line(self):
        text = machine_file(command_line=COMMAND_LINE.replace("reboot=a", "reboot=b"))
        self.expect(self.verify(self.file(text)), 1, "refused (pcr)", "PCR 17", "event 4", "command_line")

    def test_another_loader(self):
        loader = self.changed(BUILD / "share/banyan/loader.slb", "loader.slb", offset=400)
        self.expect(self.verify(self.file(machine_file(loader=str(loader)))), 1, "refused (pcr)", "PCR 17", "event 1",
                    '"SKINIT"', str(loader))

    def test_another_hypervisor(self):
        slb = self.changed(BUILD / "share/banyan/hypervisor.slb", "hypervisor.slb", offset=400)
        text = machine_file(machine=f'hypervisor_slb = "{slb}"\n')
        self.expect(self.verify(self.file(text)), 1, "refused (receipt)", "hypervisor")

    def test_another_partition(self):
        self.expect(self.verify(self.file(machine_file(memory="512M"))), 1, "refused (receipt)", "descriptor")

    def test_weakened_protections_by_name_only(self):
        bare = self.file(machine_file(accept=""))
        self.expect(self.verify(bare), 1, "refused (receipt)", "insecure:dma-drain")
        self.expect(self.verify(bare, options=["--accept", "insecure:dma-drain"]), 0)

    def test_another_manufacturer(self):
        made = subprocess.run([BANYAN, "platform", "new", self.dir / "p", "--instances", "1"], capture_output=True, text=True,
                              check=False)
        self.assertEqual(made.returncode, 0, made.stderr)
        self.expect(self.verify(trust=self.dir / "p-public/manufacturer.pem"), 1, "refused (chain)", "trusted root")
        # The right root, but a chain of somebody else's in the owner's records.
        shutil.copy(self.dir / "p-public/chain.pem", self.evidence / "owner/chain.pem")
        self.expect(self.verify(), 1, "refused (chain)")

    def test_does_not_read_private_folders(self):
        self.expect(self.verify(trust=self.private / "ca/root.crt"), 2, "private folder")
        self.expect(self.verify(evidence=self.private), 2, "private folder")


if __name__ == "__main__":
    main()
