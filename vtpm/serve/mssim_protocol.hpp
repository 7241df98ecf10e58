// SPDX-License-Identifier: GPL-2.0-or-later
// The simulator's protocol. TPM 2.0 library, part 4, "TcpServer" (TpmTcpProtocol.h): two sockets, one for commands and
// one for the platform's signals. All numbers are big-endian. Each request but kSessionEnd is answered; an answer ends
// with a word that is 0.
#pragma once

#include <cstddef>
#include <cstdint>

namespace banyan::vtpm::mssim {

enum class Code : std::uint32_t { // TPM_*
    kSignalPowerOn = 1,
    kSignalPowerOff = 2,
    kSignalPhysPresOn = 3,
    kSignalPhysPresOff = 4,
    kSignalHashStart = 5,
    kSignalHashData = 6, // size, bytes
    kSignalHashEnd = 7,
    kSendCommand = 8, // locality (1), size, bytes; the answer is size, bytes, 0
    kSignalCancelOn = 9,
    kSignalCancelOff = 10,
    kSignalNvOn = 11,
    kSignalNvOff = 12,
    kSignalReset = 17,
    kSignalRestart = 18,
    kSessionEnd = 20,
    kStop = 21,
};

} // namespace banyan::vtpm::mssim
