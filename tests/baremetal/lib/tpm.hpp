// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "banyan/arch/domain_table.hpp"
#include "tests/baremetal/lib/selftest.hpp"

// A driver for the TPM's FIFO window, small and literal: TCG PC Client PTP 1.05, 6.5.2; commands of TPM 2.0 Library, part 3.

namespace banyan::bare::tpm {

inline constexpr u32 kAccess = 0x00;
inline constexpr u32 kStatus = 0x18;
inline constexpr u32 kFifo = 0x24;
inline constexpr u32 kHashEnd = 0x20; // locality 4 only
inline constexpr u32 kHashData = 0x24;
inline constexpr u32 kHashStart = 0x28;
inline constexpr u32 kDidVid = 0xF00;

inline constexpr u8 kActive = 0x20;
inline constexpr u8 kBeenSeized = 0x10;
inline constexpr u8 kSeize = 0x08;
inline constexpr u8 kPendingRequest = 0x04;
inline constexpr u8 kRequestUse = 0x02;

inline constexpr u8 kValid = 0x80;
inline constexpr u8 kReady = 0x40;
inline constexpr u8 kGo = 0x20;
inline constexpr u8 kData = 0x10;
inline constexpr u8 kExpect = 0x08;

inline constexpr u32 kNoAnswer = 0xFFFF'FFFF;

inline u64 window = dt::kVtpmBase; // which of the caller's TPMs all these functions speak to

inline u64 at(u32 locality, u32 reg)
{
    return window + locality * 0x1000 + reg;
}
inline u8 access(u32 locality)
{
    return read<u8>(at(locality, kAccess));
}
inline u32 status(u32 locality)
{
    return read<u32>(at(locality, kStatus));
}

inline bool request(u32 locality)
{
    write<u8>(at(locality, kAccess), kRequestUse);
    return eventually(
        [=] { return (access(locality) & (kActive | 0x80)) == (kActive | 0x80) && access(locality) != 0xFF; }, kSecond);
}

inline void relinquish(u32 locality)
{
    write<u8>(at(locality, kAccess), kActive);
}

inline bool wait_status(u32 locality, u8 mask)
{
    return eventually([=] { return (status(locality) & mask) == mask && status(locality) != 0xFFFF'FFFF; });
}

/// Sends a command, receives the response into `buffer`; its code, or kNoAnswer.
inline u32 transmit(u32 locality, const u8 *command, u32 size, u8 *buffer, u32 room, u32 &got)
{
    got = 0;
    write<u8>(at(locality, kStatus), kReady);
    if (!wait_status(locality, kReady)) {
        return kNoAnswer;
    }
    for (u32 i = 0; i < size; ++i) {
        write<u8>(at(locality, kFifo), command[i]);
    }
    write<u8>(at(locality, kStatus), kGo);
    if (!wait_status(locality, kValid | kData)) {
        return kNoAnswer;
    }
    while ((status(locality) & kData) != 0 && got < room) {
        buffer[got++] = read<u8>(at(locality, kFifo));
    }
    write<u8>(at(locality, kStatus), kReady);
    return got < 10 ? kNoAnswer : u32{buffer[6]} << 24 | u32{buffer[7]} << 16 | u32{buffer[8]} << 8 | buffer[9];
}

enum Bank : u16 { kSha1 = 0x0004, kSha256 = 0x000B, kSha384 = 0x000C };

constexpr u32 size_of(Bank bank)
{
    return bank == kSha1 ? 20 : bank == kSha256 ? 32 : 48;
}
constexpr const char *name_of(Bank bank)
{
    return bank == kSha1 ? "sha1" : bank == kSha256 ? "sha256" : "sha384";
}

/// TPM2_PCR_Read; the response code, kNoAnswer, or 1 for a response that holds no such PCR.
inline u32 pcr_read(u32 locality, u32 pcr, Bank bank, u8 *value)
{
    u8 command[20] = {0x80, 0x01, 0, 0, 0, 20, 0, 0, 0x01, 0x7E, 0, 0, 0, 1, 0, static_cast<u8>(bank), 3, 0, 0, 0};
    command[17 + pcr / 8] = static_cast<u8>(1u << pcr % 8);
    u8 answer[128];
    u32 got;
    const u32 code = transmit(locality, command, sizeof command, answer, sizeof answer, got);
    if (code != 0) {
        return code;
    }
    const u32 digest = 10 + 4 + 4 + 2 + 1 + 3 + 4; // header, update counter, selection, number of digests
    if (got != digest + 2 + size_of(bank)) {
        return 1;
    }
    for (u32 i = 0; i < size_of(bank); ++i) {
        value[i] = answer[digest + 2 + i];
    }
    return 0;
}

/// TPM2_PCR_Extend of SHA-256 with 32 bytes of `fill`, empty authorisation.
inline u32 pcr_extend(u32 locality, u32 pcr, u8 fill)
{
    u8 command[33 + 32] = {0x80, 0x02, 0, 0, 0,    65, 0, 0, 0x01, 0x82, 0, 0, 0, static_cast<u8>(pcr),
                           0,    0,    0, 9, 0x40, 0,  0, 9, 0,    0,    0, 0, 0, 0,
                           0,    0,    1, 0, 0x0B};
    for (u32 i = 0; i < 32; ++i) {
        command[33 + i] = fill;
    }
    u8 answer[64];
    u32 got;
    return transmit(locality, command, sizeof command, answer, sizeof answer, got);
}

/// TPM2_Startup. type: 0 CLEAR, 1 STATE.
inline u32 startup(u32 locality, u8 type)
{
    const u8 command[] = {0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, type};
    u8 answer[64];
    u32 got;
    return transmit(locality, command, sizeof command, answer, sizeof answer, got);
}

/// TPM2_Shutdown.
inline u32 shutdown(u32 locality, u8 type)
{
    const u8 command[] = {0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x45, 0, type};
    u8 answer[64];
    u32 got;
    return transmit(locality, command, sizeof command, answer, sizeof answer, got);
}

} // namespace banyan::bare::tpm
