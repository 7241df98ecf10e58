#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""usage: served_test.py BUILD [TEST...]

A QEMU that knows nothing of us, with `-tpmdev emulator` on a socket of `banyan vtpm serve`: SeaBIOS and an unmodified
Debian kernel find a TPM, Linux reads its PCRs. Two machines at once on two instances, then the first again: its TPM was
power-cycled by QEMU's init. With build/bin/qemu-stock (scripts/qemu stock) if it is there, else with our own build,
whose emulator backend is upstream's.
"""

import concurrent.futures
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

BUILD = pathlib.Path(sys.argv[1])
QEMU = next((one for one in (BUILD / "bin/qemu-stock", BUILD / "bin/qemu-system-x86_64") if one.exists()), None)
KERNEL = BUILD / "images/amd64/vmlinuz"
BUSYBOX = pathlib.Path("/bin/busybox")
PATIENCE = 300

INIT = """#!/bin/busybox sh
/bin/busybox mount -t sysfs none /sys
for tpm in /sys/class/tpm/tpm*; do
    echo "tpm-version $(/bin/busybox cat $tpm/tpm_version_major)"
    for pcr in 0 7 16 17; do
        echo "pcr-$pcr $(/bin/busybox cat $tpm/pcr-sha256/$pcr)"
    done
done
echo end-of-list
/bin/busybox poweroff -f
"""


def initramfs(folder):
    root = folder / "root"
    for name in ("bin", "sys", "dev"):
        (root / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin/busybox")
    (root / "init").write_text(INIT, encoding="ascii")
    (root / "init").chmod(0o755)
    names = "\n".join(str(path.relative_to(root)) for path in [root, *sorted(root.rglob("*"))])
    archive = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet", "-R", "0:0"], cwd=root, input=names.encode(),
                             check=True, capture_output=True).stdout
    (folder / "initramfs").write_bytes(archive)
    return folder / "initramfs"


class Served(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="banyan-served-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.initramfs = initramfs(self.folder)
        self.server = subprocess.Popen([BUILD / "bin/banyan", "vtpm", "serve", "--json", "--instances", "2", "--dir",
                                        self.folder / "sockets"], stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.server.stdout.close)
        self.instances = json.loads(self.server.stdout.readline())["instances"]

    def tearDown(self):
        self.server.send_signal(signal.SIGTERM)
        self.assertEqual(self.server.wait(PATIENCE), 0)

    def boot(self, instance, device):
        """PCRs by number, as Linux reads them."""
        options = instance["qemu"].replace("-device tpm-tis,", f"-device {device},").split()
        firmware = (BUILD / "qemu/firmware-dirs").read_text(encoding="utf-8").split() \
            if (BUILD / "qemu/firmware-dirs").exists() else ["/usr/share/seabios", "/usr/share/qemu"]
        command = [QEMU, *(word for folder in firmware for word in ("-L", folder)), "-M", "q35,smm=off", "-accel",
                   "tcg,thread=single", "-m", "512", "-nodefaults", "-display", "none", "-serial", "stdio", "-kernel",
                   KERNEL, "-initrd", self.initramfs, "-append", "console=ttyS0 panic=-1", "-no-reboot", *options]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                              timeout=PATIENCE, check=False)
        self.assertIn("end-of-list", done.stdout, done.stdout[-2000:] + done.stderr)
        self.assertIn("tpm-version 2", done.stdout)
        pcrs = dict(re.findall(r"pcr-(\d+) ([0-9A-F]{64})", done.stdout))
        self.assertEqual(set(pcrs), {"0", "7", "16", "17"}, done.stdout[-2000:])
        return pcrs

    def test_stock_qemu_boots_debian_to_a_pcr_read_on_two_instances_and_again(self):
        with concurrent.futures.ThreadPoolExecutor() as pool:
            first = pool.submit(self.boot, self.instances[0], "tpm-tis")
            second = pool.submit(self.boot, self.instances[1], "tpm-crb")
        for pcrs in (first.result(), second.result()):
            self.assertEqual(pcrs["16"], "0" * 64)
            self.assertEqual(pcrs["17"], "F" * 64)
            self.assertNotEqual(pcrs["7"], "0" * 64)  # SeaBIOS has measured its separator
        self.assertEqual(self.boot(self.instances[0], "tpm-tis"), first.result())


if __name__ == "__main__":
    for missing in (["a QEMU"] if QEMU is None else []) + [
            str(one) for one in (KERNEL, BUSYBOX) if not one.exists()]:
        print(f"SKIP: {missing} is not there")
        sys.exit(77)
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=2)
