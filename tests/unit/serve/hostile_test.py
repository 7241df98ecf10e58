#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""usage: hostile_test.py BUILD [TEST...]

Clients that break every rule. After each the server goes on, and a neighbour instance with an honest client has not
noticed: its TPM still holds what it held.
"""

import contextlib
import random
import threading
import time
import unittest

from served import *  # pylint: disable=unused-wildcard-import,wildcard-import

CREATE_PRIMARY = bytes.fromhex("8002") + word(67, 0x131, 0x40000001) + bytes.fromhex(
    "00000009400000090000000000" + "0004" + "00000000" + "001a" + "0001000b00030072" + "0000" + "000600800043" +
    "0010" + "0800" + "00000000" + "0000" + "0000" + "00000000")  # an RSA-2048 key in the owner hierarchy


class Hostile(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--power-on", "--startup", "--drtm-by-client", "--allow-state-export", "--mssim", "--tcp",
                            instances=2)
        cls.honest = cls.server.data(1)
        cls.digest = cls.honest.command(pcr_extend(16, b"\x55" * 32)) and cls.honest.command(pcr_read(16))
        with cls.server.control() as control:
            control.control(GET_ESTABLISHED, b"", 4)  # instance 0 is on by then
        cls.descriptors = cls.count()

    @classmethod
    def count(cls):
        return len(list(pathlib.Path(f"/proc/{cls.server.process.pid}/fd").iterdir()))

    def drain(self):
        """Until the server has seen all that clients left behind, and has let go of it."""
        until = time.monotonic() + PATIENCE
        while self.count() > self.descriptors:
            self.assertLess(time.monotonic(), until, "descriptors that stay open")
            time.sleep(0.01)

    @classmethod
    def tearDownClass(cls):
        cls.honest.close()
        cls.server.end()

    def setUp(self):
        one = self.server.instances[0]
        self.doors = [one["data"], one["control"], one["mssim"]["command"], one["mssim"]["platform"], one["tcp"],
                      one["tcp"] + 1, one["mssim"]["tcp"], one["mssim"]["tcp"] + 1]

    def tearDown(self):
        self.drain()
        self.assertEqual(self.honest.command(pcr_read(16)), self.digest)
        self.assertIsNone(self.server.process.poll())
        with self.server.control() as control:
            self.assertEqual(control.control(INIT, word(0)), SUCCESS)
        with self.server.data() as data:
            self.assertEqual(code(data.command(GET_RANDOM_8)), 0)

    def test_the_key_is_made_when_asked_decently(self):
        with self.server.data() as data:
            self.assertEqual(code(data.command(CREATE_PRIMARY)), 0)

    def test_half_a_request_at_each_door(self):
        clients = [Client(door) for door in self.doors]
        for i, client in enumerate(clients):
            client.send(b"\x00" * (i % 4) or b"\x80")
        self.assertEqual(self.honest.command(pcr_read(16)), self.digest)
        for client in clients:
            client.close()

    def test_a_client_that_leaves_at_every_byte(self):
        requests = {0: [GET_RANDOM_8], 1: [word(INIT, 0), word(HASH_DATA, 5) + b"abcde", word(GET_INFO, 0, 3, 0, 0),
                                           word(SET_STATE, 0, 1, 5) + b"abcde", word(SET_DATAFD)],
                    2: [word(8) + b"\x00" + word(12) + GET_RANDOM_8], 3: [word(1), word(6, 3) + b"abc", word(20)]}
        for door, all_requests in requests.items():
            for request in all_requests:
                for cut in range(len(request) + 1):
                    with Client(self.doors[door]) as client, contextlib.suppress(BrokenPipeError):
                        client.send(request[:cut])  # the server may have hung up on the first words already

    def test_sizes_that_cannot_be(self):
        huge = 0xFFFFFFFF
        for size in (0, 9, 4097, huge):
            with self.server.data() as data:
                data.send(b"\x80\x01" + word(size, 0x17B) + b"x")
                self.assertEqual(code(data.receive(10)), 0x142)  # TPM_RC_COMMAND_SIZE
                self.assertTrue(data.ended())
        with Client(self.doors[2]) as data:
            data.send(word(8) + b"\x00" + word(huge))
            self.assertTrue(data.ended())
        with Client(self.doors[3]) as platform:
            platform.send(word(6, huge))
            self.assertTrue(platform.ended())
        with self.server.control() as control:  # 4 GiB are coming; some of them do
            control.send(word(SET_STATE, 0, 1, huge) + bytes(100000))
        with self.server.control() as control, self.server.control() as other:
            self.assertEqual(control.control(HASH_START), SUCCESS)
            control.send(word(HASH_DATA, huge) + bytes(100000))
            self.assertEqual(other.control(GET_CONFIG, b"", 4), (SUCCESS, word(0)))
            with self.server.data() as data:
                self.assertEqual(code(data.command(GET_RANDOM_8)), 0)

    def test_requests_in_one_piece_and_in_crumbs(self):
        with self.server.control() as control:
            control.send(word(GET_CONFIG) * 200)
            self.assertEqual(control.receive(8 * 200), bytes(8 * 200))
        with self.server.data() as data:
            for i in range(0, len(GET_RANDOM_8)):
                data.send(GET_RANDOM_8[i:i + 1])
            self.assertEqual(code(data.receive(20)), 0)
            data.send(GET_RANDOM_8 * 100)
            answers = data.receive(20 * 100)
            self.assertEqual(len({answers[i:i + 20] for i in range(0, 2000, 20)}), 100)

    def test_a_client_that_does_not_read(self):
        with self.server.data() as deaf:
            deaf.socket.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    deaf.socket.send(GET_RANDOM_8 * 100)
            with self.server.data() as data:
                self.assertEqual(code(data.command(GET_RANDOM_8)), 0)

    def test_requests_during_a_long_command(self):
        with self.server.data() as busy, self.server.data() as gone, self.server.control() as control:
            busy.send(CREATE_PRIMARY)
            gone.send(CREATE_PRIMARY)
            gone.close()
            self.assertEqual(control.control(GET_CONFIG, b"", 4), (SUCCESS, word(0)))
            self.assertEqual(control.control(CANCEL), SUCCESS)
            self.assertEqual(control.control(GET_ESTABLISHED, b"", 4)[0], SUCCESS)
            self.assertIn(code(busy.receive(10)), (0, 0x909))  # done, or TPM_RC_CANCELED
        with self.server.data() as busy, self.server.control() as control:
            busy.send(CREATE_PRIMARY)
            self.assertEqual(control.control(STOP), SUCCESS)
            self.assertIn(code(busy.receive(10)), (0, 0x101))

    def test_too_many_clients(self):
        clients = [Client(self.doors[0]) for _ in range(200)]
        answered = 0
        for client in clients:
            with contextlib.suppress(OSError, EOFError):
                answered += code(client.command(GET_RANDOM_8)) == 0
        for client in clients:
            client.close()
        self.assertLessEqual(answered, 64)
        self.assertGreaterEqual(answered, 48)

    def test_descriptors_that_are_no_sockets_or_too_many(self):
        with self.server.control() as control, open("/dev/null", "rb") as file:
            self.assertEqual(control.pass_descriptor(file.fileno()), IO_ERROR)
            before = self.count()
            for _ in range(20):
                control.socket.sendmsg([word(GET_CONFIG)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                                                             array.array("i", [file.fileno()] * 12))])
                self.assertEqual(control.receive(8), bytes(8))
            self.assertLessEqual(self.count(), before + 1)

    def test_a_worker_that_dies_comes_back_with_what_was_answered(self):
        with self.server.data() as data:
            self.assertEqual(code(data.command(pcr_extend(16, b"\x66" * 32))), 0)
            before = data.command(pcr_read(16))
            kill_workers(self.server.process.pid)
            answers = [data.command(pcr_read(16)) for _ in range(3)]
            self.assertEqual(answers[-1], before)

    def test_noise_at_every_door(self):
        dice = random.Random(1)
        seeds = [GET_RANDOM_8, word(INIT, 0), word(HASH_DATA, 5) + b"abcde", word(GET_STATE, 0, 1, 0), word(1),
                 word(8) + b"\x00" + word(12) + GET_RANDOM_8, word(SET_STATE, 0, 2, 300) + bytes(300)]

        def noise(door):
            for _ in range(150):
                data = bytearray(dice.choice(seeds) * dice.randint(1, 3))
                for _ in range(dice.randint(0, 4)):
                    data[dice.randrange(len(data))] = dice.randrange(256)
                with contextlib.suppress(OSError), Client(door) as client:
                    client.send(data[:dice.randint(0, len(data))])
                    if dice.random() < 0.2:
                        client.socket.settimeout(0.02)
                        client.socket.recv(4096)

        threads = [threading.Thread(target=noise, args=(door,)) for door in self.doors]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            self.assertEqual(self.honest.command(pcr_read(16)), self.digest)
        for thread in threads:
            thread.join()
        self.drain()
        with self.server.control() as control:
            control.control(INIT, word(0))  # fails if the noise has put in a state that is none


if __name__ == "__main__":
    main()
