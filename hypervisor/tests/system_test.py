#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The hypervisor on a machine, over its real management line.

system_test.py SUITE QEMU HYPERVISOR PAYLOAD [ENGINE]

unlaunched   a machine like the distribution's: no SKINIT, no domain table. Every request gets an answer and none hangs.
domains      the custom QEMU: launched; domains are created, started together, end in each way, are stopped, deleted.

Exit status: 0 passed, 1 failed, 77 skipped (prints why).
"""
import hashlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(__file__))
import management as m
from management import Management

MIB = 1 << 20
PAYLOAD, DATA = 0x20000, 0x50000


class Machine:
    def __init__(self, qemu, hypervisor, payload, cores, arguments):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="banyan-hv-"))
        (self.dir / "data").write_bytes(b"data" * 2500)
        line = self.dir / "management.sock"
        command = [qemu, "-machine", "q35,smm=off", "-accel", "tcg", "-m", "2g", "-smp", str(cores), "-nodefaults",
                   "-display", "none", "-no-reboot", "-serial", f"unix:{line},server=on,wait=on",
                   "-qmp", f"unix:{self.dir}/qmp.sock,server=on,wait=off",
                   "-debugcon", f"file:{self.dir}/debug.log", "-kernel", hypervisor,
                   "-initrd", f"{payload} payload,{self.dir}/data data", *arguments]
        with open(self.dir / "qemu.log", "w") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self.management = Management(str(line))
        except OSError:
            self.close(keep=True)
            raise

    def report(self, device):
        with socket.socket(socket.AF_UNIX) as qmp:
            qmp.connect(f"{self.dir}/qmp.sock")
            stream = qmp.makefile("rw")
            stream.readline()
            for command in ({"execute": "qmp_capabilities"},
                            {"execute": "qom-get", "arguments": {"path": device, "property": "report"}}):
                stream.write(json.dumps(command) + "\n")
                stream.flush()
                answer = json.loads(stream.readline())
        return json.loads(answer["return"])

    def close(self, keep=False):
        self.process.terminate()
        self.process.wait()
        if keep:
            for name in ("qemu.log", "debug.log"):
                path = self.dir / name
                text = path.read_text(errors="replace") if path.exists() else ""
                lines = [l for l in text.splitlines() if "TCG doesn't support" not in l]
                print(f"--- {name}\n" + "\n".join(lines[-40:]))
        shutil.rmtree(self.dir)


def expect(condition, *what):
    if not condition:
        raise AssertionError(" ".join(str(w) for w in what))


def domain(number, action, cores=None, argument=0, share=None):
    """Domain n: core n, 640 KiB and 64 MiB of RAM, the bus behind 00:(3 + n).0."""
    cores = cores or [number]
    share = share or number
    return m.descriptor(
        f"vm-{number}", cores, cores[0], number,
        ranges=[(0, 0x10000000 + share * MIB, 0xA0000), (MIB, 0x20000000 + share * 64 * MIB, 63 * MIB)],
        windows=[(0xB0000000 + (0x10 + share) * MIB, MIB), (0xC0000000 + share * 32 * MIB, 32 * MIB)],
        root_ports=[((3 + share) << 3, 0x10 + share)], entry=(PAYLOAD, action, number, argument))


PLACEMENTS = [("payload", PAYLOAD), ("data", DATA)]


def malformed_frames(line):
    good = Management.frame(m.STATUS)
    cases = {
        "garbage": b"garbage" * 9,
        "one byte": b"B",
        "half a header": good[:14],
        "magic": Management.frame(m.STATUS, magic=m.MAGIC + 1),
        "version": Management.frame(m.STATUS, version=2),
        "result": Management.frame(m.STATUS, result=1),
        "detail": Management.frame(m.STATUS, detail=1),
        "crc": good[:-1] + bytes([good[-1] ^ 1]),
        "length, too long": Management.frame(m.STATUS, length=4097),
        "length, nothing behind": Management.frame(m.STATUS, length=100),
        "payload of a request without": Management.frame(m.STATUS, b"x"),
        "payload too short": Management.frame(m.CREATE, bytes(1527)),
        "payload too long": Management.frame(m.START, bytes(9)),
    }
    for name, data in cases.items():
        line.socket.sendall(data)
        answer = line.receive()
        expect(answer.result == m.BAD_FRAME and not answer.payload, name, answer)
    for unknown in (m.HELLO, 6, 0x7FFF, 0x8005):
        line.socket.sendall(Management.frame(unknown))
        answer = line.receive()
        expect(answer.result == m.UNKNOWN, "type", unknown, answer)


def firmware_of(qemu):
    """Where a QEMU that was built here finds it; one of a distribution knows."""
    folders = pathlib.Path(qemu).absolute().parent.parent / "qemu/firmware-dirs"
    return [word for folder in (folders.read_text().split() if folders.exists() else []) for word in ("-L", folder)]


def unlaunched(qemu, hypervisor, payload):
    machine = Machine(qemu, hypervisor, payload, 3, ["-cpu", "EPYC", *firmware_of(qemu)])
    keep = True
    try:
        line = machine.management
        expect(line.hello() == (2, 2, 0, 0), "hello")
        malformed_frames(line)
        for answer in (line.create(1, domain(1, 0), PLACEMENTS), line.start(1), line.stop(1), line.delete(1),
                       line.ask(m.STATUS)):
            expect(answer.result == m.REFUSED and answer.detail == 6, answer)
        keep = False
    finally:
        machine.close(keep)


def ended(line, number, reason, exit_code):
    deadline = time.monotonic() + 20
    while True:
        state, why, _, _, code = line.status(number)
        if state == m.DIRTY and code != 0:
            break
        expect(time.monotonic() < deadline, f"domain {number} did not end: state {state}, reason {why}")
        time.sleep(0.02)
    expect((why, code) == (reason, exit_code), f"domain {number}: reason {why}, exit code {code:#x}")


def create(line, number, *arguments, **named):
    answer = line.create(number, domain(number, *arguments, **named), PLACEMENTS)
    expect(answer.result == m.OK, "create", number, answer)
    return answer.payload


def domains(qemu, hypervisor, payload, engine):
    arguments = ["-cpu", "EPYC,-hypervisor,+invtsc,+skinit", "-device", f"banyan-vtpm,instances=7,engine={engine}",
                 "-device", "banyan-domains,id=domains"]
    arguments += firmware_of(qemu)
    for n in range(1, 5):
        arguments += ["-device", f"pcie-root-port,id=rp{n},bus=pcie.0,addr={3 + n:#x}.0,chassis={n},slot={n}",
                      "-device", f"virtio-serial-pci,bus=rp{n},addr=0.0"]
    machine = Machine(qemu, hypervisor, payload, 7, arguments)
    keep = True
    try:
        line = machine.management
        step = Steps()
        expect(line.hello() == (2, 6, 1, 0), "hello")
        measured = pathlib.Path(hypervisor).with_suffix(".slb").read_bytes()
        launch = machine.report("domains")["host"]["launch"]
        expect(launch["slb_sha384"] == hashlib.sha384(measured).hexdigest(), "not what hypervisor.slb says", launch)
        step("launched by SKINIT over the bytes of hypervisor.slb")
        malformed_frames(line)
        expect(all(line.status(n)[0] == m.EMPTY for n in range(1, 16)), "a frame that is none changed something")
        step("malformed frames change nothing")

        receipts = [create(line, n, 0) for n in range(1, 5)]
        expect(all(receipts) and len(set(receipts)) == 4, "receipts", receipts)
        expect(all(line.status(n)[0] == m.SEALED for n in range(1, 5)), "not sealed")
        step("four domains created, with receipts")
        answer = line.create(5, domain(5, 0, share=1), PLACEMENTS)
        expect((answer.result, answer.detail) == (m.REFUSED, 4), "overlap", answer)
        answer = line.create(1, domain(1, 0), PLACEMENTS)
        expect(answer.result in (m.BAD_STATE, m.REFUSED) and line.status(1)[0] == m.SEALED, "created twice", answer)
        expect(line.delete(1).result == m.BAD_STATE, "deleted while sealed")
        expect(line.start(1, 5).result == m.BAD_STATE and line.status(1)[0] == m.SEALED, "started with an empty one")
        step("overlap and wrong states refused")
        expect(line.start(1, 2, 3, 4).result == m.OK, "start")
        for n in range(1, 5):
            ended(line, n, m.POWEROFF, m.DOMAIN_STOP)
        step("four started at once, each powered itself off")
        for n in range(1, 5):
            expect(line.delete(n).result == m.OK and line.status(n)[0] == m.EMPTY, "delete")
        step("deleted")

        create(line, 1, 1)
        create(line, 2, 2)
        create(line, 3, 3)
        create(line, 4, 4)
        expect(line.start(1, 2, 3, 4).result == m.OK, "start")
        ended(line, 1, m.REBOOT, m.DOMAIN_STOP)
        ended(line, 2, m.SHUTDOWN, m.VMEXIT_SHUTDOWN)
        expect(line.status(3)[0] == line.status(4)[0] == m.RUNNING, "another domain's end disturbed one")
        step("second life of all four cores; reboot and triple fault end only their own domain")
        expect(line.start(3).result == m.BAD_STATE, "started twice")
        expect(line.stop(4).result == m.OK, "stop")
        ended(line, 4, m.STOPPED, m.DOMAIN_STOP)
        expect(line.status(3)[0] == m.RUNNING, "a stop disturbed another")
        expect(line.stop(3).result == m.OK, "stop")
        ended(line, 3, m.STOPPED, m.DOMAIN_STOP)
        expect(line.stop(3).result == m.BAD_STATE, "stopped twice")
        step("stopped in CLI HLT and in a CLI loop")
        for n in range(1, 5):
            expect(line.delete(n).result == m.OK, "delete")

        create(line, 1, 5, cores=[1, 5], argument=5)
        create(line, 2, 6)
        create(line, 3, 7, argument=0xB0000000 + 0x13 * MIB)
        expect(line.start(1, 2, 3).result == m.OK, "start")
        for n in range(1, 4):
            ended(line, n, m.POWEROFF, m.DOMAIN_STOP)
            expect(line.delete(n).result == m.OK, "delete")
        step("a second core joins by SIPI; an end before the gate; the own bus is as it should be")

        create(line, 1, 3)
        expect(line.stop(1).result == m.OK and line.status(1)[0] == m.DIRTY, "stop while sealed")
        expect(line.delete(1, erase=1).result == m.OK, "erase")
        expect(line.status(1)[0] == m.EMPTY, "erase")
        step("stopped while sealed, erased")
        keep = False
    finally:
        machine.close(keep)


class Steps:
    def __init__(self):
        self.since = time.monotonic()

    def __call__(self, text):
        now = time.monotonic()
        print(f"ok {text} ({now - self.since:.2f} s)", flush=True)
        self.since = now


def main():
    suite, qemu, *files = sys.argv[1:]
    for path in (qemu, *files):
        if not shutil.which(path) and not os.path.exists(path):
            print(f"SKIP: {path} is not there (target qemu, or a package, builds or brings it)")
            return 77
    {"unlaunched": unlaunched, "domains": domains}[suite](qemu, *files)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (AssertionError, EOFError, OSError) as error:
        print(f"FAIL: {error}")
        sys.exit(1)
