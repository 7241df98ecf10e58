#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""banyan vtpm inspect: what it says of good, lonely and spoilt state files. usage: inspect_test.py BANYAN"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

BANYAN = sys.argv.pop(1)
SLOT = 132 * 1024


def banyan(*words):
    done = subprocess.run([BANYAN, *map(str, words)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


class Inspect(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="banyan-inspect-")
        cls.platform = pathlib.Path(cls.folder.name) / "platform"
        status, _, said = banyan("platform", "new", cls.platform, "--instances", 2)
        assert status == 0, said
        cls.file = cls.platform / "instances/001.nvstore"
        cls.lonely = pathlib.Path(cls.folder.name) / "lonely"

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def setUp(self):
        shutil.copy(self.file, self.lonely)

    def verdict(self, *words):
        status, out, said = banyan("vtpm", "inspect", "--json", *words)
        self.assertEqual(said, "")
        facts = json.loads(out)
        self.assertEqual(facts["schema"], 1)
        return status, facts

    def test_a_new_platforms_file_is_current(self):
        status, facts = self.verdict(self.file)
        self.assertEqual((status, facts["verdict"], facts["acknowledged"]), (0, "current", 1))
        slot = facts["slots"][1]
        self.assertEqual((slot["instance"], slot["generation"], slot["mac"]), (1, 1, "holds"))
        self.assertTrue(slot["current"])
        status, out, _ = banyan("vtpm", "inspect", self.file)
        self.assertEqual(status, 0)
        self.assertIn("<- current", out)

    def test_without_the_key_nothing_is_verified(self):
        status, facts = self.verdict(self.lonely)
        self.assertEqual((status, facts["verdict"]), (0, "unverified"))
        self.assertEqual(facts["slots"][1]["mac"], "unverified")
        self.assertEqual(self.verdict(self.lonely, "--platform", self.platform)[1]["verdict"], "current")

    def test_a_spoilt_file_is_damaged(self):
        with open(self.lonely, "r+b") as file:
            file.seek(SLOT + 4096 + 100)
            file.write(b"spoilt")
        status, facts = self.verdict(self.lonely, "--platform", self.platform)
        self.assertEqual((status, facts["verdict"]), (1, "damaged"))
        self.assertEqual(facts["slots"][1]["mac"], "fails")

    def test_without_its_anchor_it_is_unanchored(self):
        copy = pathlib.Path(self.folder.name) / "copy"
        shutil.copytree(self.platform, copy)
        (copy / "generations").write_bytes(b"")
        status, facts = self.verdict(copy / "instances/001.nvstore")
        self.assertEqual((status, facts["verdict"]), (1, "unanchored"))

    def test_nonsense_is_answered_with_a_sentence(self):
        status, _, said = banyan("vtpm", "inspect", self.lonely.with_name("nothing"))
        self.assertEqual(status, 3)
        self.assertIn("No such file", said)
        status, _, said = banyan("vtpm", "inspect", self.lonely, "--platform", self.folder.name)
        self.assertEqual(status, 3)
        self.assertIn("store.key", said)
        self.lonely.write_bytes(b"x" * 70000)
        status, facts = self.verdict(self.lonely, "--platform", self.platform)
        self.assertEqual((status, facts["verdict"]), (1, "damaged"))


if __name__ == "__main__":
    unittest.main()
