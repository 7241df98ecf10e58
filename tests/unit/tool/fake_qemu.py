#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Stands in for QEMU with hypervisor and VMs: takes QEMU's command line, connects the sockets that it names, speaks
QMP, the management protocol and the agents' lines. FAKE in the environment is a JSON object that says what goes wrong:

  "qemu":        "refuse" (ends at once with a message), "no-connect", "segv" or "kill" (when the VMs have started)
  "hypervisor":  "silent", "noise", "bad-crc", "refuse-create", "one-core", "deaf" (answers no status)
  "vms":         by domain: "no-launch", "silent", "failed", "noise", "escape", "unasked", "early" (ends before
                 evidence), "reboot" (once, before evidence), "deaf" (does not end)
"""

import io
import json
import os
import re
import signal
import socket
import struct
import sys
import tarfile
import threading
import time
import zlib

FAKE = json.loads(os.environ.get("FAKE", "{}"))
MAGIC, VERSION = 0x4D594E42, 1
HELLO, CREATE, DELETE, START, STOP, STATUS = range(6)
EMPTY, BUILDING, SEALED, RUNNING, STOPPING, DIRTY = range(6)
POWEROFF, REBOOT, SHUTDOWN, STOPPED = 1, 2, 3, 4
BAD_STATE, REFUSED = 4, 5


class Domain:
    def __init__(self):
        self.state = EMPTY
        self.reason = 0
        self.starts = 0
        self.launches = 0


domains = {d: Domain() for d in range(1, 16)}


def arguments(option):
    return [value for name, value in zip(sys.argv, sys.argv[1:]) if name == option]


def connect(path):
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(path)
    return peer


def exact(peer, size):
    data = b""
    while len(data) < size:
        piece = peer.recv(size - len(data))
        if not piece:
            sys.exit(0)
        data += piece
    return data


def qmp(peer):
    stream = peer.makefile("rwb")

    def say(message):
        stream.write(json.dumps(message).encode() + b"\r\n")
        stream.flush()

    say({"QMP": {"version": {}}})
    for line in stream:
        request = json.loads(line)
        command = request["execute"]
        if command == "quit":
            os._exit(0)
        say({"event": "NOISE", "data": {"id": request.get("id")}})
        if command == "query-version":
            answer = {"qemu": {"major": 10, "minor": 0, "micro": 99}, "package": "fake"}
        elif command == "qom-get":
            answer = json.dumps({"insecure": 0, "virtual_ns": 1500000000, "domains": [
                {"domain": number, "name": "x", "launch": {"start_ns": 1, "hash_start_ns": 2, "hash_end_ns": 3,
                                                           "entry_ns": 1000001, "wait_for_other_domain_ns": 0},
                 "exits": {"running": 0, "final": 1},
                 "denied": {"port": 5, "mmio": 0, "interrupt": 0, "msr": 0, "dma": 0}}
                for number, domain in domains.items() if domain.starts]})
        else:
            answer = {}
        say({"return": answer, "id": request.get("id")})


def frame(kind, sequence, payload=b"", result=0, detail=0):
    def header(crc):
        return struct.pack("<IHHIIIII", MAGIC, VERSION, kind, sequence, result, detail, len(payload), crc)

    crc = zlib.crc32(header(0) + payload)
    if FAKE.get("hypervisor") == "bad-crc":
        crc ^= 1
    return header(crc) + payload


def serve_create(payload):
    number = struct.unpack_from("<I", payload)[0]
    if FAKE.get("hypervisor") == "refuse-create":
        return b"", REFUSED, 4
    domain = domains[number]
    if domain.state != EMPTY or payload[80:84] != b"BNYV":
        return b"", BAD_STATE, 0
    domain.state = SEALED
    domain.reason = domain.launches = 0
    domain.starts += 1
    return b"receipt", 0, 0


def serve(kind, payload, agents):
    if kind == CREATE:
        return serve_create(payload)
    if kind == DELETE:
        domain = domains[struct.unpack_from("<I", payload)[0]]
        if domain.state != DIRTY:
            return b"", BAD_STATE, 0
        domain.state = EMPTY
        return b"", 0, 0
    if kind == START:
        mask = struct.unpack("<Q", payload)[0]
        for number, domain in domains.items():
            if mask >> number & 1:
                domain.state = RUNNING
                threading.Thread(target=vm, args=(number, agents[number]), daemon=True).start()
        if FAKE.get("qemu") == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if FAKE.get("qemu") == "segv":
            os.kill(os.getpid(), signal.SIGSEGV)
        return b"", 0, 0
    if kind == STOP:
        end(struct.unpack_from("<I", payload)[0], STOPPED)
        return b"", 0, 0
    out = bytearray(32 * 16)
    for number, domain in domains.items():
        struct.pack_into("<IIQQQ", out, 32 * number, domain.state, domain.reason, domain.starts, domain.launches, 0)
    return bytes(out), 0, 0


def hypervisor(peer, agents, cores):
    how = FAKE.get("hypervisor")
    time.sleep(0.05)
    if how == "silent":
        time.sleep(3600)
    if how == "noise":
        peer.sendall(b"SeaBIOS (version 1.16)\r\n" * 4)
        time.sleep(3600)
    seen = 1 if how == "one-core" else cores - 1
    peer.sendall(frame(HELLO, 0, struct.pack("<IIII", 9, seen, 1, 0)))
    while True:
        header = exact(peer, 28)
        magic, _, kind, sequence, _, _, length, _ = struct.unpack("<IHHIIIII", header)
        assert magic == MAGIC
        payload = exact(peer, length)
        if how == "deaf" and kind == STATUS:
            continue
        answer, result, detail = serve(kind, payload, agents)
        peer.sendall(frame(kind | 0x8000, sequence, answer, result, detail))


def end(number, reason):
    domains[number].reason = reason
    domains[number].state = DIRTY


def archive(nonce, escape):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in (("ak.pem", b"no key"), ("nonce", nonce), ("../escaped" if escape else "quote.msg", b"q")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def vm(number, peer):
    how = FAKE.get("vms", {}).get(str(number), "")
    domain = domains[number]
    stream = peer.makefile("rb")
    if how == "no-launch":
        return
    time.sleep(0.1)
    domain.launches += 1
    if how == "silent":
        return
    if how == "early" or (how == "reboot" and domain.starts == 1):
        end(number, REBOOT if how == "reboot" else SHUTDOWN)
        return
    if how == "noise":
        peer.sendall(b"\x00\xff[    0.000000] Linux version\n")
        return
    if how == "unasked":
        peer.sendall(b"evidence 3\nabcdone\n")
        return
    peer.sendall(b"ready\n")
    for line in stream:
        words = line.decode().split()
        if words[0] == "attest" and how == "failed":
            peer.sendall(b"failed no TPM here\n")
        elif words[0] == "attest":
            data = archive(bytes.fromhex(words[1]), how == "escape")
            peer.sendall(b"evidence %d\n" % len(data) + data + b"done\n")
        elif how != "deaf":
            time.sleep(0.05)
            end(number, {"poweroff": POWEROFF, "reboot": REBOOT, "panic": REBOOT}[words[0]])
            return


def main():
    if FAKE.get("qemu") == "refuse":
        print("qemu: -device banyan-vtpm: not a valid device", file=sys.stderr)
        sys.exit(1)
    if FAKE.get("qemu") == "no-connect":
        time.sleep(3600)
    paths = {match[1]: match[2] for match in
             (re.match(r"socket,id=([^,]+),path=([^,]+)", value) for value in arguments("-chardev")) if match}
    if os.environ.get("FAKE_CHILD"):  # something that outlives QEMU if nobody looks after it
        if os.fork() == 0:
            os.setsid()
            with open(os.environ["FAKE_CHILD"], "w", encoding="ascii") as file:
                file.write(str(os.getpid()))
            time.sleep(3600)
    control = connect(paths["qmp"])
    management = connect(paths["mgmt"])
    agents = {int(name[5:]): connect(path) for name, path in paths.items() if name.startswith("agent")}
    threading.Thread(target=qmp, args=(control,), daemon=True).start()
    hypervisor(management, agents, int(arguments("-smp")[0]))


main()
