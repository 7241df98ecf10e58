# SPDX-License-Identifier: GPL-2.0-or-later
"""The initramfs of the guest that runs tpm2-tss' tests: the programs, the libraries that were built with them, busybox."""

import pathlib
import stat
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "guest/initramfs"))

from newc import Archive, libraries, read  # noqa: E402

CLEAR = bytes.fromhex("80020000001b000001264000000a00000009400000090000000000")  # by lockout, which has no password yet
LOADED = ("tss2-tcti-device", "tss2-esys")  # by name, not in any program's list


def built_libraries(tss):
    """Name -> path; a name is what programs look for."""
    found = {}
    for file in sorted((tss / "build/src").glob("*/.libs/lib*.so.*")):
        if file.is_symlink():
            found[file.name] = str(file)
    return found


def program(tss, test):
    """The program behind libtool's script."""
    path = tss / "build" / test
    return path.parent / ".libs" / path.name


def pack(tss, tests, out):
    archive = Archive()
    for folder in ("dev", "proc", "sys", "tmp"):
        archive.folder(folder)
    archive.add("dev/console", stat.S_IFCHR | 0o600, major=5, minor=1)
    archive.file("init", read(pathlib.Path(__file__).parent / "init"), 0o755)
    archive.file("clear", CLEAR)
    archive.file("bin/busybox", read("/bin/busybox"), 0o755)
    archive.link("bin/sh", "busybox")
    built = built_libraries(tss)
    loaded = {name: path for name, path in built.items() if any(name.startswith(f"lib{one}.so") for one in LOADED)}
    programs = [program(tss, test) for test in tests]
    for one in programs:
        archive.file(f"tests/{one.name}", read(one), 0o755)
    archive.add_libraries({**libraries([*programs, *loaded.values()], built), **loaded})
    out.write_bytes(archive.bytes())
