#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""usage: unmarked_test.py BUILD

The emulator's own test protocol makes accesses that nobody marks: no requester, no core. Protected windows answer them
with ones, change nothing and count them; unmarked never means privileged.
"""

import json
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

BUILD = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build").resolve()
QEMU = BUILD / "bin/qemu-system-x86_64"
WINDOWS = {
    "vTPM, locality 0": 0xFED40000,
    "vTPM, HASH_START": 0xFED44028,
    "own page": 0xFED50000,
    "control window": 0xFED51000,
    "descriptor": 0xFED52000,
    "black hole": 0xFED53000,
}


def connect(path, process):
    while True:
        s = socket.socket(socket.AF_UNIX)
        try:
            s.connect(str(path))
            s.settimeout(60)
            with s: # the file keeps the connection
                return s.makefile("rwb")
        except (FileNotFoundError, ConnectionRefusedError):
            s.close()
            if process.poll() is not None:
                raise RuntimeError(f"QEMU ended with {process.returncode}") from None


class Unmarked(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="banyan-qtest-"))
        firmware = [a for folder in (BUILD / "qemu/firmware-dirs").read_text().split() for a in ("-L", folder)]
        self.qemu = subprocess.Popen(
            [QEMU, *firmware, "-M", "q35,smm=off", "-accel", "tcg", "-cpu", "EPYC", "-m", "256M", "-S", "-nodefaults",
             "-display", "none", "-qtest", f"unix:{self.dir}/qtest,server=on,wait=off", "-qtest-log", "none",
             "-qmp", f"unix:{self.dir}/qmp,server=on,wait=off",
             "-device", f"banyan-vtpm,id=vtpm,engine={BUILD}/bin/banyan-vtpm-engine,instances=2",
             "-device", "banyan-domains,id=domains"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.qtest = connect(self.dir / "qtest", self.qemu)
        self.qmp = connect(self.dir / "qmp", self.qemu)
        self.qmp.readline()
        self.ask("qmp_capabilities")

    def tearDown(self):
        self.qtest.close()
        self.qmp.close()
        self.qemu.terminate()
        self.qemu.wait()
        shutil.rmtree(self.dir)

    def ask(self, command, **arguments):
        self.qmp.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self.qmp.flush()
        while True:
            answer = json.loads(self.qmp.readline())
            if "return" in answer or "error" in answer:
                return answer.get("return")

    def do(self, line):
        self.qtest.write(line.encode() + b"\n")
        self.qtest.flush()
        words = self.qtest.readline().split()
        self.assertEqual(words[0], b"OK", line)
        return int(words[1], 16) if len(words) > 1 else None

    def report(self):
        return json.loads(self.ask("qom-get", path="/machine/peripheral/domains", property="report"))

    def test_windows_read_ones(self):
        for name, address in WINDOWS.items():
            for letter, width in (("b", 1), ("w", 2), ("l", 4), ("q", 8)):
                self.assertEqual(self.do(f"read{letter} {address:#x}"), (1 << 8 * width) - 1, f"{name}, {width} bytes")

    def test_writes_change_nothing(self):
        self.do("writel 0x1000 0x12345678")
        self.assertEqual(self.do("readl 0x1000"), 0x12345678) # an ordinary access works
        self.assertEqual(self.report()["domains"], [])
        for address in WINDOWS.values():
            self.do(f"writel {address:#x} 0x1")
        self.do("writel 0xfed51010 0x1") # select domain 1
        self.do("writel 0xfed51014 0x1") # create
        self.assertEqual(self.report()["domains"], []) # one that was created would be listed as building

    def test_they_are_counted(self):
        before = json.dumps(self.report())
        self.do("readl 0xfed51000")
        self.assertNotEqual(json.dumps(self.report()), before)


if __name__ == "__main__":
    if not QEMU.exists():
        print(f"SKIP: there is no {QEMU}")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1], verbosity=2)
