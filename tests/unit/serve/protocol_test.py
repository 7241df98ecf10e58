#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""usage: protocol_test.py BUILD [TEST...]

The control protocol, asked of swtpm and of `banyan vtpm serve` in the same words; then what we refuse and it does not.
"""

import socket
import unittest

from served import *  # pylint: disable=unused-wildcard-import,wildcard-import

need("swtpm")

OPEN = ("--drtm-by-client", "--allow-state-export")


class SameAnswers(unittest.TestCase):
    """Each test asks both; an answer is what came back, byte for byte."""

    def setUp(self):
        self.peers = {"swtpm": Swtpm(), "banyan": Server(*OPEN)}
        for peer in self.peers.values():
            self.addCleanup(peer.end)
        self.controls = {name: peer.control() for name, peer in self.peers.items()}
        for control in self.controls.values():
            self.addCleanup(control.close)

    def both(self, ask):
        return {name: ask(control) for name, control in self.controls.items()}

    def same(self, ask, expected):
        self.assertEqual(self.both(ask), {"swtpm": expected, "banyan": expected})

    def results(self, requests):
        for request, fields, expected in requests:
            with self.subTest(request=request, fields=fields.hex()):
                self.same(lambda control: control.control(request, fields), expected)

    def test_before_init_nothing_of_the_tpm_is_there(self):
        self.results([(GET_ESTABLISHED, b"", BAD_ORDINAL), (HASH_START, b"", BAD_ORDINAL),
                      (HASH_DATA, word(3) + b"abc", BAD_ORDINAL), (HASH_END, b"", BAD_ORDINAL),
                      (CANCEL, b"", BAD_ORDINAL), (STORE_VOLATILE, b"", BAD_ORDINAL),
                      (RESET_ESTABLISHED, b"\x03", BAD_ORDINAL), (GET_STATE, word(0, 1, 0), BAD_ORDINAL),
                      (SET_LOCALITY, b"\x00", SUCCESS), (SET_LOCALITY, b"\x04", SUCCESS),
                      (SET_LOCALITY, b"\x05", BAD_LOCALITY), (STOP, b"", SUCCESS)])

    def test_a_running_tpm(self):
        self.results([(INIT, word(0), SUCCESS), (SET_LOCALITY, b"\x03", SUCCESS), (SET_LOCALITY, b"\x05", BAD_LOCALITY),
                      (SET_LOCALITY, b"\x00", SUCCESS), (HASH_START, b"", SUCCESS),
                      (HASH_DATA, word(3) + b"abc", SUCCESS), (HASH_DATA, word(0), SUCCESS), (HASH_END, b"", SUCCESS),
                      (CANCEL, b"", SUCCESS), (RESET_ESTABLISHED, b"\x00", BAD_LOCALITY),
                      (RESET_ESTABLISHED, b"\x05", BAD_LOCALITY), (RESET_ESTABLISHED, b"\x03", SUCCESS),
                      (SET_BUFFERSIZE, word(3000), BAD_ORDINAL), (SET_STATE, word(0, 1, 0), BAD_ORDINAL),
                      (INIT, word(0), SUCCESS), (STOP, b"", SUCCESS), (GET_ESTABLISHED, b"", BAD_ORDINAL),
                      (INIT, word(0), SUCCESS)])

    def test_a_locality_padded_as_qemu_does_is_followed_by_the_next_request(self):
        self.results([(INIT, word(0), SUCCESS), (SET_LOCALITY, b"\x03\0\0\0", SUCCESS),
                      (RESET_ESTABLISHED, b"\x03\xff\x00\x0e", SUCCESS), (CANCEL, b"", SUCCESS),
                      (SET_LOCALITY, b"\x00\0\0\0", SUCCESS), (SET_LOCALITY, b"\x05\0\0\0", BAD_LOCALITY),
                      (STOP, b"", SUCCESS), (INIT, word(0), SUCCESS)])

    def test_capabilities_are_swtpms_and_the_lock(self):
        answers = self.both(lambda control: (control.send(word(GET_CAPABILITY)), control.receive(8))[1])
        self.assertEqual(answers["swtpm"].hex(), "000000000000ffff")
        self.assertEqual(answers["banyan"].hex(), "0000000000017fff")  # without SEND_COMMAND_HEADER

    def test_buffer_sizes(self):
        for asked, used in ((0, 4096), (1, 2808), (3968, 3968), (9999999, 4096)):
            self.same(lambda control, asked=asked: control.control(SET_BUFFERSIZE, word(asked), 12),
                      (SUCCESS, word(used, 2808, 4096)))

    def test_a_smaller_buffer_is_what_the_tpm_says_too(self):
        get_property = b"\x80\x01" + word(22, 0x17A, 6, 0x11E, 1)  # TPM2_PT_MAX_COMMAND_SIZE
        self.same(lambda control: control.control(SET_BUFFERSIZE, word(3968), 12)[0], SUCCESS)
        self.same(lambda control: control.control(INIT, word(0)), SUCCESS)
        answers = {}
        for name, peer in self.peers.items():
            with peer.data() as data:
                data.command(STARTUP_CLEAR)
                answers[name] = data.command(get_property)[-4:]
        self.assertEqual(answers, {"swtpm": word(3968), "banyan": word(3968)})

    def test_configuration_and_information(self):
        self.same(lambda control: control.control(GET_CONFIG, b"", 4), (SUCCESS, word(0)))
        for flags in range(4):
            answers = self.both(lambda control, flags=flags: control.counted(GET_INFO, word(0, flags, 0, 0), 2))
            self.assertEqual(answers["swtpm"], answers["banyan"])
        self.same(lambda control: control.counted(GET_INFO, word(0, 1, 1000000, 0), 2)[0], BAD_PARAMETER)

    def test_established_follows_the_hash_sequence(self):
        established = lambda control: control.control(GET_ESTABLISHED, b"", 4)
        self.same(lambda control: control.control(INIT, word(0)), SUCCESS)
        self.same(established, (SUCCESS, b"\x00\x00\x00\x00"))
        for peer in self.peers.values():
            with peer.data() as data:
                data.command(STARTUP_CLEAR)
        for request, fields in ((HASH_START, b""), (HASH_DATA, word(5000) + bytes(5000)), (HASH_END, b"")):
            self.same(lambda control, r=request, f=fields: control.control(r, f), SUCCESS)
        self.same(established, (SUCCESS, b"\x01\x00\x00\x00"))
        answers = {}
        for name, peer in self.peers.items():
            with peer.data() as data:
                answers[name] = data.command(pcr_read(17))[-32:]
        self.assertEqual(answers["swtpm"], answers["banyan"])
        self.assertNotIn(answers["banyan"], (bytes(32), b"\xff" * 32))
        self.same(lambda control: control.control(RESET_ESTABLISHED, b"\x03"), SUCCESS)
        self.same(established, (SUCCESS, b"\x00\x00\x00\x00"))

    def test_a_descriptor_that_is_passed_becomes_a_data_channel(self):
        self.same(lambda control: control.control(SET_DATAFD), IO_ERROR)
        alone = Swtpm(data=False)  # it takes no second channel
        self.addCleanup(alone.end)
        answers = {}
        for name, control in {"swtpm": alone.control(), "banyan": self.controls["banyan"]}.items():
            self.addCleanup(control.close)
            self.assertEqual(control.control(INIT, word(0)), SUCCESS)
            ours, theirs = socket.socketpair()
            with ours, theirs:
                ours.settimeout(PATIENCE)
                self.assertEqual(control.pass_descriptor(theirs.fileno()), SUCCESS)
                ours.sendall(STARTUP_CLEAR)
                answers[name] = ours.recv(4096)
        self.assertEqual(answers["swtpm"], answers["banyan"])
        self.assertEqual(code(answers["banyan"]), 0)

    def test_a_command_to_a_tpm_that_is_off_fails(self):
        answers = {}
        for name, peer in self.peers.items():
            with peer.data() as data:
                answers[name] = data.command(STARTUP_CLEAR)
        self.assertEqual(answers["swtpm"], answers["banyan"])
        self.assertEqual(code(answers["banyan"]), 0x101)

    def test_an_unknown_request_is_answered(self):
        for unknown in (0, 0x55, 0xFFFFFFFF):
            self.assertEqual(self.controls["swtpm"].control(unknown), BAD_ORDINAL)
            with self.peers["banyan"].control() as control:
                self.assertEqual(control.control(unknown), BAD_ORDINAL)
                self.assertTrue(control.ended())  # how long it is nobody knows

    def test_state_goes_out_and_comes_back_in(self):
        for peer in self.peers.values():
            control = self.controls["swtpm" if isinstance(peer, Swtpm) else "banyan"]
            self.assertEqual(control.control(INIT, word(0)), SUCCESS)
            with peer.data() as data:
                data.command(STARTUP_CLEAR)
                self.assertEqual(code(data.command(pcr_extend(16, b"\x11" * 32))), 0)
                before = data.command(pcr_read(16))[-32:]
            blobs = {}
            for kind in (1, 2):
                result, head, blob = control.counted(GET_STATE, word(1, kind, 0), 3)
                self.assertEqual((result, head[0], head[1]), (SUCCESS, 0, len(blob)))
                blobs[kind] = blob
            self.assertEqual(control.control(STOP), SUCCESS)
            for kind, blob in blobs.items():
                self.assertEqual(control.control(SET_STATE, word(0, kind, len(blob)) + blob), SUCCESS)
            self.assertEqual(control.control(INIT, word(0)), SUCCESS)
            with peer.data() as data:
                self.assertEqual(data.command(pcr_read(16))[-32:], before)
                self.assertNotEqual(before, bytes(32))

    def test_a_stored_volatile_state_is_gone_on_with(self):
        for name, peer in self.peers.items():
            control = self.controls[name]
            self.assertEqual(control.control(INIT, word(0)), SUCCESS)
            with peer.data() as data:
                data.command(STARTUP_CLEAR)
                data.command(pcr_extend(16, b"\x22" * 32))
                before = data.command(pcr_read(16))[-32:]
            self.assertEqual(control.control(STORE_VOLATILE), SUCCESS)
            self.assertEqual(control.control(STOP), SUCCESS)
            self.assertEqual(control.control(INIT, word(1)), SUCCESS)  # PTM_INIT_FLAG_DELETE_VOLATILE
            with peer.data() as data:
                self.assertEqual(data.command(pcr_read(16))[-32:], before)
            self.assertEqual(control.control(INIT, word(0)), SUCCESS)
            with peer.data() as data:
                data.command(STARTUP_CLEAR)
                self.assertEqual(data.command(pcr_read(16))[-32:], bytes(32))


class OursAlone(unittest.TestCase):
    def serve(self, *options, **more):
        server = Server(*options, **more)
        self.addCleanup(server.end)
        return server

    def test_without_its_switch_no_client_is_at_locality_4(self):
        server = self.serve("--power-on", "--startup", "--mssim")
        with server.control() as control:
            control.send(word(GET_CAPABILITY))
            self.assertEqual(control.receive(8).hex(), "0000000000017cef")  # no HASHING, no STATEBLOB
            for request, fields, expected in ((SET_LOCALITY, b"\x04", BAD_LOCALITY), (HASH_START, b"", BAD_ORDINAL),
                                              (HASH_DATA, word(3) + b"abc", BAD_ORDINAL), (HASH_END, b"", BAD_ORDINAL),
                                              (RESET_ESTABLISHED, b"\x04", BAD_LOCALITY),
                                              (GET_STATE, word(0, 1, 0), BAD_ORDINAL),
                                              (SET_STATE, word(0, 1, 4) + b"abcd", BAD_ORDINAL)):
                self.assertEqual(control.control(request, fields), expected, request)
        mssim = server.instances[0]["mssim"]
        with Client(mssim["command"]) as data, Client(mssim["platform"]) as platform:
            command = pcr_extend(17, b"\x33" * 32)
            data.send(word(8) + b"\x04" + word(len(command)) + command)
            answer = data.receive(4 + 10 + 4)
            self.assertEqual(code(answer[4:14]), 0x907)  # TPM_RC_LOCALITY
            for signal_code in (5, 7):
                platform.send(word(signal_code))
                self.assertNotEqual(platform.receive(4), word(0))
        with server.data() as data:
            self.assertEqual(data.command(pcr_read(17))[-32:], b"\xff" * 32)

    def test_hash_data_without_a_start_is_an_error(self):
        server = self.serve("--drtm-by-client", "--power-on", "--startup")
        with server.control() as control:
            self.assertEqual(control.control(HASH_DATA, word(3) + b"abc"), FAIL)
            self.assertEqual(control.control(HASH_END), FAIL)
            self.assertEqual(control.control(GET_ESTABLISHED, b"", 4), (SUCCESS, bytes(4)))

    def test_a_state_that_is_none_does_not_replace_the_tpms_own(self):
        server = self.serve("--allow-state-export", "--startup")
        with server.control() as control:
            self.assertEqual(control.control(INIT, word(0)), SUCCESS)
            _, _, before = control.counted(GET_STATE, word(0, 1, 0), 3)
            self.assertEqual(control.control(STOP), SUCCESS)
            for blob in (b"nonsense", before[:-7], bytes(60000)):
                self.assertEqual(control.control(SET_STATE, word(0, 1, len(blob)) + blob), SUCCESS)
                self.assertEqual(control.control(INIT, word(0)), FAIL)
                self.assertEqual(control.control(INIT, word(0)), SUCCESS)
                self.assertEqual(control.control(STOP), SUCCESS)
            self.assertLessEqual(server.said().count("worker-died"), 3)  # not tried again
            self.assertEqual(control.control(SET_STATE, word(0, 1, 200000) + bytes(200000)), SIZE)
            self.assertEqual(control.control(SET_STATE, word(0, 9, 4) + b"abcd"), BAD_PARAMETER)

    def test_the_end_of_the_hash_sequence_is_not_undone_by_a_dead_worker(self):
        server = self.serve("--drtm-by-client", "--power-on", "--startup")
        with server.control() as control, server.data() as data:
            self.assertEqual(control.control(HASH_START), SUCCESS)
            kill_workers(server.process.pid)
            self.assertEqual(control.control(HASH_DATA, word(3) + b"abc"), FAIL)
            self.assertEqual(code(data.command(pcr_read(17))), 0x101)
            self.assertEqual(control.control(INIT, word(0)), SUCCESS)
            self.assertEqual(data.command(pcr_read(17))[-32:], b"\xff" * 32)


if __name__ == "__main__":
    main()
