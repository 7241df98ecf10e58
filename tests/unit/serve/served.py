# SPDX-License-Identifier: GPL-2.0-or-later
"""`banyan vtpm serve` and swtpm for the tests beside this file, and clients of both made of sockets alone."""

import array
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "system"))

from listening import wait_until_listening  # noqa: E402

BUILD = pathlib.Path(sys.argv[1])
BANYAN = BUILD / "bin/banyan"
PATIENCE = 60  # seconds; a machine under load is slow, nothing here is measured

GET_CAPABILITY, INIT, SHUTDOWN, GET_ESTABLISHED, SET_LOCALITY, HASH_START, HASH_DATA, HASH_END, CANCEL, \
    STORE_VOLATILE, RESET_ESTABLISHED, GET_STATE, SET_STATE, STOP, GET_CONFIG, SET_DATAFD, SET_BUFFERSIZE, \
    GET_INFO, LOCK_STORAGE = range(1, 20)

SUCCESS, BAD_PARAMETER, FAIL, BAD_ORDINAL, SIZE, IO_ERROR, BAD_LOCALITY = 0, 3, 9, 0x0A, 0x11, 0x1F, 0x3D

STARTUP_CLEAR = bytes.fromhex("80010000000c000001440000")
GET_RANDOM_8 = bytes.fromhex("80010000000c0000017b0008")


def word(*values):
    return struct.pack(f">{len(values)}I", *values)


def pcr_read(pcr):
    """TPM2_PCR_Read of one PCR, bank SHA-256."""
    select = bytearray(3)
    select[pcr // 8] = 1 << pcr % 8
    return b"\x80\x01" + word(20, 0x17E, 1) + b"\x00\x0b\x03" + bytes(select)


def pcr_extend(pcr, digest):
    """TPM2_PCR_Extend, bank SHA-256."""
    body = word(pcr, 9, 0x40000009) + b"\x00\x00\x00\x00\x00" + word(1) + b"\x00\x0b" + digest
    return b"\x80\x02" + word(10 + len(body), 0x182) + body


def code(response):
    return struct.unpack(">I", response[6:10])[0]


class Client:
    """One connection to a UNIX socket or a TCP port."""

    def __init__(self, where):
        self.socket = socket.socket(socket.AF_INET if isinstance(where, int) else socket.AF_UNIX)
        self.socket.connect(("127.0.0.1", where) if isinstance(where, int) else str(where))
        self.socket.settimeout(PATIENCE)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def receive(self, size):
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise EOFError(f"closed after {data.hex()}")
            data += more
        return data

    def ended(self):
        """True if the other side has closed."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def control(self, request, fields=b"", extra=0):
        """A control request; its result, and the fields of a reply that has `extra` bytes of them."""
        self.send(word(request) + fields)
        result = struct.unpack(">I", self.receive(4))[0]
        return (result, self.receive(extra) if result == SUCCESS else b"") if extra else result

    def counted(self, request, fields, words):
        """A reply that ends with a size and so many bytes: result, words, bytes."""
        self.send(word(request) + fields)
        result = struct.unpack(">I", self.receive(4))[0]
        if result != SUCCESS:
            return result, (), b""
        head = struct.unpack(f">{words}I", self.receive(4 * words))
        return result, head, self.receive(head[-1])

    def command(self, command):
        self.send(command)
        head = self.receive(10)
        return head + self.receive(struct.unpack(">I", head[2:6])[0] - 10)

    def pass_descriptor(self, fd):
        self.socket.sendmsg([word(SET_DATAFD)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
        return struct.unpack(">I", self.receive(4))[0]


class Server:
    """`banyan vtpm serve` with a folder of its own."""

    def __init__(self, *options, instances=1, state=None, pass_fds=()):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="banyan-serve-"))
        self.log = open(self.folder / "log", "w+", encoding="utf-8")
        command = [BANYAN, "vtpm", "serve", "--json", "--instances", str(instances), "--dir",
                   self.folder / "sockets", *options]
        if state:
            command += ["--state", state]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True, pass_fds=pass_fds)
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.said())
        self.report = json.loads(line)
        self.instances = self.report["instances"]

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def control(self, instance=0):
        return Client(self.instances[instance]["control"])

    def data(self, instance=0):
        return Client(self.instances[instance]["data"])

    def end(self, how=signal.SIGTERM):
        """Its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        status = self.process.wait(PATIENCE)
        self.process.stdout.close()
        self.log.close()
        shutil.rmtree(self.folder)
        return status


class Swtpm:
    """The peer."""

    def __init__(self, data=True):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="banyan-swtpm-"))
        self.process = subprocess.Popen(
            ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.folder}", "--ctrl",
             f"type=unixio,path={self.folder}/control"] +
            (["--server", f"type=unixio,path={self.folder}/data"] if data else []),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until_listening(self.process, PATIENCE, *(self.folder / name for name in ("control", "data")[:2 if data else 1]))

    def control(self):
        return Client(self.folder / "control")

    def data(self):
        return Client(self.folder / "data")

    def end(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder)


def main():
    if not (BUILD / "bin/banyan-vtpm-engine").exists():
        print("SKIP: no bin/banyan-vtpm-engine")
        sys.exit(77)
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=2)


def need(program):
    if shutil.which(program) is None:
        print(f"SKIP: {program} is not installed")
        sys.exit(77)


def child_processes(parent):
    """Process ids by parent, all generations."""
    found, todo = [], [parent]
    while todo:
        one = todo.pop()
        with contextlib.suppress(OSError): # it has ended meanwhile
            for task in pathlib.Path(f"/proc/{one}/task").glob("*/children"):
                for child in task.read_text(encoding="ascii").split():
                    found.append(int(child))
                    todo.append(int(child))
    return found


def kill_workers(parent):
    """Ends the process of each TPM below `parent`; makers of others come and go."""
    for pid in child_processes(parent):
        with contextlib.suppress(OSError):
            if pathlib.Path(f"/proc/{pid}/comm").read_text(encoding="ascii") == "vtpm-worker\n":
                os.kill(pid, signal.SIGKILL)


__all__ = [name for name in globals() if not name.startswith("_")] + ["os"]
