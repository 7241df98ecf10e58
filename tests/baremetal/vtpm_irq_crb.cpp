// SPDX-License-Identifier: GPL-2.0-or-later
#include "banyan/arch/domain_table.hpp"
#include "tests/baremetal/lib/ioapic.hpp"
#include "tests/baremetal/lib/selftest.hpp"

// Interrupts of a CRB: instance 0 has one, and interrupt 14.

using namespace banyan;
using namespace banyan::bare;

namespace {

constexpr u32 kPin = 14;
constexpr u8 kVector = 0x77;

constexpr u64 kLocState = dt::kVtpmBase + 0x00;
constexpr u64 kLocCtrl = dt::kVtpmBase + 0x08;
constexpr u64 kCtrlReq = dt::kVtpmBase + 0x40;
constexpr u64 kCtrlStart = dt::kVtpmBase + 0x4C;
constexpr u64 kIntEnable = dt::kVtpmBase + 0x50;
constexpr u64 kIntStatus = dt::kVtpmBase + 0x54;
constexpr u64 kBuffer = dt::kVtpmBase + 0x80;

constexpr u32 kStartDone = 1u << 0;
constexpr u32 kReadyDone = 1u << 1;
constexpr u32 kLocalityChange = 1u << 3;
constexpr u32 kGlobal = 1u << 31;

u32 causes; // that the handler found

u32 taken()
{
    return this_core().interrupts[kVector];
}

void begin(u32 enabled)
{
    BANYAN_EXPECT(eventually([] { return (read<u32>(kLocState) & 0x80) != 0; })); // its keys are made
    write<u32>(kIntEnable, kGlobal | enabled);
    causes = 0;
    ioapic::route(kPin, kVector);
    this_core().hook = [](Frame &) {
        const u32 now = read<u32>(kIntStatus);
        causes |= now;
        write<u32>(kIntStatus, now);
    };
}

void end()
{
    cli();
    write<u32>(kIntEnable, 0);
    write<u32>(kLocCtrl, 2); // relinquish
    ioapic::mask(kPin);
    this_core().hook = nullptr;
}

void start(const u8 *command, u32 size)
{
    for (u32 i = 0; i < size; ++i) {
        write<u8>(kBuffer + i, command[i]);
    }
    write<u32>(kCtrlStart, 1);
}

} // namespace

BANYAN_SELFTEST(the_end_of_a_command_is_an_interrupt)
{
    begin(kStartDone);
    write<u32>(kLocCtrl, 1); // requestAccess
    write<u32>(kCtrlReq, 1); // cmdReady
    const u32 before = taken();
    const u8 random[] = {0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7B, 0, 8};
    const u8 test[] = {0x80, 0x01, 0,    0,    0, 11,
                       0,    0,    0x01, 0x43, 1}; // TPM2_SelfTest(full): longer than a doorbell waits
    for (u32 i = 0; i < 4; ++i) {
        start(i % 2 == 0 ? random : test, i % 2 == 0 ? sizeof random : sizeof test);
        while (taken() == before + i) {
            sti_hlt();
        }
        BANYAN_EXPECT_EQ(read<u32>(kCtrlStart), 0);
        BANYAN_EXPECT_EQ(read<u32>(kBuffer + 6), 0); // TPM_RC_SUCCESS
    }
    BANYAN_EXPECT_EQ(taken(), before + 4);
    BANYAN_EXPECT_EQ(causes, kStartDone);
    end();
}

BANYAN_SELFTEST(the_other_causes_are_told_apart)
{
    begin(kReadyDone | kLocalityChange);
    const u32 before = taken();
    write<u32>(kLocCtrl, 1);
    BANYAN_EXPECT(lapic::in_service_or_pending(kVector));
    sti();
    spin(kMillisecond);
    cli();
    BANYAN_EXPECT_EQ(taken(), before + 1);
    BANYAN_EXPECT_EQ(causes, kLocalityChange);
    causes = 0;
    write<u32>(kCtrlReq, 1);
    BANYAN_EXPECT(lapic::in_service_or_pending(kVector));
    sti();
    spin(kMillisecond);
    cli();
    BANYAN_EXPECT_EQ(taken(), before + 2);
    BANYAN_EXPECT_EQ(causes, kReadyDone);
    end();
}
