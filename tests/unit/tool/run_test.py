#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""usage: run_test.py BANYAN SCHEMA [TEST...]

`banyan run` from its command line to its exit status, with fake_qemu.py in QEMU's place: what goes wrong in the server
must come out as one sentence, the right status, kept logs, and nothing left running. The fakes have no TPM, so the best
verdict here is "refused"; real evidence is for the system tests.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

BANYAN = sys.argv[1]
SCHEMA = sys.argv[2]
FAKE_QEMU = pathlib.Path(__file__).with_name("fake_qemu.py")


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class RunTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.shared = pathlib.Path(tempfile.mkdtemp(prefix="banyan-run-test-"))
        build = cls.shared / "build"
        for name, content in {
            "images/amd64/vmlinuz": b"kernel",
            "share/banyan/initrd-amd64.img": b"initrd",
            "share/banyan/stage0.bin": b"stage 0",
            "share/banyan/hypervisor.elf": b"elf",
            "share/banyan/hypervisor.slb": b"\x04\x00\x10\x00twelve bytes",
            "share/banyan/loader.slb": b"\x04\x00\x10\x00twelve bytes",
            "bin/banyan-vtpm-engine": b"#!/bin/true\n",
        }.items():
            (build / name).parent.mkdir(parents=True, exist_ok=True)
            (build / name).write_bytes(content)
        (build / "bin/banyan-vtpm-engine").chmod(0o755)
        cls.platform = cls.shared / "platform"
        cls.platform.mkdir()
        subprocess.run([BANYAN, "platform", "new", cls.platform / "private", "--public", cls.platform / "public",
                        "--instances", "4"], check=True, stdout=subprocess.DEVNULL)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.shared)

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(dir=self.shared))
        self.evidence = self.dir / "evidence"
        self.json = self.dir / "run.json"

    def machine(self, count=2, vm_lines=""):
        text = f'schema = 1\n[machine]\nplatform = "{self.platform}"\n'
        for name in ["alpha", "beta", "gamma"][:count]:
            text += f'[[vm]]\nname = "{name}"\nkernel = "debian:amd64"\nmemory = "256M"\n{vm_lines}\n'
        (self.dir / "machine.toml").write_text(text, encoding="utf-8")
        return self.dir / "machine.toml"

    def environment(self, fake, **extra):
        return {**os.environ, "BANYAN_BUILD_DIR": str(self.shared / "build"), "FAKE": json.dumps(fake),
                "TMPDIR": str(self.dir), **extra}

    def command(self, *options, machine=None):
        return [BANYAN, "run", machine or self.machine(), "--qemu", FAKE_QEMU, "--json", self.json,
                "--evidence", self.evidence, *options]

    def run_banyan(self, *options, fake=None, machine=None, **extra):
        """Output of a run, which must leave neither processes nor folders."""
        child_file = self.dir / "child"
        result = subprocess.run(self.command(*options, machine=machine), capture_output=True, text=True, timeout=60,
                                env=self.environment(fake or {}, FAKE_CHILD=str(child_file), **extra), check=False)
        if child_file.exists():
            self.assertFalse(alive(int(child_file.read_text())), "left running")
        self.assertEqual(list(self.dir.glob("banyan-run-*")), [], "left behind")
        return result

    def report(self):
        with open(self.json, encoding="utf-8") as file:
            return json.load(file)

    def expect(self, result, status, *texts):
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        for text in texts:
            self.assertIn(text, result.stdout + result.stderr)

    # ---- a run in which the server does its part

    def test_runs_to_the_verdict(self):
        result = self.run_banyan()
        self.expect(result, 1, "alpha: files: ", "beta: files: ")
        report = self.report()
        self.assertEqual(report["exit"], 1)
        self.assertEqual([vm["verdict"] for vm in report["vms"]], ["refused", "refused"])
        self.assertEqual(report["vms"][0]["ended"], "poweroff")
        self.assertEqual(report["vms"][1]["exits"], {"running": 0, "final": 1})
        self.assertEqual(report["vms"][1]["denied"]["port"], 5)
        self.assertEqual(report["virtual_seconds"], 1.5)
        self.assertTrue(report["qemu"]["version"].startswith("10.0.99"))
        for name in ("alpha/quote.msg", "owner/alpha/nonce", "owner/beta/receipt.cose", "owner/chain.pem",
                     "owner/run.json", "qemu.log"):
            self.assertTrue((self.evidence / name).is_file(), name)
        self.assertEqual((self.evidence / "alpha/nonce").read_bytes(),
                         (self.evidence / "owner/alpha/nonce").read_bytes())
        self.assertNotEqual((self.evidence / "owner/alpha/nonce").read_bytes(),
                            (self.evidence / "owner/beta/nonce").read_bytes())

    def test_report_keeps_to_its_schema(self):
        self.run_banyan(fake={"vms": {"1": "early"}})
        try:
            import jsonschema
        except ImportError:
            self.skipTest("python3-jsonschema is not installed")
        with open(SCHEMA, encoding="utf-8") as file:
            jsonschema.validate(self.report(), json.load(file))

    def test_report_has_what_its_schema_requires(self):
        self.run_banyan()
        with open(SCHEMA, encoding="utf-8") as file:
            schema = json.load(file)
        vm_schema = schema["properties"]["vms"]["items"]
        self.assertEqual(set(self.report()), set(schema["properties"]))
        self.assertEqual(set(schema["required"]), set(schema["properties"]))
        self.assertEqual(set(self.report()["vms"][0]), set(vm_schema["properties"]))
        self.assertEqual(set(vm_schema["required"]), set(vm_schema["properties"]))

    def test_prints_a_line_a_step_where_there_is_no_terminal(self):
        lines = self.run_banyan().stderr.splitlines()
        for step in ("QEMU runs", "the hypervisor is up", "alpha: created", "started alpha, beta", "beta: Linux is up",
                     "alpha: evidence is here", "alpha: ended, poweroff"):
            self.assertEqual(sum(step in line for line in lines), 1, step)
        self.assertNotIn("\x1b", "".join(lines))

    def test_runs_only_the_first_vms_when_asked(self):
        self.expect(self.run_banyan("--vms", "1"), 1)
        self.assertEqual([vm["name"] for vm in self.report()["vms"]], ["alpha"])
        self.expect(self.run_banyan("--vms", "3"), 2, "--vms 3 is outside 1 to 2")

    def test_each_way_to_end(self):
        for how, ended in (("reboot", "reboot"), ("panic", "reboot"), ("stop", "stopped")):
            self.expect(self.run_banyan("--end", how), 1)
            self.assertEqual(self.report()["vms"][0]["ended"], ended)

    def test_restarts_a_vm_that_reboots_when_its_owner_wants_that(self):
        machine = self.machine(1, 'on_reboot = "restart"')
        result = self.run_banyan("--end", "reboot", machine=machine)
        self.expect(result, 1)
        self.assertEqual(result.stderr.count("alpha: created"), 2)
        self.assertEqual(self.report()["vms"][0]["ended"], "poweroff")
        result = self.run_banyan(fake={"vms": {"1": "reboot"}}, machine=machine)
        self.expect(result, 1)
        self.assertEqual(result.stderr.count("alpha: created"), 2)

    def test_keeps_everything_of_a_miss_where_no_folder_was_named(self):
        command = [BANYAN, "run", self.machine(), "--qemu", FAKE_QEMU]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, env=self.environment({}), check=False)
        self.assertEqual(result.returncode, 1)
        kept = result.stderr.strip().splitlines()[-1].split(" are kept in ")[1]
        self.assertTrue((pathlib.Path(kept) / "alpha/quote.msg").is_file())

    def test_evidence_of_an_earlier_run_goes_but_nothing_else(self):
        self.run_banyan()
        (self.evidence / "alpha/report.cose").write_text("old")
        self.expect(self.run_banyan(), 1)
        self.assertFalse((self.evidence / "alpha/report.cose").exists())
        (self.evidence / "mine.txt").write_text("mine")
        self.expect(self.run_banyan(), 2, "holds something else (mine.txt)")
        self.assertTrue((self.evidence / "mine.txt").exists())

    # ---- what a user gets wrong

    def test_bad_input(self):
        missing = self.dir / "none.toml"
        self.expect(self.run_banyan(machine=missing), 2, "none.toml: No such file or directory")
        bad = self.dir / "bad.toml"
        bad.write_text("schema = 1\n[[vm]\n")
        self.expect(self.run_banyan(machine=bad), 2, "bad.toml:2:6: not TOML")
        self.expect(self.run_banyan(machine=self.machine(1, 'stage0 = "none"')), 3, "cannot read the stage 0")
        self.expect(self.run_banyan("--timeout", "sleep=3"), 2, "is not a phase")
        self.expect(self.run_banyan("--timeout", "boot=0"), 2, "is not a number of seconds")
        self.expect(self.run_banyan("--end", "sideways"), 2)
        self.expect(self.run_banyan("--no-such-option"), 2)
        result = subprocess.run([BANYAN, "run", self.machine(), "--qemu", "/no/such/qemu"], capture_output=True, text=True,
                                env=self.environment({}), check=False)
        self.expect(result, 3, "cannot run QEMU /no/such/qemu: No such file or directory")

    # ---- a server that does not do its part

    def test_qemu_that_refuses_its_command_line(self):
        result = self.run_banyan(fake={"qemu": "refuse"})
        self.expect(result, 3, "QEMU ended with status 1 in phase boot-hypervisor", "not a valid device")
        self.assertEqual({vm["verdict"] for vm in self.report()["vms"]}, {"failed"})

    def test_qemu_that_never_connects(self):
        self.expect(self.run_banyan("--timeout", "boot-hypervisor=1", fake={"qemu": "no-connect"}), 4,
                    "phase boot-hypervisor timed out after 1 s")

    def test_qemu_that_dies(self):
        self.expect(self.run_banyan(fake={"qemu": "kill"}), 3, "QEMU ended with signal 9 (Killed) in phase launch")
        self.expect(self.run_banyan(fake={"qemu": "segv"}), 70, "QEMU ended with signal 11")

    def test_hypervisor_that_says_nothing(self):
        self.expect(self.run_banyan("--timeout", "boot-hypervisor=1", fake={"hypervisor": "silent"}), 4,
                    "phase boot-hypervisor timed out after 1 s: the hypervisor did not report")

    def test_hypervisor_that_says_something_else(self):
        self.expect(self.run_banyan(fake={"hypervisor": "noise"}), 70, "a frame begins with 0x42616553")
        self.expect(self.run_banyan(fake={"hypervisor": "bad-crc"}), 70, "a frame's CRC is")

    def test_hypervisor_that_refuses(self):
        self.expect(self.run_banyan(fake={"hypervisor": "refuse-create"}), 70,
                    'the hypervisor did not create VM "alpha": refused by the domain table (overlaps another domain')
        self.expect(self.run_banyan(fake={"hypervisor": "one-core"}), 3, "the hypervisor sees 1")

    def test_hypervisor_that_stops_answering(self):
        self.expect(self.run_banyan("--timeout", "launch=1", fake={"hypervisor": "deaf"}), 4,
                    "the hypervisor did not answer the request to report the VMs' states")

    # ---- VMs that do not do their part; the other one goes on

    def one_bad_vm(self, how, status, text, *options):
        result = self.run_banyan(*options, fake={"vms": {"2": how}})
        self.expect(result, status, text)
        alpha, beta = self.report()["vms"]
        self.assertEqual(alpha["verdict"], "refused")
        self.assertEqual(alpha["ended"], "poweroff")
        return beta

    def test_vm_that_hangs_in_each_phase(self):
        for how, phase in (("no-launch", "launch"), ("silent", "boot"), ("deaf", "poweroff")):
            beta = self.one_bad_vm(how, 4, f'VM "beta" hung in phase {phase}: ', "--timeout", f"{phase}=1")
            self.assertEqual(beta["ended"], "hung")
            self.assertEqual(beta["verdict"], "refused" if how == "deaf" else "failed")

    def test_vm_that_fails(self):
        for how, text in (("failed", "could not give evidence: no TPM here"),
                          ("early", "ended (shutdown) in phase boot, before it had shown its evidence"),
                          ("noise", 'does not keep to its protocol: unexpected line "??[    0.000000] Linux version"'),
                          ("unasked", "sent evidence that nobody asked for"),
                          ("escape", "sent an archive that is not evidence: ../escaped is not a file that belongs in")):
            beta = self.one_bad_vm(how, 5, text)
            self.assertEqual(beta["verdict"], "failed")
            self.assertIn(text, beta["reason"])
            self.assertEqual(beta["ended"], "shutdown" if how == "early" else "stopped")
        self.assertFalse((self.evidence / "escaped").exists())

    # ---- the user does not want any more

    def interrupted(self, sent):
        child_file = self.dir / "child"
        process = subprocess.Popen(self.command(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   env=self.environment({"vms": {"1": "silent"}}, FAKE_CHILD=str(child_file)))
        for line in process.stderr:
            if "alpha: launched" in line:
                break
        qemu = int(subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True).stdout)
        process.send_signal(sent)
        status = process.wait(timeout=20)
        process.communicate()
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and (alive(qemu)):
            time.sleep(0.05)
        self.assertFalse(alive(qemu))
        return status, int(child_file.read_text())

    def test_signals_leave_nothing_running(self):
        for sent in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            status, child = self.interrupted(sent)
            self.assertEqual(status, 130)
            self.assertFalse(alive(child))
            self.assertEqual(self.report()["exit"], 130)

    def test_qemu_dies_with_a_killed_tool(self):
        status, child = self.interrupted(signal.SIGKILL)
        self.assertEqual(status, -signal.SIGKILL)
        os.kill(child, signal.SIGKILL)  # the fake's own runaway; a vTPM engine sees its peer end
        shutil.rmtree(next(self.dir.glob("banyan-run-*")))

    def test_two_runs_do_not_share_a_platform(self):
        process = subprocess.Popen(self.command(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                   env=self.environment({"vms": {"1": "silent"}}))
        for line in process.stderr:
            if "QEMU runs" in line:
                break
        self.evidence = self.dir / "second"
        second = subprocess.run(self.command(), capture_output=True, text=True, timeout=60, env=self.environment({}),
                                check=False)
        process.terminate()
        process.communicate(timeout=20)
        self.expect(second, 3, "is in use by another run")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
