// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/baremetal/lib/domain.hpp"
#include "tests/baremetal/lib/launch.hpp"
#include "tests/baremetal/lib/tpm.hpp"

// SKINIT in domains whose TPM is a CRB. The machine (CMakeLists.txt): domains 1 and 3 have one, 3 without a SHA-1 bank; domain
// 2 has a FIFO.

using namespace banyan;
using namespace banyan::bare;

namespace {

namespace crb = tpm::crb;

u32 reg(u32 locality, u32 offset)
{
    return read<u32>(tpm::at(locality, offset));
}

void expect_crb()
{
    BANYAN_EXPECT(tpm::is_crb());
}

/// The bytes of PCR 17 as results, banks one after the other.
void tell_pcr_17(u32 locality, const tpm::Bank *banks, u32 count)
{
    u32 index = 0;
    for (u32 bank = 0; bank < count; ++bank) {
        u8 pcr[48];
        BANYAN_EXPECT_EQ(tpm::pcr_read(locality, 17, banks[bank], pcr), 0);
        for (u32 i = 0; i < tpm::size_of(banks[bank]); ++i) {
            guest::result(index++, pcr[i]);
        }
    }
}

constexpr tpm::Bank kBanks[] = {tpm::kSha256, tpm::kSha384, tpm::kSha1};

/// What a domain tells is the measure of its block, which is computed apart from its memory while it waits for signal 2.
void expect_pcr_17(Domain &d, u32 measured, u32 banks)
{
    d.start();
    d.await(1);
    u8 expected[100];
    u32 index = 0;
    for (u32 bank = 0; bank < banks; ++bank) {
        for (u32 i = 0; i < tpm::size_of(kBanks[bank]); i += 4) {
            expected[index + i] = static_cast<u8>(ask("pcr17 ", tpm::name_of(kBanks[bank]), " ",
                                                      slice(d.number()) + kSlb, " ", u64{measured}, " ", u64{i}));
        }
        index += tpm::size_of(kBanks[bank]);
    }
    d.signal(2);
    d.wait();
    const dt::EndReason why = d.reason();
    d.remove();
    BANYAN_EXPECT_EQ(why, dt::EndReason::kPoweroff);
    for (u32 i = 0; i < index; i += 4) {
        BANYAN_EXPECT_EQ(d.result(i), expected[i]);
    }
}

} // namespace

// A launch resets PCR 17 and extends it by the measured bytes in each bank, and leaves the interface to nobody, Idle, with
// tpmEstablished.
BANYAN_SELFTEST(pcr_17_is_the_measure_of_the_block)
{
    Domain d(1, [](u64) {
        expect_crb();
        make_block(kSlb, 0x1001, 3);
        guest::signal(1);
        guest::await(2);
        launch();
        BANYAN_EXPECT_EQ(reg(0, crb::kLocState) & (crb::kAssigned | crb::kNotEstablished), 0);
        BANYAN_EXPECT(tpm::request(0));
        BANYAN_EXPECT_EQ(reg(0, crb::kCtrlSts), crb::kIdle);
        tell_pcr_17(0, kBanks, 3);
    });
    expect_pcr_17(d, 0x1001, 3);
}

// The banks that the instance was given are those that a launch extends; the others are not there.
BANYAN_SELFTEST(a_launch_extends_the_banks_that_there_are)
{
    Domain d(3, [](u64) {
        expect_crb();
        make_block(kSlb, 0x200, 5);
        guest::signal(1);
        guest::await(2);
        launch();
        BANYAN_EXPECT(tpm::request(0));
        tell_pcr_17(0, kBanks, 2);
        u8 pcr[48];
        BANYAN_EXPECT_EQ(tpm::pcr_read(0, 17, tpm::kSha1, pcr), 1); // a response without it
    });
    expect_pcr_17(d, 0x200, 2);
}

// Locality 0 has the interface and a command of its executes when SKINIT comes. Passes if the launch measures all the same,
// the command's response is never seen, and locality 0 learns that it lost the interface.
BANYAN_SELFTEST(a_launch_takes_the_interface_from_a_command)
{
    Domain d(1, [](u64) {
        BANYAN_EXPECT(tpm::request(0));
        make_block(kSlb, 0x200, 7);
        guest::signal(1);
        guest::await(2);
        BANYAN_EXPECT(tpm::crb_start(0, tpm::kCreateKey, sizeof tpm::kCreateKey));
        launch();
        BANYAN_EXPECT_EQ(reg(0, crb::kLocSts), crb::kBeenSeized);
        BANYAN_EXPECT_EQ(reg(0, crb::kBuffer), ~u32{0});
        BANYAN_EXPECT(tpm::request(0));
        BANYAN_EXPECT_EQ(reg(0, crb::kLocSts), crb::kGranted);
        BANYAN_EXPECT_EQ(reg(0, crb::kCtrlStart), 0);
        BANYAN_EXPECT_EQ(reg(0, crb::kCtrlSts), crb::kIdle);
        tell_pcr_17(0, kBanks, 3);
    });
    expect_pcr_17(d, 0x200, 3);
}

// The launched code's locality may extend PCR 17, as behind a FIFO; locality 0 may not, and locality 2 takes the interface
// from it.
BANYAN_SELFTEST(launch_pcrs_obey_the_locality)
{
    Domain d(1, [](u64) {
        make_block(kSlb, 0x200);
        launch();
        BANYAN_EXPECT(tpm::request(0));
        BANYAN_EXPECT(tpm::pcr_extend(0, 17, 0x11) != 0);
        BANYAN_EXPECT(tpm::pcr_extend(0, 18, 0x11) != 0);
        u8 before[48];
        BANYAN_EXPECT_EQ(tpm::pcr_read(0, 17, tpm::kSha256, before), 0);
        write<u32>(tpm::at(2, crb::kLocCtrl), crb::kSeize);
        BANYAN_EXPECT_EQ(reg(2, crb::kLocSts), crb::kGranted);
        BANYAN_EXPECT_EQ(reg(0, crb::kLocSts), crb::kBeenSeized);
        u8 value[48];
        BANYAN_EXPECT_EQ(tpm::pcr_read(2, 17, tpm::kSha256, value), 0);
        BANYAN_EXPECT_EQ(__builtin_memcmp(before, value, 32), 0);
        BANYAN_EXPECT_EQ(tpm::pcr_extend(2, 17, 0x11), 0);
        BANYAN_EXPECT_EQ(tpm::pcr_read(2, 17, tpm::kSha256, value), 0);
        BANYAN_EXPECT(__builtin_memcmp(before, value, 32) != 0);
    });
    d.run();
}

// Locality 4 is the processor's here as well: what software writes there, doorbell and buffer included, begins no launch.
BANYAN_SELFTEST(software_cannot_begin_a_launch_measurement)
{
    Domain d(1, [](u64) {
        expect_crb();
        for (const u32 control : {crb::kRequestAccess, crb::kSeize}) {
            write<u32>(tpm::at(4, crb::kLocCtrl), control);
            BANYAN_EXPECT_EQ(reg(4, crb::kLocSts), 0);
        }
        for (const u32 at :
             {tpm::kHashStart, tpm::kHashData, tpm::kHashEnd, crb::kCtrlReq, crb::kBuffer, crb::kCtrlStart}) {
            write<u8>(tpm::at(4, at), 1);
            write<u32>(tpm::at(4, at), 1);
        }
        BANYAN_EXPECT(tpm::request(0));
        u8 pcr[48];
        BANYAN_EXPECT_EQ(tpm::pcr_read(0, 17, tpm::kSha256, pcr), 0);
        for (u32 i = 0; i < 32; ++i) {
            BANYAN_EXPECT_EQ(pcr[i], 0xFF);
        }
    });
    d.run();
}

// One launches into a CRB and its neighbour into a FIFO, again and again, at once. Each has its own measure.
BANYAN_SELFTEST(a_crb_and_a_fifo_launch_side_by_side)
{
    const GuestMain main = [](u64 crb) {
        BANYAN_EXPECT_EQ(tpm::is_crb(), crb != 0);
        make_block(kSlb, 0x800, static_cast<u8>(crb + 1));
        guest::signal(1);
        guest::await(2);
        for (u32 i = 0; i < 5; ++i) {
            launch();
        }
        BANYAN_EXPECT(tpm::request(0));
        tell_pcr_17(0, kBanks, 1);
    };
    Domain with_crb(1, main, 1);
    Domain with_fifo(2, main, 0);
    Domain *const both[] = {&with_crb, &with_fifo};
    u8 expected[2];
    for (u32 i = 0; i < 2; ++i) {
        both[i]->start();
        both[i]->await(1);
        expected[i] = static_cast<u8>(ask("pcr17 sha256 ", slice(both[i]->number()) + kSlb, " ", u64{0x800}, " ", 0u));
    }
    for (Domain *d : both) {
        d->signal(2);
    }
    for (u32 i = 0; i < 2; ++i) {
        both[i]->wait();
        const dt::EndReason why = both[i]->reason();
        both[i]->remove();
        BANYAN_EXPECT_EQ(why, dt::EndReason::kPoweroff);
        BANYAN_EXPECT_EQ(both[i]->result(0), expected[i]);
    }
    BANYAN_EXPECT(expected[0] != expected[1]);
}
