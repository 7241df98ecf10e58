# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's own QEMU and libvirt in front of `banyan vtpm serve`: scripts/setup --tests unpacks them into the cache, build/stock.
A test script is called with the build folder; without them it is skipped."""

import pathlib
import subprocess
import sys

BUILD = pathlib.Path(sys.argv[1]).resolve()
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "unit/serve"))

STOCK = (BUILD / "stock").resolve()
LIBRARIES = STOCK / "usr/lib/x86_64-linux-gnu"
ENVIRONMENT = ["env", f"LD_LIBRARY_PATH={LIBRARIES}", f"QEMU_MODULE_DIR={LIBRARIES}/qemu"]
QEMU = STOCK / "usr/bin/qemu-system-x86_64"
GUEST = [BUILD / "images/cloud-amd64/vmlinuz", BUILD / "share/banyan/tpmprobe.img"]


def need(*files, check=()):
    """Ends as skipped without one of the files, or if the command `check` fails."""
    for file in (*files, *GUEST, BUILD / "bin/banyan-vtpm-engine"):
        if not file.exists():
            print(f"SKIP: there is no {file} (scripts/setup --tests)")
            sys.exit(77)
    done = subprocess.run([str(word) for word in check], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False) if check else None
    if done and done.returncode:
        print(f"SKIP: {' '.join(str(word) for word in check)}: {done.stderr.strip()}")
        sys.exit(77)
