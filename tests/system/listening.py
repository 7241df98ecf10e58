# SPDX-License-Identifier: GPL-2.0-or-later
"""When a program that was just started can be connected to."""

import pathlib
import time

LISTENING = "00010000"  # proc(5), /proc/net/unix: flags


def wait_until_listening(process, patience, *sockets):
    """A socket is in its folder a moment before one can connect. A client that only tries would be one that swtpm serves."""
    until = time.monotonic() + patience
    waiting = {str(path) for path in sockets}
    while waiting:
        if time.monotonic() > until or process.poll() is not None:
            raise RuntimeError(f"{process.args[0]} did not start")
        time.sleep(0.01)
        for line in pathlib.Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace").splitlines():
            words = line.split(maxsplit=7)
            if len(words) == 8 and words[3] == LISTENING:
                waiting.discard(words[7])
