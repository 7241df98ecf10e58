// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/baremetal/lib/cores.hpp"
#include "tests/baremetal/lib/pci.hpp"
#include "tests/baremetal/lib/selftest.hpp"

// A memory map that changes while other cores do I/O. A plain machine: nothing of ours has a part in it.

using namespace banyan::bare;

namespace {

constexpr u64 kHpet = 0xFED0'0000; // its first word never changes
constexpr u16 kEduVendor = 0x1234;
constexpr u16 kEduDevice = 0x11E8;
constexpr u32 kChanges = 3000;

volatile bool changing;
volatile u64 looks;
volatile u64 astray;

/// Reads without a branch in between: they are translated into one block, which ends when all are done.
template <unsigned count>
[[gnu::always_inline]] inline u32 differences(u32 expected)
{
    if constexpr (count == 0) {
        return 0;
    } else {
        const u32 seen = read<u32>(kHpet);
        return (seen != expected ? 1u : 0u) + differences<count - 1>(expected);
    }
}

} // namespace

// One core opens and closes a PCI function's window, which lies below the HPET and so shifts whatever the emulator keeps of
// the map; another core reads the HPET's identity all the time. A pass proves that no access goes to what stood in the new
// map's place of the old one.
BANYAN_SELFTEST(no_access_goes_astray_while_the_map_changes)
{
    const pci::Function edu = pci::find(kEduVendor, kEduDevice);
    if (!edu.found) {
        give_up("this machine has no edu device");
    }
    const u32 command = pci::read(edu, pci::kCommand) & 0xFFFF;
    start_core(1);
    changing = true;
    begin_on(
        1,
        [](u64) {
            const u32 identity = read<u32>(kHpet);
            u64 wrong = 0;
            u64 count = 0;
            while (changing) {
                wrong += differences<24>(identity);
                count += 24;
            }
            astray = wrong;
            looks = count;
        },
        0);
    for (u32 i = 0; i < kChanges; ++i) {
        pci::write(edu, pci::kCommand, command & ~pci::kMemory);
        pci::write(edu, pci::kCommand, command | pci::kMemory);
    }
    changing = false;
    BANYAN_EXPECT(finished_on(1));
    BANYAN_EXPECT(looks > kChanges); // it did look meanwhile
    BANYAN_EXPECT_EQ(astray, 0);
}
