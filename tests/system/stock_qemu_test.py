#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""usage: stock_qemu_test.py BUILD [TEST...]

Debian's own QEMU, as it is, with `-tpmdev emulator` on the sockets of `banyan vtpm serve`; in it SeaBIOS and an unmodified
Debian kernel. Each kind of request that QEMU has for its TPM is caused and what became of it is seen on both sides.
"""

import contextlib
import hashlib
import socket
import subprocess
import time
import unittest

from probe import Probe, ProbeFailed
from stock import BUILD, ENVIRONMENT, QEMU, STOCK, need
from served import BAD_ORDINAL, GET_ESTABLISHED, HASH_DATA, HASH_END, HASH_START, PATIENCE, STARTUP_CLEAR, SUCCESS, \
    Server, code, pcr_read, word

ZERO, ONES = "00" * 32, "ff" * 32
DIGEST = "11" * 32
EXTENDED = hashlib.sha256(bytes.fromhex(ZERO + DIGEST)).hexdigest()
CREATE_RSA = bytes.fromhex("80020000004300000131400000010000000940000009000000000000040000000000"
                           "1a0001000b00030072000000060080004300100800000000000000000000000000")

TIS = 0xFED40000  # PTP 1.05, table 19; a locality has 4 KiB
ACCESS, STS, DATA_FIFO = 0x00, 0x18, 0x24
REQUEST_USE = 0x02
ESTABLISHED_NOT = 0x01  # 0: a hash sequence was completed
COMMAND_READY, GO, DATA_AVAIL = 0x40, 0x20, 0x10
COMMAND_CANCEL, RESET_ESTABLISHMENT = 1 << 24, 1 << 25
CANCELED = 0x909  # TPM_RC_CANCELED


class Bus:
    """QEMU's qtest channel: accesses as a processor makes them, while the machine's own stands still."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.socket.settimeout(PATIENCE)
        self.file = self.socket.makefile("rw", encoding="ascii")

    def ask(self, *words):
        self.file.write(" ".join(words) + "\n")
        self.file.flush()
        answer = self.file.readline().split()
        assert answer and answer[0] == "OK", answer
        return int(answer[1], 16) if len(answer) > 1 else None

    def write(self, locality, register, value, size="b"):
        self.ask(f"write{size}", hex(TIS + 0x1000 * locality + register), hex(value))

    def read(self, locality, register, size="b"):
        return self.ask(f"read{size}", hex(TIS + 0x1000 * locality + register))

    def send(self, locality, command):
        self.write(locality, STS, COMMAND_READY, "l")
        for byte in command:
            self.write(locality, DATA_FIFO, byte)
        self.write(locality, STS, GO, "l")

    def receive(self, locality):
        until = time.monotonic() + PATIENCE
        while not self.read(locality, STS, "l") & DATA_AVAIL:
            if time.monotonic() > until:
                raise AssertionError("no response")
            time.sleep(0.01)
        response = b""
        while self.read(locality, STS, "l") & DATA_AVAIL:
            response += bytes([self.read(locality, DATA_FIFO)])
        self.write(locality, STS, COMMAND_READY, "l")
        return response

    def close(self):
        self.file.close()
        self.socket.close()


class StockQemu(unittest.TestCase):
    def serve(self, *options, instances=1):
        server = Server(*options, instances=instances)
        self.addCleanup(server.end)
        return server

    def machine(self, server, device="tpm-crb", instance=0, options=()):
        options = ["-chardev", f"socket,id=tpm,path={server.instances[instance]['control']}", "-tpmdev",
                   "emulator,id=tpm,chardev=tpm", *options]
        probe = Probe(QEMU, BUILD, [f"{device},tpmdev=tpm"], cores=1, options=options, before=ENVIRONMENT)
        self.addCleanup(probe.close)
        return probe

    def disk(self, server):
        """Options of a disk that can hold snapshots."""
        file = server.folder / "disk"
        subprocess.run([*ENVIRONMENT, STOCK / "usr/bin/qemu-img", "create", "-q", "-f", "qcow2", file, "8M"], check=True)
        return ["-drive", f"file={file},if=none,id=disk"]

    def monitor(self, probe, line):
        return probe.ask_qemu("human-monitor-command", **{"command-line": line}).strip()

    def established(self, server, instance=0):
        """The flag, or None of a TPM that is off."""
        with server.control(instance) as control:
            result, flag = control.control(GET_ESTABLISHED, b"", 4)
        self.assertIn(result, (SUCCESS, BAD_ORDINAL))
        return flag[0] if result == SUCCESS else None

    def command_size(self, server, instance):
        """TPM2_PT_MAX_COMMAND_SIZE."""
        with server.data(instance) as data:
            return int.from_bytes(data.command(b"\x80\x01" + word(22, 0x17A, 6, 0x11E, 1))[-4:], "big")

    def test_linux_uses_the_tpm_resets_it_and_leaves_it_to_the_next(self):
        server = self.serve(instances=2)
        devices = {0: ("tpm-tis", "tpm_tis", 4096), 1: ("tpm-crb", "tpm_crb", 4096 - 0x80)}
        probes = {i: self.machine(server, devices[i][0], i) for i in devices}
        separators = {}
        for i, (_, driver, buffer) in devices.items():
            probe = probes[i]
            probe.wait_ready()
            self.assertEqual(probe.ask("list"), f"1 fed40000,{driver}")
            self.assertEqual(self.command_size(server, i), buffer)
            separators[i] = probe.ask("read", 0, 7)
            self.assertNotIn(separators[i], (ZERO, ONES))  # SeaBIOS has measured
            self.assertEqual(probe.ask("read", 0, 17), ONES)
            self.assertEqual(probe.ask("read", 0, 16), ZERO)
            self.assertEqual(probe.ask("extend", 0, 16, DIGEST), "0")
            self.assertEqual(probe.ask("read", 0, 16), EXTENDED)
            random = [probe.ask("random", 0, 32) for _ in range(2)]
            self.assertEqual([len(one) for one in random], [64, 64])
            self.assertNotEqual(*random)
            probe.ask_qemu("system_reset")
        for i, probe in probes.items():
            probe.wait_ready()
            self.assertEqual(probe.ask("read", 0, 16), ZERO)
            self.assertEqual(probe.ask("read", 0, 7), separators[i])
            self.assertEqual(probe.ask("extend", 0, 16, DIGEST), "0")
            self.assertEqual(self.established(server, i), 0)
            self.assertEqual(probe.power_off(), 0)
            self.assertIsNone(self.established(server, i))
        probe = self.machine(server, "tpm-tis", 1)
        probe.wait_ready()
        self.assertEqual(probe.ask("list"), "1 fed40000,tpm_tis")
        self.assertEqual(probe.ask("read", 0, 16), ZERO)
        self.assertEqual(self.command_size(server, 1), 4096)
        self.assertEqual(probe.power_off(), 0)

    def test_without_the_switch_no_state_leaves(self):
        server = self.serve()
        probe = self.machine(server, options=[*self.disk(server), "-S"])
        self.assertIn("TPM emulator does not support migration", self.monitor(probe, "savevm one"))
        with self.assertRaisesRegex(ProbeFailed, "TPM emulator does not support migration"):
            probe.ask_qemu("migrate", uri=f"unix:{server.folder}/nobody")
        self.assertEqual(self.established(server), 0)

    def test_a_snapshot_comes_back_and_two_restores_share_no_random_bytes(self):
        server = self.serve("--allow-state-export")
        probe = self.machine(server, options=self.disk(server))
        probe.wait_ready()
        probe.ask("extend", 0, 16, DIGEST)
        self.assertEqual(self.monitor(probe, "savevm one"), "")
        probe.ask("extend", 0, 16, DIGEST)
        self.assertNotEqual(probe.ask("read", 0, 16), EXTENDED)
        random = []
        for _ in range(2):
            self.assertEqual(self.monitor(probe, "loadvm one"), "")
            self.assertEqual(probe.ask("read", 0, 16), EXTENDED)
            random.append(probe.ask("random", 0, 32))
        self.assertNotEqual(*random)

    def test_a_migration_takes_the_tpm_to_another_instance(self):
        server = self.serve("--allow-state-export", instances=2)
        source = self.machine(server, "tpm-tis", 0)
        source.wait_ready()
        source.ask("extend", 0, 16, DIGEST)
        where = f"unix:{server.folder}/migration"
        target = self.machine(server, "tpm-tis", 1, ["-incoming", where])
        source.ask_qemu("migrate", uri=where)
        until = time.monotonic() + PATIENCE
        while (status := source.ask_qemu("query-migrate"))["status"] not in ("completed", "failed"):
            self.assertLess(time.monotonic(), until, status)
            time.sleep(0.05)
        self.assertEqual(status["status"], "completed", status)
        self.assertEqual(target.ask("read", 0, 16), EXTENDED)
        self.assertEqual(target.ask("extend", 0, 16, DIGEST), "0")
        source.ask_qemu("quit")
        self.assertEqual(source.process.wait(PATIENCE), 0)
        self.assertIsNone(self.established(server, 0))
        self.assertEqual(self.established(server, 1), 0)
        self.assertEqual(target.power_off(), 0)

    def test_localities_cancel_and_the_established_flag(self):
        server = self.serve("--drtm-by-client")
        qtest = server.folder / "qtest"
        probe = self.machine(server, "tpm-tis", options=["-S", "-qtest", f"unix:{qtest},server=on,wait=off",
                                                         "-qtest-log", "none"])
        with server.control() as control:  # as firmware would be, before it runs
            for request, fields in ((HASH_START, b""), (HASH_DATA, word(3) + b"abc"), (HASH_END, b"")):
                self.assertEqual(control.control(request, fields), SUCCESS)
        with contextlib.closing(Bus(qtest)) as bus:
            self.assertEqual(bus.read(0, ACCESS) & ESTABLISHED_NOT, 0)
            bus.write(3, ACCESS, REQUEST_USE)
            bus.send(3, STARTUP_CLEAR)
            self.assertEqual(code(bus.receive(3)), 0)
            with server.data() as data:
                pcr0 = data.command(pcr_read(0))[-32:]
            start = bytes(31) + b"\x04"  # H-CRTM; Startup's own locality no longer counts
            self.assertEqual(pcr0, hashlib.sha256(start + hashlib.sha256(b"abc").digest()).digest())
            bus.write(3, STS, RESET_ESTABLISHMENT, "l")
            self.assertEqual(bus.read(0, ACCESS) & ESTABLISHED_NOT, ESTABLISHED_NOT)
            self.assertEqual(self.established(server), 0)
            bus.send(3, CREATE_RSA)
            bus.write(3, STS, COMMAND_CANCEL, "l")
            self.assertIn(code(bus.receive(3)), (0, CANCELED))  # it may have been faster
            bus.send(3, pcr_read(0))
            self.assertEqual(bus.receive(3)[-32:], pcr0)
        probe.ask_qemu("system_reset")
        self.assertEqual(self.established(server), 0)
        with server.data() as data:
            self.assertEqual(code(data.command(STARTUP_CLEAR)), 0)  # the reset has power-cycled it
            self.assertEqual(data.command(pcr_read(0))[-32:], bytes(31) + b"\x03")  # QEMU is at its last locality


if __name__ == "__main__":
    import sys
    need(QEMU, check=[*ENVIRONMENT, QEMU, "--version"])
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=2)
