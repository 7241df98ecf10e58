#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""usage: snapshot_test.py BUILD

A plain q35 machine with three vTPM instances is saved, brought back and moved to another process while software uses its
TPM. The software is the payload baremetal_snapshot, which does what is said here over COM1.
"""

import hashlib
import json
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest

BUILD = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build").resolve()
QEMU = BUILD / "bin/qemu-system-x86_64"
PAYLOAD = BUILD / "payloads/baremetal_snapshot"
EXTEND, READ, BEGIN, FINISH, LAUNCH, RANDOM, MANY, SVM_CONTROL, PEND, TAKE = range(1, 11)
LIMIT = 60


def connect(path, process):
    while True:
        s = socket.socket(socket.AF_UNIX)
        try:
            s.connect(str(path))
            s.settimeout(LIMIT)
            with s: # the file keeps the connection
                return s.makefile("rwb")
        except (FileNotFoundError, ConnectionRefusedError):
            s.close()
            if process.poll() is not None:
                raise RuntimeError(f"QEMU ended with {process.returncode}") from None
            time.sleep(0.01)


def extended(pcr, fill, times=1):
    for _ in range(times):
        pcr = hashlib.sha256(pcr + bytes([fill]) * 32).digest()
    return pcr


class Machine:
    def __init__(self, folder, name, *options, key="snapshot-key", hash_rate=0, incoming=False, chip=""):
        self.errors = folder / f"{name}.err"
        firmware = [a for f in (BUILD / "qemu/firmware-dirs").read_text().split() for a in ("-L", f)]
        vtpm = f"banyan-vtpm,id=vtpm,engine={BUILD}/bin/banyan-vtpm-engine,instances=3,hash-rate={hash_rate}{chip}"
        vtpm += f",{key}={folder}/key" if key else ""
        command = [QEMU, *firmware, "-M", "q35,smm=off", "-accel", "tcg", "-cpu", "EPYC,+svm,+skinit", "-smp", "1",
                   "-m", "64M", "-nodefaults", "-no-user-config", "-display", "none", "-kernel", PAYLOAD, "-append", "-",
                   "-chardev", f"socket,id=com1,path={folder}/{name}.com1,server=on,wait=off",
                   "-device", "isa-serial,chardev=com1,index=0",
                   "-qmp", f"unix:{folder}/{name}.qmp,server=on,wait=off", "-device", vtpm, "-S", *options]
        command += ["-incoming", "defer"] if incoming else []
        with open(self.errors, "wb") as errors:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
        self.qmp = connect(folder / f"{name}.qmp", self.process)
        self.qmp.readline()
        self.ask("qmp_capabilities")
        self.com1 = connect(folder / f"{name}.com1", self.process)

    def end(self):
        self.process.terminate()
        self.process.wait()
        self.qmp.close()
        self.com1.close()

    def ask(self, command, **arguments):
        self.qmp.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self.qmp.flush()
        while True:
            answer = json.loads(self.qmp.readline())
            if "error" in answer:
                raise RuntimeError(answer["error"]["desc"])
            if "return" in answer:
                return answer["return"]

    def hmp(self, line):
        return self.ask("human-monitor-command", **{"command-line": line})

    def report(self):
        return json.loads(self.ask("qom-get", path="/machine/peripheral/vtpm", property="report"))

    def status(self):
        return self.ask("query-status")["status"]

    def begin(self):
        self.ask("cont")
        self.hear("ASK ready")

    def hear(self, beginning):
        while True:
            line = self.com1.readline().decode(errors="replace").strip()
            if not line:
                raise RuntimeError("the machine says nothing: " + self.errors.read_text())
            if line.startswith(beginning):
                return line[len(beginning):].strip()
            if line.startswith(("FAIL", "ERROR", "STOP")):
                raise RuntimeError(line)

    def order(self, verb, argument=0):
        self.com1.write(f"{verb * 1000 + argument}\n".encode())
        self.com1.flush()

    def obey(self, verb, argument=0):
        self.order(verb, argument)
        return int(self.hear("ASK done"))

    def pcr(self):
        return b"".join(self.obey(READ, i).to_bytes(8, "big") for i in range(4))

    def migrate(self, uri):
        self.ask("migrate", uri=uri)

    def wait_migration(self):
        while True:
            state = self.ask("query-migrate").get("status")
            if state in ("completed", "failed", "cancelled"):
                return state
            time.sleep(0.02)

    def receive(self, uri):
        self.ask("migrate-incoming", uri=uri)

    def add_disk(self, file):
        """A qcow2 image for snapshots."""
        self.job("blockdev-create", options={"driver": "file", "filename": str(file), "size": 0})
        self.ask("blockdev-add", driver="file", filename=str(file), **{"node-name": "file0"})
        self.job("blockdev-create", options={"driver": "qcow2", "file": "file0", "size": 1 << 20})
        self.ask("blockdev-add", driver="qcow2", file="file0", **{"node-name": "disk0"})

    def job(self, command, **arguments):
        self.ask(command, **{"job-id": "job"}, **arguments)
        while True:
            (job,) = self.ask("query-jobs")
            if job["status"] == "concluded":
                self.ask("job-dismiss", id="job")
                return job.get("error")
            time.sleep(0.01)

    def save(self, tag):
        return self.job("snapshot-save", tag=tag, vmstate="disk0", devices=["disk0"])

    def load(self, tag):
        error = self.job("snapshot-load", tag=tag, vmstate="disk0", devices=["disk0"])
        if error is None:
            self.ask("cont")
        return error


class Snapshots(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="banyan-snapshot-"))
        (self.dir / "key").write_bytes(bytes(range(32)))
        self.machines = []

    def tearDown(self):
        for machine in self.machines:
            machine.end()
        shutil.rmtree(self.dir)

    def machine(self, name, *options, **more):
        machine = Machine(self.dir, name, *options, **more)
        self.machines.append(machine)
        return machine

    def test_loadvm_brings_the_pcrs_of_the_snapshot_back(self):
        m = self.machine("a")
        m.add_disk(self.dir / "disk")
        m.begin()
        self.assertEqual(m.obey(EXTEND, 1), 0)
        self.assertIsNone(m.save("one"))
        m.ask("cont")
        self.assertEqual(m.obey(EXTEND, 2), 0)
        self.assertEqual(m.pcr(), extended(extended(bytes(32), 1), 2))
        random = []
        for restores in 1, 2:
            self.assertIsNone(m.load("one"))
            self.assertEqual(m.report()["instances"][0]["restores"], restores)
            self.assertEqual(m.pcr(), extended(bytes(32), 1))
            random += [m.obey(RANDOM) for _ in range(4)]
            self.assertEqual(m.obey(EXTEND, 3), 0)
            self.assertEqual(m.pcr(), extended(extended(bytes(32), 1), 3))
        self.assertEqual(len(set(random)), 8) # two lives of one snapshot
        self.assertEqual([i["state"] for i in m.report()["instances"]], ["ready", "off", "off"])

    def test_a_migrated_machine_goes_on_in_the_middle_of_a_command(self):
        a, b = self.machine("a"), self.machine("b", incoming=True)
        a.begin()
        self.assertEqual(a.obey(EXTEND, 1), 0)
        self.assertEqual(a.obey(SVM_CONTROL, 1), 2)
        self.assertEqual(a.obey(BEGIN, 7), 0)
        uri = f"unix:{self.dir}/stream"
        b.receive(uri)
        a.migrate(uri)
        self.assertEqual(a.wait_migration(), "completed")
        b.ask("cont")
        self.assertEqual(b.obey(FINISH), 0)
        self.assertEqual(b.pcr(), extended(extended(bytes(32), 1), 7))
        self.assertEqual(b.obey(SVM_CONTROL), 2) # R_INIT came along
        self.assertEqual(b.report()["instances"][0]["restores"], 1)

    def test_an_interrupt_that_nobody_has_taken_comes_in_the_next_machine(self):
        a, b = self.machine("a", chip=",irq=5"), self.machine("b", incoming=True, chip=",irq=5")
        a.begin()
        self.assertEqual(a.obey(PEND), 1)
        uri = f"unix:{self.dir}/stream"
        b.receive(uri)
        a.migrate(uri)
        self.assertEqual(a.wait_migration(), "completed")
        b.ask("cont")
        self.assertEqual(b.obey(TAKE), 1) # the line is up, and goes down when it is told to
        self.assertEqual(b.obey(TAKE), 0)

    def test_loadvm_brings_the_line_of_the_snapshot_back(self):
        m = self.machine("a", chip=",irq=5")
        m.add_disk(self.dir / "disk")
        m.begin()
        self.assertIsNone(m.save("down"))
        m.ask("cont")
        self.assertEqual(m.obey(PEND), 1)
        self.assertIsNone(m.save("up"))
        m.ask("cont")
        self.assertEqual(m.obey(TAKE), 1)
        self.assertIsNone(m.load("up"))
        self.assertEqual(m.obey(TAKE), 1)
        self.assertIsNone(m.load("up"))
        self.assertIsNone(m.load("down"))
        self.assertEqual(m.obey(TAKE), 0)

    def test_a_line_that_rises_while_the_machine_is_saved_is_up_in_the_snapshot(self):
        m = self.machine("a", chip=",irq=5")
        m.add_disk(self.dir / "disk")
        m.begin()
        self.assertEqual(m.obey(PEND, 1), 0) # it ends when it is waited for: the interrupt controller is saved by then
        self.assertIsNone(m.save("one"))
        for _ in range(2): # over a line that is up, and over one that is down
            self.assertIsNone(m.load("one"))
            self.assertEqual(m.obey(TAKE), 1)

    def test_an_instance_with_another_setup_does_not_load(self):
        setup = "banyan-vtpm-setup,instance=1,banks=sha256,did-vid=0x12341014"
        a = self.machine("a", "-device", setup, "-device", "banyan-vtpm-window,instance=2,banks=sha384")
        a.begin()
        a.migrate(f"exec:cat > {self.dir}/state")
        self.assertEqual(a.wait_migration(), "completed")
        for name, mine, window in (
                ("interface", setup + ",interface=crb", ",banks=sha384"),
                ("banks", "banyan-vtpm-setup,instance=1,banks=sha384,did-vid=0x12341014", ",banks=sha384"),
                ("did", "banyan-vtpm-setup,instance=1,banks=sha256", ",banks=sha384"),
                ("window", setup, ""),
                ("irq", setup, ",banks=sha384,irq=6"),
        ):
            b = self.machine(name, "-device", mine, "-device", "banyan-vtpm-window,instance=2" + window, incoming=True)
            b.receive(f"exec:cat {self.dir}/state")
            b.process.wait(LIMIT)
            self.assertNotEqual(b.process.returncode, 0, name)
            number = 2 if name in ("window", "irq") else 1
            self.assertIn(f"instance {number}: it was saved with another interface, DID/VID or window, other banks or "
                          "interrupts", b.errors.read_text())
        b = self.machine("same", "-device", setup, "-device", "banyan-vtpm-window,instance=2,banks=sha384", incoming=True)
        b.receive(f"exec:cat {self.dir}/state")
        while b.status() == "inmigrate":
            time.sleep(0.02)
        b.ask("cont")
        self.assertEqual(b.obey(EXTEND, 1), 0)

    def begin_many(self, machine, hundreds):
        machine.begin()
        before = machine.report()["instances"][0]["commands"]
        machine.order(MANY, hundreds)
        while machine.report()["instances"][0]["commands"] < before + 20:
            time.sleep(0.001)

    def test_a_move_under_load_loses_no_answered_extend(self):
        a, b = self.machine("a"), self.machine("b", incoming=True)
        self.begin_many(a, 80)
        uri = f"unix:{self.dir}/stream"
        b.receive(uri)
        a.migrate(uri)
        self.assertEqual(a.wait_migration(), "completed")
        b.ask("cont")
        self.assertEqual(int(b.hear("ASK done")), 8000) # the program was told that each succeeded
        self.assertEqual(b.pcr(), extended(bytes(32), 0x33, 8000))
        self.assertGreater(b.report()["instances"][0]["commands"], 10) # and it was in the middle

    def test_a_snapshot_under_load_loses_no_answered_extend(self):
        m = self.machine("a")
        m.add_disk(self.dir / "disk")
        self.begin_many(m, 40)
        self.assertIsNone(m.save("one"))
        before = m.report()["instances"][0]["commands"]
        self.assertEqual(int(m.hear("ASK done")), 4000)
        end = extended(bytes(32), 0x33, 4000)
        self.assertEqual(m.pcr(), end)
        self.assertGreater(m.report()["instances"][0]["commands"], before + 10) # it was in the middle
        for _ in range(2):
            self.assertIsNone(m.load("one")) # its loop goes on from there
            self.assertEqual(int(m.hear("ASK done")), 4000)
            self.assertEqual(m.pcr(), end)

    def test_a_machine_goes_on_from_a_file_more_than_once(self):
        a = self.machine("a")
        a.begin()
        self.assertEqual(a.obey(EXTEND, 1), 0)
        a.ask("stop")
        a.migrate(f"exec:cat > {self.dir}/state")
        self.assertEqual(a.wait_migration(), "completed")
        random = []
        for name in "b", "c":
            m = self.machine(name, incoming=True)
            m.receive(f"exec:cat {self.dir}/state")
            while m.status() == "inmigrate":
                time.sleep(0.02)
            m.ask("cont")
            self.assertEqual(m.pcr(), extended(bytes(32), 1))
            random += [m.obey(RANDOM) for _ in range(4)]
        self.assertEqual(len(set(random)), 8)

    def test_an_open_launch_is_neither_saved_nor_moved(self):
        m = self.machine("a", hash_rate=128) # of 512 bytes
        m.add_disk(self.dir / "disk")
        m.begin()
        m.order(LAUNCH)
        while not m.report()["instances"][0]["launch_open"]:
            time.sleep(0.01)
        self.assertIn("a launch is open", m.hmp("savevm one"))
        with self.assertRaisesRegex(RuntimeError, "a launch is open"):
            m.migrate(f"file:{self.dir}/state")
        self.assertEqual(int(m.hear("ASK done")), 0)
        self.assertEqual(m.obey(EXTEND, 1), 0)
        self.assertIsNone(m.save("one")) # it has ended
        m.ask("cont")
        self.assertEqual(m.pcr(), extended(bytes(32), 1))

    def test_a_launch_that_opens_meanwhile_makes_the_migration_fail(self):
        m = self.machine("a", hash_rate=128)
        m.begin()
        m.ask("migrate-set-parameters", **{"max-bandwidth": 4096})
        m.migrate(f"exec:cat > {self.dir}/state")
        m.order(LAUNCH)
        while not m.report()["instances"][0]["launch_open"]:
            time.sleep(0.01)
        m.ask("migrate-set-parameters", **{"max-bandwidth": 1 << 30})
        self.assertEqual(m.wait_migration(), "failed")
        self.assertIn("a launch is open", m.errors.read_text())
        self.assertEqual(int(m.hear("ASK done")), 0) # and goes on where it was
        self.assertEqual(m.obey(EXTEND, 1), 0)

    def test_domains_are_neither_saved_nor_moved(self):
        m = self.machine("a", "-device", "banyan-domains")
        m.add_disk(self.dir / "disk")
        sentence = "a domain's launch belongs to this machine"
        self.assertIn(sentence, m.hmp("savevm one"))
        with self.assertRaisesRegex(RuntimeError, sentence):
            m.migrate(f"file:{self.dir}/state")

    def test_without_a_key_nothing_is_saved(self):
        m = self.machine("a", key=None)
        m.add_disk(self.dir / "disk")
        self.assertIn("snapshot-key=FILE", m.hmp("savevm one"))
        with self.assertRaisesRegex(RuntimeError, "snapshot-key=FILE"):
            m.migrate(f"file:{self.dir}/state")

    def test_a_foreign_or_changed_state_is_refused(self):
        a = self.machine("a")
        a.begin()
        a.migrate(f"exec:cat > {self.dir}/state")
        self.assertEqual(a.wait_migration(), "completed")
        good = (self.dir / "state").read_bytes()
        at = good.index(b"BANYANSN") # the buffer in the stream; its size stands before it
        self.assertEqual(good.count(b"BANYANSN"), 1)
        for name, change, sentence in (
                ("text", lambda s: s[:at + 400] + bytes([s[at + 400] ^ 1]) + s[at + 401:], "changed, or sealed by another"),
                ("count", lambda s: s[:at + 12] + b"\x04" + s[at + 13:], "vTPM with 4 instances"),
                ("size", lambda s: s[:at - 4] + b"\x7f" + s[at - 3:], "size"),
                ("short", lambda s: s[:at + 500], ""),
        ):
            (self.dir / "changed").write_bytes(change(good))
            b = self.machine("b" + name, incoming=True)
            b.receive(f"exec:cat {self.dir}/changed")
            b.process.wait(LIMIT) # QEMU ends when an incoming state is bad
            self.assertNotEqual(b.process.returncode, 0)
            self.assertNotIn(b"terminated", b.errors.read_bytes())
            self.assertIn(sentence, b.errors.read_text())
        (self.dir / "key").write_bytes(bytes(32))
        b = self.machine("foreign", incoming=True)
        b.receive(f"exec:cat {self.dir}/state")
        b.process.wait(LIMIT)
        self.assertIn("sealed by another platform", b.errors.read_text())

    def test_a_snapshot_that_does_not_load_leaves_a_machine_that_can_be_reset(self):
        m = self.machine("a")
        m.add_disk(self.dir / "disk")
        m.begin()
        self.assertIsNone(m.save("one"))
        disk = (self.dir / "disk").read_bytes()
        at = disk.rindex(b"BANYANSP")
        with open(self.dir / "disk", "r+b") as file:
            file.seek(at + 200)
            file.write(b"bad")
        self.assertIsNotNone(m.load("one"))
        self.assertIn("changed, or sealed by another platform", m.errors.read_text())
        m.ask("system_reset")
        m.begin()
        self.assertEqual(m.pcr(), bytes(32))
        self.assertEqual(m.obey(EXTEND, 1), 0)


if __name__ == "__main__":
    if not QEMU.exists() or not PAYLOAD.exists():
        print(f"SKIP: there is no {QEMU} or no {PAYLOAD}")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1] + sys.argv[2:], verbosity=2)
