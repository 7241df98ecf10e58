#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""usage: interrupts_test.py BUILD

TPMs with interrupts under Debian's own drivers. A pass shows that the driver sleeps from tpmGo to the interrupt and asks
nothing meanwhile, that TPMs share a line, and that each window of the host's has its own vendor, device and banks.

Debian 6.1's driver cannot use interrupts (it never sets the flag that its own test of them looks at) and polls; the one
of 6.12 can. It gives its test a millisecond: with one core nothing of the host's can use that up.
"""

import re
import unittest

import machine
from probe import Probe, ProbeFailed, vtpm_devices

NEWER = "backports-cloud-amd64"
TRACE_POINTS = ("banyan_vtpm_read", "banyan_vtpm_write", "banyan_vtpm_irq")
ADDRESSES = (0xFED40000, 0xFED60000, 0xFED65000)
GO = "banyan_vtpm_write .* addr {:#x} size 1 val 0x20 " # at TPM_STS
STATUS = "banyan_vtpm_read .* addr {:#x} "
DATA = r"banyan_vtpm_read .* addr {:#x} size \d val 0x\w*[9b]\w "
CAUSE = r"banyan_vtpm_read .* addr {:#x} size 4 val 0x\w*[13579bdf] " # at TPM_INT_STATUS


class Interrupts(unittest.TestCase):
    maxDiff = None

    def start(self, devices, kernel=NEWER):
        probe = Probe(machine.BUILD / "bin/qemu-system-x86_64", machine.BUILD, devices, cores=1, kernel=kernel,
                      linux="tpm_tis.interrupts=1")
        self.addCleanup(probe.close)
        return probe

    def counts(self, probe):
        """How often each interrupt came, by who has it."""
        found = {}
        for line in probe.ask("interrupts").split():
            count, controller, pin, *drivers = line.split(",")
            self.assertEqual(controller, "IO-APIC")
            found[(pin, *drivers)] = int(count)
        return found

    def make_key(self, probe, tpm):
        """The driver's accesses and the line's changes from tpmGo of an RSA key until it sees the response."""
        before = len(probe.text("qemu.log").splitlines())
        for name in TRACE_POINTS:
            probe.ask_qemu("trace-event-set-state", name=name, enable=True)
        self.assertGreater(int(probe.ask("make", tpm)), 0)
        for name in TRACE_POINTS:
            probe.ask_qemu("trace-event-set-state", name=name, enable=False)
        lines = probe.text("qemu.log").splitlines()[before:]
        status = ADDRESSES[tpm] + 0x18
        go = next(i for i, line in enumerate(lines) if re.match(GO.format(status), line)) # TPM2_CreatePrimary's
        end = next(i for i, line in enumerate(lines) if i > go and re.match(DATA.format(status), line))
        return lines[go + 1:end]

    def test_the_driver_sleeps_until_the_interrupt(self):
        chip, shared, apart = vtpm_devices(machine.BUILD, 3, first=",irq=5", window=",irq=5")
        apart = apart.replace("irq=5", "irq=6") + ",did-vid=0x22211014,banks=sha256"
        probe = self.start([chip, shared, apart])
        probe.wait_ready()
        SHARED, APART = ("5-fasteoi", "tpm0", "tpm1"), ("6-fasteoi", "tpm2")
        self.assertEqual(set(self.counts(probe)), {SHARED, APART}, probe.text("console.log"))

        for tpm, gsi, mine, other in ((0, 5, SHARED, APART), (1, 5, SHARED, APART), (2, 6, APART, SHARED)):
            before = self.counts(probe)
            seen = self.make_key(probe, tpm)
            said = "\n".join(seen)
            # The interrupt's handler finds dataAvail before anybody finds the response in the status,
            self.assertIn(f"banyan_vtpm_irq gsi {gsi} level 1", seen, said)
            self.assertRegex(said, CAUSE.format(ADDRESSES[tpm] + 0x10))
            # which is looked at before the sleep and when an interrupt of another cause comes late, not each millisecond.
            self.assertLessEqual(len([line for line in seen if re.match(STATUS.format(ADDRESSES[tpm] + 0x18), line)]), 6, said)
            after = self.counts(probe)
            self.assertGreater(after[mine], before[mine])
            self.assertEqual(after[other], before[other])
            self.assertEqual(probe.ask("extend", tpm, 11, "11" * 32), "0")

        with self.subTest("each has its own vendor and banks"):
            self.assertEqual([probe.ask("banks", tpm) for tpm in range(3)],
                             ["sha1 sha256 sha384", "sha1 sha256 sha384", "sha256"])
            console = probe.text("console.log")
            for device, number in ((0x1, 0), (0x1, 1), (0x2221, 2)):
                self.assertRegex(console, rf"MSFT0101:0{number}: 2.0 TPM \(device-id 0x{device:X}, rev-id 1\)")

        with self.subTest("and after a reset of the machine"):
            probe.ask_qemu("system_reset")
            probe.wait_ready()
            before = self.counts(probe)
            self.assertGreater(int(probe.ask("make", 0)), 0)
            self.assertGreater(self.counts(probe)[SHARED], before[SHARED])
        self.assertEqual(probe.power_off(), 0)

    def test_a_driver_that_cannot_use_them_polls(self):
        probe = self.start(vtpm_devices(machine.BUILD, 2, first=",irq=14", window=",irq=15"), kernel="cloud-amd64")
        probe.wait_ready()
        self.assertIn("TPM interrupt not working, polling instead", probe.text("console.log"))
        self.assertEqual(probe.ask("interrupts"), "-")
        for tpm in range(2):
            self.assertGreater(int(probe.ask("make", tpm)), 0)
            self.assertEqual(probe.ask("extend", tpm, 11, "11" * 32), "0")

    def test_what_cannot_be_had_is_refused_with_the_reason(self):
        chip, window = vtpm_devices(machine.BUILD, 2)
        setup = "banyan-vtpm-setup,instance=1"
        for devices, text in (
                ((chip + ",irq=9",), "irq= is 5, 6, 14 or 15"),
                ((chip, window + ",irq=24"), "irq= is 5, 6, 14 or 15"),
                ((chip + ",interface=fifo",), "interface= is tis or crb"),
                ((chip, window + ",banks=md5"), "banks= is a list"),
                ((chip, setup + ",banks="), "banks= is a list"),
                ((chip, window + ",interface=crb"), "a CRB can be behind the first window alone"),
                ((setup, chip), "put -device banyan-vtpm before it"),
                ((chip, setup, setup), "instance 1 has its setup from another device"),
                ((chip, window, setup), "instance 1 is behind another window"),
                ((chip, setup, window), "instance 1 has its setup from another device"),
                ((chip, "banyan-vtpm-setup,instance=0"), "instance 0 is behind another window"),
                ((chip, "banyan-vtpm-setup,instance=2"), "has 2 instances, so no instance 2"),
                ((chip, setup + ",irq=5"), "irq")):
            with self.assertRaises(ProbeFailed) as refused:
                self.start(devices)
            self.assertIn(text, str(refused.exception), devices)


if __name__ == "__main__":
    machine.main()
