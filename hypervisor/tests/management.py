# SPDX-License-Identifier: GPL-2.0-or-later
"""The management protocol (docs/spec/management.md) and the descriptor (docs/spec/domain-table.md) in Python."""
import socket
import struct
import time
import zlib

MAGIC = 0x4D594E42
HELLO, CREATE, DELETE, START, STOP, STATUS = range(6)
RESPONSE = 0x8000
OK, BAD_FRAME, UNKNOWN, BAD_FIELD, BAD_STATE, REFUSED, NO_MODULE, NO_MEMORY, NO_CORE = range(9)
EMPTY, BUILDING, SEALED, RUNNING, STOPPING, DIRTY = range(6)
POWEROFF, REBOOT, SHUTDOWN, STOPPED, SIBLING, RESET = range(1, 7)
DOMAIN_STOP, VMEXIT_SHUTDOWN = 0x0BAD0001, 0x7F
HEADER = struct.Struct("<IHHIIII")


class Answer:
    def __init__(self, fields, payload):
        _, self.version, self.type, self.sequence, self.result, self.detail, _ = fields
        self.payload = payload

    def __repr__(self):
        return f"type {self.type:#x} result {self.result} detail {self.detail} ({len(self.payload)} bytes)"


class Management:
    def __init__(self, path, timeout=30):
        self.sequence = 0
        deadline = time.monotonic() + timeout
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(path)
                break
            except OSError:
                self.socket.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self.socket.settimeout(timeout)

    def close(self):
        self.socket.close()

    def read(self, size):
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise EOFError("the machine is gone")
            data += piece
        return data

    def receive(self):
        head = self.read(HEADER.size)
        crc, = struct.unpack("<I", self.read(4))
        fields = HEADER.unpack(head)
        payload = self.read(fields[6])
        assert fields[0] == MAGIC, "magic"
        assert zlib.crc32(head + bytes(4) + payload) == crc, "CRC"
        return Answer(fields, payload)

    @staticmethod
    def frame(type_, payload=b"", sequence=1, **change):
        fields = dict(magic=MAGIC, version=1, type=type_, sequence=sequence, result=0, detail=0, length=len(payload))
        fields.update(change)
        head = HEADER.pack(*fields.values())
        return head + struct.pack("<I", zlib.crc32(head + bytes(4) + payload)) + payload

    def ask(self, type_, payload=b""):
        self.sequence += 1
        self.socket.sendall(self.frame(type_, payload, self.sequence))
        answer = self.receive()
        assert answer.type == type_ | RESPONSE and answer.sequence == self.sequence, answer
        return answer

    def hello(self):
        answer = self.receive()
        assert answer.type == HELLO
        return struct.unpack("<4I", answer.payload)

    def create(self, domain, descriptor, placements, nonce=b"nonce"):
        payload = struct.pack("<IIII", domain, len(placements), len(nonce), 0) + nonce.ljust(64, b"\0") + descriptor
        for name, gpa in placements:
            payload += struct.pack("<32sQ", name.encode(), gpa)
        return self.ask(CREATE, payload.ljust(16 + 64 + 840 + 16 * 40, b"\0"))

    def start(self, *domains):
        return self.ask(START, struct.pack("<Q", sum(1 << d for d in domains)))

    def stop(self, domain):
        return self.ask(STOP, struct.pack("<II", domain, 0))

    def delete(self, domain, erase=0):
        return self.ask(DELETE, struct.pack("<II", domain, erase))

    def status(self, domain):
        """state, reason, start count, launch count, exit code"""
        answer = self.ask(STATUS)
        assert answer.result == OK and len(answer.payload) == 512, answer
        return struct.unpack_from("<IIQQQ", answer.payload, domain * 32)


def descriptor(name, cores, boot_core, instance, ranges, windows=(), root_ports=(), ports=(), msrs=(), entry=(0, 0, 0, 0),
               further_vtpms=()):
    def table(form, entries, count):
        return b"".join(struct.pack(form, *e) for e in entries).ljust(struct.calcsize(form) * count, b"\0")

    data = struct.pack("<IHH32sQ10I", 0x56594E42, 2, 840, name.encode(), sum(1 << c for c in cores), boot_core, instance,
                       0, 1, 1, len(ranges), len(windows), len(ports), len(msrs), len(root_ports))
    data += struct.pack("<4I", *entry)
    data += table("<QQQ", ranges, 4) + table("<QQ", windows, 4) + table("<BB6x", root_ports, 4)
    data += table("<HHBB2x", ports, 16) + table("<IB3xQQ", msrs, 16)
    data += table("<I", [(i,) for i in further_vtpms], 8)
    assert len(data) == 840
    return data
