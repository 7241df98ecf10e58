#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""usage: windows_test.py BUILD

Ten TPMs in one VM on plain q35, without hypervisor, domains or launch, through Debian's own driver. A pass shows that
each window is a TPM of its own to Linux, that no value reaches another's PCRs, that firmware finds the first one and
measures into it, and that a reset of the machine is a power cycle of all.
"""

import hashlib
import re
import struct
import unittest

import machine
from probe import Probe, ProbeFailed, vtpm_devices

TPMS = 10
ADDRESSES = ["fed40000"] + [f"{0xFED60000 + 0x5000 * i:x}" for i in range(TPMS - 1)]
ZERO, ONES = bytes(32), b"\xff" * 32
SHA256 = 0xB
SIZES = {4: 20, 0xB: 32, 0xC: 48, 0xD: 64}


def value(tpm, pcr):
    return hashlib.sha256(f"TPM {tpm}, PCR {pcr}".encode()).digest()


def extended(old, digest):
    return hashlib.sha256(old + digest).digest()


def replay(log):
    """SHA-256 PCRs that a crypto-agile log leads to."""
    pcrs = {}
    at = 32 + struct.unpack_from("<I", log, 28)[0]
    while at < len(log):
        pcr, kind, count = struct.unpack_from("<III", log, at)
        at += 12
        for _ in range(count):
            algorithm, = struct.unpack_from("<H", log, at)
            if algorithm == SHA256 and kind != 3: # EV_NO_ACTION
                pcrs[pcr] = extended(pcrs.get(pcr, ZERO), log[at + 2:at + 34])
            at += 2 + SIZES[algorithm]
        at += 4 + struct.unpack_from("<I", log, at)[0]
    return pcrs


class TenTpms(unittest.TestCase):
    maxDiff = None

    def start(self, devices, options=()):
        probe = Probe(machine.BUILD / "bin/qemu-system-x86_64", machine.BUILD, devices, options=options)
        self.addCleanup(probe.close)
        return probe

    def refusal(self, *devices):
        with self.assertRaises(ProbeFailed) as refused:
            self.start(devices)
        return str(refused.exception)

    def pcrs(self, probe, tpm):
        return [bytes.fromhex(probe.ask("read", tpm, pcr)) for pcr in range(24)]

    def fresh(self):
        return [ZERO] * 17 + [ONES] * 6 + [ZERO]

    def test_each_window_is_a_tpm_of_its_own(self):
        probe = self.start(vtpm_devices(machine.BUILD, TPMS))
        probe.wait_ready()
        self.assertEqual(probe.ask("list"), f"{TPMS} " + " ".join(f"{address},tpm_tis" for address in ADDRESSES))
        first = self.pcrs(probe, 0)

        # In an order in which neighbours alternate; every TPM gets other values, in two PCRs and twice in one of them.
        for tpm in [*range(0, TPMS, 2), *range(1, TPMS, 2)]:
            for pcr in (11, 12, 11):
                self.assertEqual(probe.ask("extend", tpm, pcr, value(tpm, pcr).hex()), "0")
        for tpm in range(TPMS):
            expected = list(first) if tpm == 0 else self.fresh()
            expected[11] = extended(extended(ZERO, value(tpm, 11)), value(tpm, 11))
            expected[12] = extended(ZERO, value(tpm, 12))
            self.assertEqual(self.pcrs(probe, tpm), expected, f"TPM {tpm}")

        with self.subTest("firmware measures into the first one, and Linux has the log"):
            measured = replay(bytes.fromhex(probe.ask("log", 0)))
            self.assertTrue(measured)
            self.assertEqual([first[pcr] for pcr in range(8)], [measured.get(pcr, ZERO) for pcr in range(8)])

        with self.subTest("the host sees who is behind which window"):
            report = probe.report()
            self.assertEqual([(w["domain"], w["window"], f"{w['address']:x}", w["instance"]) for w in report["windows"]],
                             [(0, i, ADDRESSES[i], i) for i in range(TPMS)])
            for number, instance in enumerate(report["instances"]):
                self.assertEqual((instance["state"], instance["restarts"]), ("ready", 0))
                # SeaBIOS relinquishes every locality of the TPM that it uses, the processor's too.
                self.assertEqual(instance["denied"], instance["locality4_writes"])
                self.assertLessEqual(instance["denied"], 0 if number else 1)
                self.assertGreaterEqual(instance["commands"], 27)
                self.assertGreater(instance["command_ns"], 0)

        with self.subTest("a reset of the machine is a power cycle of all"):
            probe.ask_qemu("system_reset")
            probe.wait_ready()
            self.assertEqual(self.pcrs(probe, 0), first) # the same firmware measures the same
            for tpm in range(1, TPMS):
                self.assertEqual(self.pcrs(probe, tpm), self.fresh(), f"TPM {tpm}")
        self.assertEqual(probe.power_off(), 0)

    def test_a_crb_goes_with_fifos_beside_it(self):
        probe = self.start(vtpm_devices(machine.BUILD, 3, first=",interface=crb"))
        probe.wait_ready()
        self.assertEqual(sorted(probe.ask("list").split()[1:]),
                         ["fed40000,tpm_crb", f"{ADDRESSES[1]},tpm_tis", f"{ADDRESSES[2]},tpm_tis"])
        # Linux' drivers come in their own order, so a TPM is told by what only it has been given.
        for tpm in range(3):
            self.assertEqual(probe.ask("extend", tpm, 11, value(tpm, 11).hex()), "0")
        for tpm in range(3):
            self.assertEqual(probe.ask("read", tpm, 11), extended(ZERO, value(tpm, 11)).hex())

    def test_each_command_and_each_change_of_locality_is_traced(self):
        probe = self.start(vtpm_devices(machine.BUILD, 2), ["-trace", "banyan_vtpm_command", "-trace", "banyan_vtpm_locality"])
        probe.wait_ready()
        before = len(probe.text("qemu.log").splitlines())
        self.assertEqual(probe.ask("extend", 1, 11, value(1, 11).hex()), "0")
        seen = [re.sub(r" ns \d+$", "", line) for line in probe.text("qemu.log").splitlines()[before:]]
        self.assertEqual(seen, ["banyan_vtpm_locality instance 1 from -1 to 0",
                                "banyan_vtpm_command instance 1 locality 0 code 0x182 size 65 response 19 result 0x0",
                                "banyan_vtpm_locality instance 1 from 0 to -1"])

    def test_a_window_lies_where_it_is_put(self):
        chip, window = vtpm_devices(machine.BUILD, 2)
        probe = self.start([chip, window + ",addr=0xfedfb000"])
        probe.wait_ready()
        self.assertEqual(probe.ask("list"), "2 fed40000,tpm_tis fedfb000,tpm_tis")

    def test_what_cannot_be_had_is_refused_with_the_reason(self):
        chip, window = vtpm_devices(machine.BUILD, 2)
        for devices, text in (
                ((window, chip), "put -device banyan-vtpm before it"),
                ((chip, window, window), "instance 1 is behind another window"),
                ((chip, "banyan-vtpm-window,instance=0"), "instance 0 is behind another window"),
                ((chip, "banyan-vtpm-window,instance=2"), "has 2 instances, so no instance 2"),
                ((chip, window + ",addr=0xfed60001"), "a window lies at a page"),
                ((chip, window + ",addr=0xfed50000"), "a window lies at a page"),
                ((chip, window + ",addr=0xfedfc000"), "a window lies at a page")):
            self.assertIn(text, self.refusal(*devices), devices)

    def test_nothing_is_shown_on_request(self):
        chip, window = vtpm_devices(machine.BUILD, 2, first=",acpi=off")
        probe = self.start([chip, window])
        probe.wait_ready()
        self.assertEqual(probe.ask("list"), "0")


if __name__ == "__main__":
    machine.main()
