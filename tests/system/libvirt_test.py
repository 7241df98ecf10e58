#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""usage: libvirt_test.py BUILD [TEST...]

Debian's own libvirt and QEMU, as they are, with an external TPM on a socket of `banyan vtpm serve`: the element of
docs/vtpm-serve.md. A session's libvirtd runs in name spaces where build/stock is laid over /usr, as if installed.
"""

import os
import pathlib
import re
import subprocess
import sys
import time
import unittest

from probe import Probe
from stock import GUEST, STOCK, need
from stock_qemu_test import DIGEST, EXTENDED, ZERO
from served import BAD_ORDINAL, GET_ESTABLISHED, PATIENCE, SUCCESS, Server

# libvirt takes a user 0 for the system's and wants what only a whole system has: in here nobody is.
INSIDE = ["unshare", "-rm", "sh", "-c", f"mount -t overlay overlay -o lowerdir={STOCK}/usr:/usr /usr && "
          "exec unshare -U --map-user=1000 --map-group=1000 \"$@\"", "sh"]

DOMAIN = """<domain type='qemu'>
  <name>guest</name>
  <memory unit='MiB'>512</memory>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initrd}</initrd>
    <cmdline>console=ttyS1 panic=-1 tsc=reliable</cmdline>
  </os>
  <features><acpi/></features>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <serial type='unix'><source mode='bind' path='{folder}/probe'/><target port='0'/></serial>
    <serial type='file'><source path='{folder}/console.log'/><target port='1'/></serial>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    {tpm}
  </devices>
</domain>
"""


def documented_tpm():
    text = (pathlib.Path(__file__).resolve().parents[2] / "docs/vtpm-serve.md").read_text(encoding="utf-8")
    return re.search(r"```xml\n(<tpm .*?</tpm>)\n```", text, re.DOTALL)[1]


class Guest(Probe):
    """The probe in a domain that libvirt runs."""

    def __init__(self, folder, libvirtd):  # pylint: disable=super-init-not-called
        self.dir, self.process, self.limit_s = folder, libvirtd, PATIENCE
        self.port = self.connect("probe")


class Libvirt(unittest.TestCase):
    def begin(self, *options, model="tpm-crb"):
        self.server = Server(*options)
        self.addCleanup(self.server.end)
        self.folder = self.server.folder
        (self.folder / "config/libvirt").mkdir(parents=True)
        (self.folder / "config/libvirt/qemu.conf").write_text('stdio_handler = "file"\n', encoding="ascii")  # no virtlogd
        self.environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(self.folder),
                            "XDG_RUNTIME_DIR": str(self.folder), "XDG_CACHE_HOME": f"{self.folder}/cache",
                            "XDG_CONFIG_HOME": f"{self.folder}/config"}
        log = open(self.folder / "libvirtd.log", "w", encoding="utf-8")
        self.addCleanup(log.close)
        self.libvirtd = subprocess.Popen([*INSIDE, "/usr/sbin/libvirtd", "-p", self.folder / "pid"], stdout=log,
                                         stderr=log, stdin=subprocess.DEVNULL, env=self.environment)
        self.addCleanup(self.end_libvirtd)
        self.wait_for(lambda: (self.folder / "libvirt/libvirt-sock").exists(), "libvirtd listens")
        tpm = documented_tpm().replace("'DIR/vtpm0.ctrl'", f"'{self.server.instances[0]['control']}'")
        self.assertIn("model='tpm-crb'", tpm)
        self.assertIn(str(self.folder), tpm)
        (self.folder / "domain.xml").write_text(
            DOMAIN.format(kernel=GUEST[0], initrd=GUEST[1], folder=self.folder, tpm=tpm.replace("tpm-crb", model)),
            encoding="ascii")
        self.virsh("define", self.folder / "domain.xml")

    def end_libvirtd(self):
        self.call("destroy", "guest")
        self.libvirtd.terminate()
        self.libvirtd.wait(PATIENCE)

    def call(self, *words):
        command = [*INSIDE, "/usr/bin/virsh", "-q", "-c", "qemu:///session", *words]
        return subprocess.run([str(word) for word in command], env=self.environment, capture_output=True, text=True,
                              check=False, timeout=PATIENCE, stdin=subprocess.DEVNULL)

    def virsh(self, *words):
        done = self.call(*words)
        self.assertEqual(done.returncode, 0,
                         f"{words}: {done.stderr}{(self.folder / 'libvirtd.log').read_text(encoding='utf-8')}")
        return done.stdout.strip()

    def wait_for(self, what, name):
        until = time.monotonic() + PATIENCE
        while not what():
            self.assertIsNone(self.libvirtd.poll(), (self.folder / "libvirtd.log").read_text(encoding="utf-8"))
            self.assertLess(time.monotonic(), until, name)
            time.sleep(0.05)

    def start(self):
        self.virsh("start", "guest")
        guest = Guest(self.folder, self.libvirtd)
        guest.wait_ready()
        return guest

    def tpm_is_on(self):
        with self.server.control() as control:
            result, _ = control.control(GET_ESTABLISHED, b"", 4)
        self.assertIn(result, (SUCCESS, BAD_ORDINAL))
        return result == SUCCESS

    def test_a_domain_starts_resets_and_ends_on_a_served_tpm(self):
        self.begin()
        guest = self.start()
        self.assertEqual(guest.ask("list"), "1 fed40000,tpm_crb")
        self.assertEqual(guest.ask("extend", 0, 16, DIGEST), "0")
        self.virsh("reset", "guest")
        guest.wait_ready()
        self.assertEqual(guest.ask("read", 0, 16), ZERO)
        self.assertEqual(guest.ask("extend", 0, 16, DIGEST), "0")
        refused = self.call("save", "guest", self.folder / "saved")
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("TPM emulator does not support migration", refused.stderr)
        self.assertEqual(guest.ask("read", 0, 16), EXTENDED)
        guest.send("off")
        self.wait_for(lambda: self.virsh("domstate", "guest") == "shut off", "the domain ends")
        self.assertFalse(self.tpm_is_on())
        guest = self.start()
        self.assertEqual(guest.ask("read", 0, 16), ZERO)
        self.virsh("destroy", "guest")
        self.assertFalse(self.tpm_is_on())

    def test_a_domain_is_saved_and_restored_with_its_tpm(self):
        self.begin("--allow-state-export", model="tpm-tis")
        guest = self.start()
        self.assertEqual(guest.ask("list"), "1 fed40000,tpm_tis")
        self.assertEqual(guest.ask("extend", 0, 16, DIGEST), "0")
        self.virsh("save", "guest", self.folder / "saved")
        self.assertEqual(self.virsh("domstate", "guest"), "shut off")
        self.assertFalse(self.tpm_is_on())
        self.virsh("restore", self.folder / "saved")
        guest = Guest(self.folder, self.libvirtd)
        self.assertEqual(guest.ask("read", 0, 16), EXTENDED)
        self.assertEqual(guest.ask("extend", 0, 16, DIGEST), "0")


if __name__ == "__main__":
    need(STOCK / "usr/sbin/libvirtd", STOCK / "usr/bin/virsh", check=[*INSIDE, "/usr/bin/virsh", "--version"])
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=2)
