#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""banyan platform add: a platform gets more instances, those that it has stay what they are. usage: platform_test.py BANYAN"""

import fcntl
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

BANYAN = sys.argv.pop(1)


def banyan(*words):
    """Exit status, output, messages."""
    done = subprocess.run([BANYAN, *map(str, words)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


class PlatformAdd(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        self.private, self.public = self.new("p")

    def new(self, name):
        status, _, said = banyan("platform", "new", self.root / name, "--instances", 2)
        self.assertEqual(status, 0, said)
        return self.root / name, self.root / f"{name}-public"

    def add(self, instances):
        return banyan("platform", "add", self.private, "--instances", instances)

    def files(self):
        """All but the generations, which new instances change."""
        return {path.relative_to(self.root): path.read_bytes() for path in self.root.rglob("*")
                if path.is_file() and path.name != "generations"}

    def test_new_instances_are_certified_by_the_same_manufacturer_and_old_ones_stay(self):
        before = self.files()
        self.assertEqual(self.add(4), (0, "2 instances made\n", ""))
        after = self.files()
        self.assertEqual({name: after[name] for name in before}, before)
        self.assertIn("instances: 4\n", banyan("platform", "show", self.public)[1])
        for instance in ("002", "003"):
            for name in ("ek", "ek-rsa", "iak"):
                pem = self.root / f"{instance}-{name}.pem"
                subprocess.run(["openssl", "x509", "-inform", "der", "-in", self.public / "instances" / instance /
                                f"{name}.crt", "-out", pem], check=True)
                subprocess.run(["openssl", "verify", "-CAfile", self.public / "manufacturer.pem", "-untrusted",
                                self.public / "chain.pem", pem], check=True, stdout=subprocess.DEVNULL)
            state = self.private / "instances" / f"{instance}.nvstore"
            status, said, _ = banyan("vtpm", "inspect", state)
            self.assertEqual(status, 0)
            self.assertIn("acknowledged", said)
        self.assertEqual(self.add(3), (0, "0 instances made\n", ""))

    def test_one_that_was_interrupted_is_made_anew(self):
        self.assertEqual(self.add(3)[0], 0)
        (self.private / "instances/002.names").unlink()
        before = self.files()
        self.assertEqual(self.add(3), (0, "1 instance made\n", ""))
        after = self.files()
        certificate = pathlib.Path("p-public/instances/002/iak.crt")
        self.assertNotEqual(after[certificate], before[certificate])
        self.assertEqual(len([name for name in before if "/002" not in str(name) and after[name] != before[name]]), 0)

    def refused(self, *texts):
        before = self.files()
        status, out, said = self.add(4)
        self.assertEqual((status, out), (3, ""), said)
        for text in texts:
            self.assertIn(text, said)
        self.assertEqual(self.files(), before)

    def test_nothing_takes_the_place_of_an_instance_whose_public_part_is_lost(self):
        shutil.rmtree(self.public / "instances/001")
        self.refused("instances/001 is lost")

    def test_not_while_a_machine_runs_on_it(self):
        with open(self.private / "store.key", "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.refused("is in use by a machine that runs")

    def test_not_with_the_public_folder_of_another(self):
        _, other = self.new("q")
        shutil.rmtree(self.public)
        other.rename(self.public)
        self.refused("are not of one platform")


if __name__ == "__main__":
    unittest.main(verbosity=2)
