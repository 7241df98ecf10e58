// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/baremetal/lib/domain.hpp"
#include "tests/baremetal/lib/ioapic.hpp"
#include "tests/baremetal/lib/tpm.hpp"

// Interrupts of the vTPM's windows, and what each instance looks like. The machine (CMakeLists.txt): instance 0 and a window
// with instance 1 share interrupt 5, a window with instance 2 has interrupt 6, its own DID/VID and one bank; instance 3 is
// domain 3's, with a CRB. Under icount (machine_has("icount")) the same holds at virtual times.

using namespace banyan;
using namespace banyan::bare;

namespace {

constexpr u32 kSharedPin = 5;
constexpr u32 kOwnPin = 6;
constexpr u8 kShared = 0x55;
constexpr u8 kOwn = 0x66;

constexpr u32 kIntEnable = 0x08;
constexpr u32 kIntStatus = 0x10;
constexpr u32 kDataAvail = 1u << 0;
constexpr u32 kGlobal = 1u << 31;

/// Locality 0 of a window's FIFO.
struct Fifo {
    u64 base;

    [[nodiscard]] u64 at(u32 reg) const { return base + reg; }
    [[nodiscard]] u32 status() const { return read<u32>(at(tpm::kStatus)); }
    [[nodiscard]] u32 cause() const { return read<u32>(at(kIntStatus)); }
    void acknowledge() const { write<u32>(at(kIntStatus), cause()); }

    /// Active, with the interrupt for a response.
    void listen() const
    {
        BANYAN_EXPECT(eventually([this] { return (read<u8>(at(tpm::kAccess)) & 0x80) != 0; })); // its keys are made
        write<u8>(at(tpm::kAccess), tpm::kRequestUse);
        BANYAN_EXPECT_EQ(read<u8>(at(tpm::kAccess)) & tpm::kActive, tpm::kActive);
        write<u32>(at(kIntEnable), kGlobal | kDataAvail);
        acknowledge();
    }
    void start(const u8 *command, u32 size) const
    {
        write<u8>(at(tpm::kStatus), tpm::kReady);
        BANYAN_EXPECT(eventually([this] { return (status() & tpm::kReady) != 0; }));
        for (u32 i = 0; i < size; ++i) {
            write<u8>(at(tpm::kFifo), command[i]);
        }
        write<u8>(at(tpm::kStatus), tpm::kGo);
    }
    void get_random() const
    {
        const u8 command[] = {0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7B, 0, 8};
        start(command, sizeof command);
    }
    /// An RSA key in the null hierarchy: longer than any doorbell waits.
    void make_key() const { start(tpm::kCreateKey, sizeof tpm::kCreateKey); }
    void end() const
    {
        write<u32>(at(kIntEnable), 0);
        write<u8>(at(tpm::kStatus), tpm::kReady);
        write<u8>(at(tpm::kAccess), tpm::kActive);
    }
};

constexpr Fifo kFirst{dt::kVtpmBase};
constexpr Fifo kNeighbour{dt::kVtpmWindowsBase};
constexpr Fifo kApart{dt::kVtpmWindowsBase + dt::kVtpmSize};

u32 taken(u8 vector)
{
    return this_core().interrupts[vector];
}

void hear(void (*handler)(Frame &))
{
    ioapic::route(kSharedPin, kShared);
    ioapic::route(kOwnPin, kOwn);
    this_core().hook = handler;
}

void be_deaf()
{
    cli();
    ioapic::mask(kSharedPin);
    ioapic::mask(kOwnPin);
    this_core().hook = nullptr;
}

/// What is pending is taken.
void take_all()
{
    sti();
    spin(kMillisecond);
    cli();
}

} // namespace

// The level goes up with the response and down with its acknowledgement, no earlier and no later: one interrupt for each.
BANYAN_SELFTEST(the_line_is_up_from_the_response_to_its_acknowledgement)
{
    kFirst.listen();
    hear([](Frame &) { kFirst.acknowledge(); });
    for (u32 i = 0; i < 3; ++i) {
        const u32 before = taken(kShared);
        take_all();
        BANYAN_EXPECT_EQ(taken(kShared), before);
        kFirst.get_random();
        BANYAN_EXPECT(eventually([] { return lapic::in_service_or_pending(kShared); }));
        BANYAN_EXPECT_EQ(kFirst.cause(), kDataAvail);
        take_all();
        BANYAN_EXPECT_EQ(taken(kShared), before + 1);
        BANYAN_EXPECT_EQ(kFirst.cause(), 0);
    }
    be_deaf();
    kFirst.end();
}

BANYAN_SELFTEST(a_line_that_nobody_lowers_comes_again)
{
    static u32 deaf_for;
    kFirst.listen();
    hear([](Frame &) {
        if (deaf_for == 0) {
            kFirst.acknowledge();
        } else {
            --deaf_for;
        }
    });
    const u32 before = taken(kShared);
    deaf_for = 4;
    kFirst.get_random();
    BANYAN_EXPECT(eventually([] { return lapic::in_service_or_pending(kShared); }));
    take_all();
    BANYAN_EXPECT_EQ(taken(kShared), before + 5);
    be_deaf();
    kFirst.end();
}

// Nobody touches a register of the TPM from tpmGo on: the core sleeps until the interrupt. Three keys, one after the other.
BANYAN_SELFTEST(a_long_command_wakes_a_core_that_sleeps)
{
    kFirst.listen();
    hear([](Frame &) { kFirst.acknowledge(); });
    for (u32 i = 0; i < 3; ++i) {
        const u32 before = taken(kShared);
        kFirst.make_key();
        const u64 start = rdtsc();
        while (taken(kShared) == before) {
            sti_hlt();
        }
        const u64 took = rdtsc() - start;
        BANYAN_EXPECT_EQ(kFirst.status() & (tpm::kValid | tpm::kData), tpm::kValid | tpm::kData);
        BANYAN_EXPECT_EQ(taken(kShared), before + 1);
        if (machine_has("icount")) { // command_cost_ns: 20 ms of virtual time, whatever the host took
            BANYAN_EXPECT(took > 19 * kMillisecond && took < 21 * kMillisecond);
        }
        u8 header[18];
        for (u8 &byte : header) {
            byte = read<u8>(kFirst.at(tpm::kFifo));
        }
        BANYAN_EXPECT_EQ(header[6] | header[7] | header[8] | header[9], 0);
        const u8 flush[] = {0x80, 0x01, 0, 0, 0, 14, 0, 0, 0x01, 0x65, header[10], header[11], header[12], header[13]};
        kFirst.start(flush, sizeof flush);
        BANYAN_EXPECT(eventually([] { return (kFirst.status() & tpm::kData) != 0; }));
        take_all();
    }
    be_deaf();
    kFirst.end();
}

// Both have a response; the handler serves one of them each time it comes. The line stays up until the second is served.
BANYAN_SELFTEST(two_instances_share_a_line)
{
    static u32 first, second;
    first = second = 0;
    kFirst.listen();
    kNeighbour.listen();
    hear([](Frame &) {
        if (kFirst.cause() != 0) {
            ++first;
            kFirst.acknowledge();
        } else if (kNeighbour.cause() != 0) {
            ++second;
            kNeighbour.acknowledge();
        }
    });
    const u32 before = taken(kShared);
    const u32 own = taken(kOwn);
    kNeighbour.get_random();
    kFirst.get_random();
    BANYAN_EXPECT(eventually([] { return kFirst.cause() != 0 && kNeighbour.cause() != 0; }));
    take_all();
    BANYAN_EXPECT_EQ(first, 1);
    BANYAN_EXPECT_EQ(second, 1);
    BANYAN_EXPECT_EQ(taken(kShared), before + 2);
    BANYAN_EXPECT_EQ(taken(kOwn), own);

    kApart.listen(); // and one with a line of its own
    kApart.get_random();
    BANYAN_EXPECT(eventually([] { return lapic::in_service_or_pending(kOwn); }));
    BANYAN_EXPECT(!lapic::in_service_or_pending(kShared));
    this_core().hook = [](Frame &) { kApart.acknowledge(); };
    take_all();
    BANYAN_EXPECT_EQ(taken(kOwn), own + 1);
    BANYAN_EXPECT_EQ(taken(kShared), before + 2);
    be_deaf();
    kFirst.end();
    kNeighbour.end();
    kApart.end();
}

// A power cycle with the line up leaves it down.
BANYAN_SELFTEST(a_reset_of_the_machine_lowers_the_line)
{
    if (boot_phase() == 0) {
        kFirst.listen();
        ioapic::route(kSharedPin, kShared);
        kFirst.get_random();
        BANYAN_EXPECT(eventually([] { return lapic::in_service_or_pending(kShared); }));
        reset_machine();
    }
    const u32 before = taken(kShared);
    hear([](Frame &) { ioapic::mask(kSharedPin); });
    take_all();
    BANYAN_EXPECT_EQ(taken(kShared), before);
    be_deaf();
}

BANYAN_SELFTEST(a_further_window_has_its_own_did_vid_and_banks)
{
    BANYAN_EXPECT(eventually([] { return (read<u8>(kApart.at(tpm::kAccess)) & 0x80) != 0; }));
    BANYAN_EXPECT_EQ(read<u32>(kFirst.at(tpm::kDidVid)), 0x00011014);
    BANYAN_EXPECT_EQ(read<u32>(kNeighbour.at(tpm::kDidVid)), 0x00011014);
    BANYAN_EXPECT_EQ(read<u32>(kApart.at(tpm::kDidVid)), 0x22211014);
    kApart.listen();
    const u8 command[] = {0x80, 0x01, 0, 0, 0, 22, 0, 0, 0x01, 0x7A, 0,
                          0,    0,    5, 0, 0, 0,  0, 0, 0,    0,    8}; // TPM_CAP_PCRS
    kApart.start(command, sizeof command);
    BANYAN_EXPECT(eventually([] { return (kApart.status() & tpm::kData) != 0; }));
    u8 answer[64] = {};
    u32 got = 0;
    while ((kApart.status() & tpm::kData) != 0 && got < sizeof answer) {
        answer[got++] = read<u8>(kApart.at(tpm::kFifo));
    }
    const u32 list = 10 + 1 + 4; // header, moreData, capability
    BANYAN_EXPECT(got > list + 4);
    u32 allocated = 0; // banks with a PCR in them
    for (u32 i = 0, at = list + 4; i < answer[list + 3] && at + 6 <= got; ++i, at += 6) {
        if ((answer[at + 3] | answer[at + 4] | answer[at + 5]) != 0) {
            ++allocated;
            BANYAN_EXPECT_EQ(answer[at + 1], 0x0B); // SHA-256
        }
    }
    BANYAN_EXPECT_EQ(allocated, 1);
    kApart.end();
}

// Domain 3's instance is a CRB with its own DID/VID; whatever a domain enables, its TPM has no interrupt.
BANYAN_SELFTEST(a_domain_has_the_interface_that_was_chosen_and_no_interrupt)
{
    if (!machine_has("domains")) {
        skip("a machine without domains");
    }
    Domain d(3, [](u64) {
        const u64 window = dt::kVtpmBase;
        BANYAN_EXPECT(eventually([=] { return (read<u32>(window) & 0x80) != 0; }));
        BANYAN_EXPECT_EQ(read<u32>(window + 0x30) & 0xF, 1); // a CRB
        BANYAN_EXPECT_EQ(read<u32>(window + 0x34), 0x33311014);
        write<u32>(window + 0x08, 1); // requestAccess
        BANYAN_EXPECT_EQ(read<u32>(window + 0x0C) & 1, 1);
        write<u32>(window + 0x50, kGlobal | 0xF);
        BANYAN_EXPECT_EQ(read<u32>(window + 0x50), 0);
    });
    d.run();
    Domain fifo(1, [](u64) {
        BANYAN_EXPECT(tpm::request(0));
        BANYAN_EXPECT_EQ(read<u32>(tpm::at(0, tpm::kDidVid)), 0x00011014);
    });
    fifo.descriptor().vtpm_instance = 4;
    fifo.run();
}
