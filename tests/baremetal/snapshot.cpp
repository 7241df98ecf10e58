// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/baremetal/lib/ioapic.hpp"
#include "tests/baremetal/lib/launch.hpp"
#include "tests/baremetal/lib/tpm.hpp"

// Software of a machine that is saved, brought back and moved meanwhile: it does what tests/baremetal/snapshot_test.py says,
// one order after the other, and answers with a number. An order is verb * 1000 + argument.

using namespace banyan;
using namespace banyan::bare;

namespace {

enum Verb : u64 {
    kExtend = 1,     // PCR 9 by 32 bytes of the argument: TPM_RC
    kRead = 2,       // eight bytes of PCR 9, from byte argument * 8
    kBegin = 3,      // half of a PCR_Extend by the argument into the FIFO: 0
    kFinish = 4,     // the other half and tpmGo: TPM_RC
    kLaunch = 5,     // SKINIT of a block: 0 after it
    kRandom = 6,     // eight bytes of TPM2_GetRandom
    kMany = 7,       // 100 times the argument kExtend by 0x33, as fast as can be: how many were answered with success
    kSvmControl = 8, // VM_CR; with argument 1: R_INIT set first
    kPend = 9,  // TPM2_GetRandom with its interrupt enabled, and masked on its way: the TPM's cause. With argument 1
                // an RSA-3072 key, which it does not wait for
    kTake = 10, // unmasked: how often it came until it was acknowledged, at most ten times
};

constexpr u32 kPin = 5;
constexpr u8 kVector = 0x55;
constexpr u32 kIntEnable = 0x08;
constexpr u32 kIntStatus = 0x10;

constexpr u32 kHalf = 30;

void extend_command(u8 (&command)[65], u8 fill)
{
    constexpr u8 kHead[] = {0x80, 0x02, 0, 0, 0,    65,  0, 0, 0x01, 0x82,          // header
                            0,    0,    0, 9,                                       // PCR 9
                            0,    0,    0, 9, 0x40, 0,   0, 9, 0,    0,    0, 0, 0, // TPM_RS_PW, empty
                            0,    0,    0, 1, 0,    0x0B};                          // one digest, SHA-256
    static_assert(sizeof kHead == 33);
    for (u32 i = 0; i < 65; ++i) {
        command[i] = i < 33 ? kHead[i] : fill;
    }
}

u64 eight(const u8 *bytes)
{
    u64 value = 0;
    for (u32 i = 0; i < 8; ++i) {
        value = value << 8 | bytes[i];
    }
    return value;
}

u64 obey(u64 verb, u8 argument)
{
    static u8 half_sent;
    u8 bytes[65];
    switch (verb) {
    case kExtend:
        return tpm::pcr_extend(0, 9, argument);
    case kRead:
        return tpm::pcr_read(0, 9, tpm::kSha256, bytes) == 0 ? eight(bytes + argument * 8) : 0;
    case kBegin:
        half_sent = argument;
        extend_command(bytes, argument);
        write<u8>(tpm::at(0, tpm::kStatus), tpm::kReady);
        (void)tpm::wait_status(0, tpm::kReady);
        for (u32 i = 0; i < kHalf; ++i) {
            write<u8>(tpm::at(0, tpm::kFifo), bytes[i]);
        }
        return 0;
    case kFinish:
        extend_command(bytes, half_sent);
        for (u32 i = kHalf; i < 65; ++i) {
            write<u8>(tpm::at(0, tpm::kFifo), bytes[i]);
        }
        write<u8>(tpm::at(0, tpm::kStatus), tpm::kGo);
        if (!tpm::wait_status(0, tpm::kValid | tpm::kData)) {
            return tpm::kNoAnswer;
        }
        for (u32 i = 0; i < 10; ++i) {
            bytes[i] = read<u8>(tpm::at(0, tpm::kFifo));
        }
        return eight(bytes + 2) & 0xFFFF'FFFF;
    case kLaunch:
        make_block(kSlb, 0x200);
        launch();
        wrmsr(msr::kVmCr, rdmsr(msr::kVmCr) & ~kVmCrRInit);
        stgi();
        (void)tpm::request(0);
        return 0;
    case kRandom: {
        const u8 command[] = {0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7B, 0, 8};
        u32 got = 0;
        return tpm::transmit(0, command, sizeof command, bytes, sizeof bytes, got) == 0 ? eight(bytes + 12) : 0;
    }
    case kMany: {
        u64 done = 0;
        for (u32 i = 0; i < argument * 100u; ++i) {
            done += tpm::pcr_extend(0, 9, 0x33) == 0 ? 1 : 0;
        }
        return done;
    }
    case kPend: {
        ioapic::mask(kPin); // QEMU's forgets a level that came while the pin was masked and for edges
        write<u32>(tpm::at(0, kIntEnable), 1u << 31 | 1);
        const u8 random[] = {0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7B, 0, 8};
        const u8 key[] = {0x80, 0x02, 0, 0,    0,    67,   0, 0,    0x01, 0x31, 0x40, 0, 0, 7, // header, TPM_RH_NULL
                          0,    0,    0, 9,    0x40, 0,    0, 9,    0,    0,    0,    0, 0,    // TPM_RS_PW, empty
                          0,    4,    0, 0,    0,    0,                                        // no password, no data
                          0,    26,   0, 1,    0,    0x0B, 0, 3,    0,    0x72, 0,    0, // RSA, SHA-256, storage key
                          0,    6,    0, 0x80, 0,    0x43, 0, 0x10, 0x0C, 0,    0,    0, 0, 0,
                          0,    0,                       // AES-128-CFB, 3072 bits
                          0,    0,    0, 0,    0,    0}; // no outside data, no PCR
        write<u8>(tpm::at(0, tpm::kStatus), tpm::kReady);
        (void)tpm::wait_status(0, tpm::kReady);
        for (u32 i = 0; i < (argument == 1 ? sizeof key : sizeof random); ++i) {
            write<u8>(tpm::at(0, tpm::kFifo), argument == 1 ? key[i] : random[i]);
        }
        write<u8>(tpm::at(0, tpm::kStatus), tpm::kGo);
        if (argument != 1) {
            (void)tpm::wait_status(0, tpm::kValid | tpm::kData);
        }
        return read<u32>(tpm::at(0, kIntStatus));
    }
    case kTake: {
        static u32 came;
        came = 0;
        this_core().hook = [](Frame &) {
            write<u32>(tpm::at(0, kIntStatus), 1);
            if (++came == 10) {
                ioapic::mask(kPin);
            }
        };
        ioapic::route(kPin, kVector);
        sti();
        spin(kMillisecond);
        cli();
        this_core().hook = nullptr;
        return came;
    }
    case kSvmControl:
        if (argument != 0) {
            wrmsr(msr::kVmCr, rdmsr(msr::kVmCr) | kVmCrRInit);
        }
        return rdmsr(msr::kVmCr);
    }
    return 0;
}

} // namespace

BANYAN_SELFTEST(obeys)
{
    BANYAN_EXPECT(eventually([] { return (tpm::access(0) & 0x80) != 0; }, 20 * kSecond)); // its keys are being made
    BANYAN_EXPECT(tpm::request(0));
    for (u64 order = ask("ready"); order != 0;) {
        order = ask("done ", obey(order / 1000, static_cast<u8>(order % 1000)));
    }
}
