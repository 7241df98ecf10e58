# SPDX-License-Identifier: GPL-2.0-or-later
"""Workers of `banyan vtpm serve` that die while an init lasts: tests/unit/vtpm/staged_engine.cpp instead of the engine."""

import fcntl
import mmap

from served import *  # pylint: disable=unused-wildcard-import,wildcard-import

BEFORE_LOAD, BEFORE_STIR, BEFORE_COMMIT, COMMIT_UNDER_WAY = range(1, 5)  # stage.hpp, Moment
COLD = (BEFORE_LOAD, BEFORE_STIR, BEFORE_COMMIT, COMMIT_UNDER_WAY)


class Stage:
    """stage.hpp, Staged: moment, deaths, ..."""

    def __init__(self):
        memory = os.memfd_create("stage")
        self.file = fcntl.fcntl(memory, fcntl.F_DUPFD, 100)
        os.close(memory)
        os.ftruncate(self.file, mmap.PAGESIZE)
        self.memory = mmap.mmap(self.file, mmap.PAGESIZE)
        os.environ["BANYAN_TEST_STAGE"] = str(self.file)

    def die(self, moment, times):
        self.memory[:8] = struct.pack("=2i", moment, times)

    def deaths_to_come(self):
        return struct.unpack("=i", self.memory[4:8])[0]

    def close(self):
        del os.environ["BANYAN_TEST_STAGE"]
        self.memory.close()
        os.close(self.file)


class Starts(unittest.TestCase):
    def setUp(self):
        self.stage = Stage()
        self.addCleanup(self.stage.close)
        self.server = Server("--startup", "--allow-state-export", "--engine", BUILD / "tests/bin/vtpm_staged_engine",
                             pass_fds=[self.stage.file])
        self.addCleanup(self.server.end)
        self.control = self.server.control()
        self.addCleanup(self.control.close)

    def pcr(self):
        with self.server.data() as data:
            return data.command(pcr_read(16))[-32:]

    def extend(self):
        with self.server.data() as data:
            self.assertEqual(code(data.command(pcr_extend(16, b"\x11" * 32))), 0)
        return self.pcr()

    def test_an_init_outlives_its_workers(self):
        for moment in COLD:
            for deaths in (1, 16):
                self.stage.die(moment, deaths)
                self.assertEqual(self.control.control(INIT, word(0)), SUCCESS)
                self.assertEqual(self.stage.deaths_to_come(), 0)
                self.assertNotEqual(self.extend(), bytes(32))

    def test_an_init_fails_when_they_keep_dying_and_the_next_one_is_new(self):
        for moment in COLD:
            self.stage.die(moment, 17)
            self.assertEqual(self.control.control(INIT, word(0)), FAIL)
            self.assertEqual(self.stage.deaths_to_come(), 0)
            with self.server.data() as data:
                self.assertEqual(code(data.command(pcr_read(16))), 0x101)
            self.assertEqual(self.control.control(INIT, word(0)), SUCCESS)
            self.assertEqual(self.pcr(), bytes(32))

    def test_a_stored_life_is_gone_on_with_all_the_same(self):
        for moment in (BEFORE_LOAD, BEFORE_STIR):
            self.assertEqual(self.control.control(INIT, word(0)), SUCCESS)
            before = self.extend()
            self.assertEqual(self.control.control(STORE_VOLATILE), SUCCESS)
            self.assertEqual(self.control.control(STOP), SUCCESS)
            self.stage.die(moment, 3)
            self.assertEqual(self.control.control(INIT, word(0)), SUCCESS)
            self.assertEqual(self.stage.deaths_to_come(), 0)
            self.assertEqual(self.pcr(), before)

    def test_blobs_are_put_into_the_worker_that_lives(self):
        self.assertEqual(self.control.control(INIT, word(0)), SUCCESS)
        before = self.extend()
        blobs = {kind: self.control.counted(GET_STATE, word(1, kind, 0), 3)[2] for kind in (1, 2)}
        for moment in COLD:
            self.assertEqual(self.control.control(INIT, word(0)), SUCCESS)  # another life: adopting needs a commit
            self.extend()
            self.assertEqual(self.control.control(STOP), SUCCESS)
            for kind, blob in blobs.items():
                self.assertEqual(self.control.control(SET_STATE, word(0, kind, len(blob)) + blob), SUCCESS)
            self.stage.die(moment, 1)
            self.assertEqual(self.control.control(INIT, word(0)), SUCCESS)
            self.assertEqual(self.stage.deaths_to_come(), 0)
            self.assertEqual(self.pcr(), before)


if __name__ == "__main__":
    main()
