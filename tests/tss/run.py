#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/tss-tests' second half: tpm2-tss' integration tests, each on INSTANCES fresh TPMs at once. A test passes if it
passes on every one."""

import argparse
import pathlib
import shutil
import sys
import tempfile
import time

import guest
import image
import sockets

SKIP = 77


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("tss", type=pathlib.Path)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("against", choices=("socket", "mssim", "swtpm"))
    parser.add_argument("instances", type=int)
    parser.add_argument("--guest", action="store_true")
    parser.add_argument("--crb", action="store_true")
    parser.add_argument("--seabios", action="store_true")
    parser.add_argument("only", nargs="*")
    setting = parser.parse_args()
    setting.build = setting.build.resolve()
    setting.patience = 300  # seconds for one test
    return setting


def peer_of(setting):
    """Makes the TPMs of one test."""
    where = guest if setting.guest else sockets
    return where.Swtpm if setting.against == "swtpm" else where.Banyan


def name_of(setting):
    peer = "swtpm" if setting.against == "swtpm" else "banyan"
    if setting.guest:
        return f"{peer} in a guest, {'crb' if setting.crb else 'tis'}{', seabios' if setting.seabios else ''}"
    return setting.against


def last_words(log):
    """What a test said last, without its own place in the source."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.rpartition("() ")[2].strip() for line in reversed(lines) if line.strip()), "")


def main():
    setting = parse()
    # tcti-* are programs that talk to no TPM; the rest of what `make check` calls TESTS goes through the TCTI.
    tests = [test for test in (setting.tss / "build/tests").read_text(encoding="utf-8").split()
             if test.endswith(".int") and (not setting.only or any(word in test for word in setting.only))]
    kept = pathlib.Path(tempfile.mkdtemp(prefix="banyan-tss-tests-"))
    if setting.guest:
        setting.initrd = kept / "initramfs"
        image.pack(setting.tss, tests, setting.initrd)
    counts = {"PASS": 0, "FAIL": 0, "SKIP": 0}
    begun = time.monotonic()
    for test in tests:
        name = pathlib.Path(test).name
        folder = kept / name
        folder.mkdir()
        logs = [folder / f"{i}.log" for i in range(setting.instances)]
        try:
            peer = peer_of(setting)(setting, folder)
        except (RuntimeError, guest.ProbeFailed) as error:
            shutil.rmtree(kept)
            sys.exit(f"tss-tests: no TPM for {name}: {error}")
        try:
            statuses = peer.run(test, logs)
        finally:
            peer.end()
        verdict = "PASS" if all(one == 0 for one in statuses) else (
            "SKIP" if all(one in (0, SKIP) for one in statuses) else "FAIL")
        counts[verdict] += 1
        print(f"{verdict} {name}" + (f" {statuses}, logs in {folder}" if verdict == "FAIL" else "") +
              (f": {last_words(logs[statuses.index(SKIP)])}" if verdict == "SKIP" else ""), flush=True)
        if verdict != "FAIL":
            shutil.rmtree(folder)
    print(f"{name_of(setting)}, {setting.instances} at once: {len(tests)} tests, {counts['PASS']} pass, "
          f"{counts['SKIP']} skip, {counts['FAIL']} fail, {time.monotonic() - begun:.0f} s")
    if counts["FAIL"] == 0:
        shutil.rmtree(kept)
    sys.exit(1 if counts["FAIL"] or not tests else 0)


if __name__ == "__main__":
    main()
