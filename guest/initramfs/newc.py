# SPDX-License-Identifier: GPL-2.0-or-later
"""What goes into an initramfs: an archive, and the shared libraries that programs need."""

import os
import re
import stat
import subprocess

LIBRARY_FOLDERS = ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"]
LOADER = "ld-linux-x86-64.so.2"


class Missing(Exception):
    pass


def read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise Missing(f"read {path}: {error.strerror}") from error


def tool_output(*arguments):
    try:
        return subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise Missing(f"run {' '.join(arguments)}: {error}") from error


class Archive:
    """A cpio archive in the format `newc`. Documentation/driver-api/early-userspace/buffer-format.rst"""

    def __init__(self):
        self.entries = {}

    def folder(self, name):
        parent = os.path.dirname(name)
        if parent:
            self.folder(parent)
        self.entries[name] = (stat.S_IFDIR | 0o755, b"", 0, 0)

    def add(self, name, mode, content=b"", major=0, minor=0):
        if os.path.dirname(name):
            self.folder(os.path.dirname(name))
        self.entries[name] = (mode, content, major, minor)

    def file(self, name, content, mode=0o644):
        self.add(name, stat.S_IFREG | mode, content)

    def link(self, name, target):
        self.add(name, stat.S_IFLNK | 0o777, target.encode())

    def bytes(self):
        out = bytearray()

        def entry(number, name, mode, content, major, minor):
            encoded = name.encode() + b"\0"
            links = 2 if stat.S_ISDIR(mode) else 1
            fields = [number, mode, 0, 0, links, 0, len(content), 0, 0, major, minor, len(encoded), 0]
            out.extend(b"070701" + b"".join(b"%08X" % field for field in fields) + encoded)
            out.extend(b"\0" * (-len(out) % 4))
            out.extend(content)
            out.extend(b"\0" * (-len(out) % 4))

        for number, name in enumerate(sorted(self.entries), 1):
            entry(number, name, *self.entries[name])
        entry(0, "TRAILER!!!", 0, b"", 0, 0)
        out.extend(b"\0" * (-len(out) % 512))
        return bytes(out)

    def add_libraries(self, found):
        """Shared libraries, name -> path, and their loader, where it looks for them."""
        for name, path in found.items():
            self.file(f"lib/x86_64-linux-gnu/{name}", read(path), 0o755)
        self.file(f"lib64/{LOADER}", read(f"/lib64/{LOADER}"), 0o755)


def find_library(name):
    for folder in LIBRARY_FOLDERS:
        path = os.path.join(folder, name)
        if os.path.exists(path):
            return path
    raise Missing(f"library {name} is not in {' or '.join(LIBRARY_FOLDERS)}")


def needed(path):
    return re.findall(r"\(NEEDED\).*\[(.*)\]", tool_output("readelf", "-d", path))


def libraries(programs, substitutes):
    """Every shared library that the programs need: name -> path."""
    found = {}
    waiting = [name for program in programs for name in needed(program)]
    while waiting:
        name = waiting.pop()
        if name in found or name == LOADER:
            continue
        found[name] = substitutes.get(name) or find_library(name)
        waiting += needed(found[name])
    return found
