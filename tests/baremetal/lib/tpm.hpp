// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "banyan/arch/domain_table.hpp"
#include "tests/baremetal/lib/selftest.hpp"

// A driver for a TPM's window, small and literal: TCG PC Client PTP 1.05, 6.5.2 (FIFO) and 6.5.3 (CRB); commands of TPM 2.0
// Library, part 3. request(), relinquish(), transmit() and all commands go by the interface that the TPM has.

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

// ---- CRB ------------------------------------------------------------------------------------------------------------------

namespace crb {
inline constexpr u32 kLocState = 0x00;
inline constexpr u32 kLocCtrl = 0x08;
inline constexpr u32 kLocSts = 0x0C;
inline constexpr u32 kInterfaceId = 0x30; // of a FIFO, too
inline constexpr u32 kCtrlReq = 0x40;
inline constexpr u32 kCtrlSts = 0x44;
inline constexpr u32 kCtrlStart = 0x4C;
inline constexpr u32 kBuffer = 0x80;

inline constexpr u32 kNotEstablished = 1u << 0; // of TPM_LOC_STATE
inline constexpr u32 kAssigned = 1u << 1;
inline constexpr u32 kRequestAccess = 1u << 0; // of TPM_LOC_CTRL
inline constexpr u32 kRelinquish = 1u << 1;
inline constexpr u32 kSeize = 1u << 2;
inline constexpr u32 kGranted = 1u << 0; // of TPM_LOC_STS
inline constexpr u32 kBeenSeized = 1u << 1;
inline constexpr u32 kCmdReady = 1u << 0; // of TPM_CRB_CTRL_REQ
inline constexpr u32 kGoIdle = 1u << 1;
inline constexpr u32 kIdle = 1u << 1; // of TPM_CRB_CTRL_STS
} // namespace crb

/// Once the registers are valid, which access() or TPM_LOC_STATE say at the same place.
inline bool is_crb()
{
    (void)eventually([] { return (access(0) & kValid) != 0; }, kSecond);
    return (read<u32>(at(0, crb::kInterfaceId)) & 0xF) == 1;
}

/// Puts a command into the buffer and has it executed; does not wait.
inline bool crb_start(u32 locality, const u8 *command, u32 size)
{
    write<u32>(at(locality, crb::kCtrlReq), crb::kCmdReady);
    if (!eventually([=] {
            return read<u32>(at(locality, crb::kCtrlReq)) == 0 &&
                   (read<u32>(at(locality, crb::kCtrlSts)) & crb::kIdle) == 0;
        })) {
        return false;
    }
    for (u32 i = 0; i < size; ++i) {
        write<u8>(at(locality, crb::kBuffer + i), command[i]);
    }
    write<u32>(at(locality, crb::kCtrlStart), 1);
    return true;
}

inline u32 crb_transmit(u32 locality, const u8 *command, u32 size, u8 *buffer, u32 room, u32 &got)
{
    if (!crb_start(locality, command, size) ||
        !eventually([=] { return read<u32>(at(locality, crb::kCtrlStart)) == 0; })) {
        return kNoAnswer;
    }
    const u32 claimed = __builtin_bswap32(read<u32>(at(locality, crb::kBuffer + 2)));
    for (; got < room && got < claimed; ++got) {
        buffer[got] = read<u8>(at(locality, crb::kBuffer + got));
    }
    write<u32>(at(locality, crb::kCtrlReq), crb::kGoIdle);
    return got < 10 ? kNoAnswer : u32{buffer[6]} << 24 | u32{buffer[7]} << 16 | u32{buffer[8]} << 8 | buffer[9];
}

// ---- either ---------------------------------------------------------------------------------------------------------------

inline bool request(u32 locality)
{
    if (is_crb()) {
        write<u32>(at(locality, crb::kLocCtrl), crb::kRequestAccess);
        return eventually([=] { return (read<u32>(at(locality, crb::kLocSts)) & crb::kGranted) != 0; }, kSecond);
    }
    write<u8>(at(locality, kAccess), kRequestUse);
    return eventually(
        [=] { return (access(locality) & (kActive | 0x80)) == (kActive | 0x80) && access(locality) != 0xFF; }, kSecond);
}

inline void relinquish(u32 locality)
{
    if (is_crb()) {
        write<u32>(at(locality, crb::kLocCtrl), crb::kRelinquish);
        return;
    }
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
    if (is_crb()) {
        return crb_transmit(locality, command, size, buffer, room, got);
    }
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

/// TPM2_CreatePrimary of an RSA key in the null hierarchy: longer than any doorbell waits.
inline constexpr u8 kCreateKey[] = {
    0x80, 0x02, 0, 0,    0,    67,   0, 0,    0x01, 0x31, 0x40, 0, 0, 7,       // header, TPM_RH_NULL
    0,    0,    0, 9,    0x40, 0,    0, 9,    0,    0,    0,    0, 0,          // TPM_RS_PW, empty
    0,    4,    0, 0,    0,    0,                                              // no password, no data
    0,    26,   0, 1,    0,    0x0B, 0, 3,    0,    0x72, 0,    0,             // RSA, SHA-256, storage key, no policy
    0,    6,    0, 0x80, 0,    0x43, 0, 0x10, 0x08, 0,    0,    0, 0, 0, 0, 0, // AES-128-CFB, 2048 bits
    0,    0,    0, 0,    0,    0};                                             // no outside data, no PCR
static_assert(sizeof kCreateKey == 67);

} // namespace banyan::bare::tpm
