// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/baremetal/lib/domain.hpp"
#include "tests/baremetal/lib/launch.hpp"
#include "tests/baremetal/lib/pci.hpp"

// DMA and messages of devices. The device edu copies between an address of the driver's choice and a buffer of its own:
// one on bus 0, the host's, and one behind a root port that a test gives to domain 1.

using namespace banyan;
using namespace banyan::bare;

namespace {

constexpr u64 kOnes = ~u64{0};
constexpr u64 kHostEdu = 0xE100'0000;
constexpr u64 kGuestEdu = 0xE200'0000;
constexpr u64 kWindowSize = 0x10'0000;
constexpr u8 kSecondary = 1;
constexpr u64 kGuestConfig = kEcamBase + (u64{kSecondary} << 20);
constexpr u64 kHostMemory = 0x0300'0000;
constexpr u64 kPattern = 0x0057'5057'5057'5057;

/// One edu device. Every copy takes it 100 ms.
struct Edu {
    u64 bar;

    void begin(u64 from, u64 to, u64 count, u64 direction) const
    {
        write<u64>(bar + 0x80, from);
        write<u64>(bar + 0x88, to);
        write<u64>(bar + 0x90, count);
        write<u64>(bar + 0x98, 1 | direction << 1);
    }
    void finish() const
    {
        BANYAN_EXPECT(eventually([&] { return (read<u32>(bar + 0x98) & 1) == 0; }));
    }
    void load(u64 address, u64 count) const
    {
        begin(address, 0x40000, count, 0);
        finish();
    }
    void store(u64 address, u64 count) const
    {
        begin(0x40000, address, count, 1);
        finish();
    }
    [[nodiscard]] bool answers() const { return (read<u32>(bar) & 0xFF) == 0xED; }
};

pci::Function root_port()
{
    for (u32 devfn = 0; devfn < 256; ++devfn) {
        const pci::Function f{true, 0, static_cast<u8>(devfn)};
        if (pci::read(f, 0) != 0xFFFF'FFFF && (pci::read(f, 0x0C) >> 16 & 0x7F) == 1) {
            return f;
        }
    }
    return {};
}

/// The host's edu is ready; the root port forwards its window. Before a domain owns it.
void set_up_devices()
{
    set_up_machine();
    for (u32 devfn = 0; devfn < 256; ++devfn) {
        const pci::Function f{true, 0, static_cast<u8>(devfn)};
        if (pci::read(f, 0) == 0x11E8'1234) {
            pci::write(f, pci::kBar0, static_cast<u32>(kHostEdu));
            pci::write(f, pci::kCommand, pci::kMemory | pci::kMaster);
        }
    }
    const pci::Function port = root_port();
    BANYAN_EXPECT(port.found);
    pci::write(port, pci::kBuses, u32{kSecondary} << 16 | u32{kSecondary} << 8);
    pci::write(port, pci::kBridgeMemory,
               static_cast<u32>(kGuestEdu >> 16 << 4 & 0xFFF0) | static_cast<u32>((kGuestEdu >> 16 & 0xFFF0) << 16));
    pci::write(port, pci::kBridgePrefetch, 0xFFF0);
    pci::write(port, pci::kCommand, pci::kMemory | pci::kMaster);
    BANYAN_EXPECT(Edu{kHostEdu}.answers());
}

void give_edu(Domain &d)
{
    set_up_devices();
    d.add_window(kGuestEdu, kWindowSize);
    d.add_window(kGuestConfig, 0x1000);
    d.descriptor().root_ports[0] = {root_port().devfn, kSecondary, {}};
    d.descriptor().root_port_count = 1;
}

/// In the domain: its edu.
Edu guest_edu()
{
    BANYAN_EXPECT_EQ(read<u32>(kGuestConfig), 0x11E8'1234);
    write<u32>(kGuestConfig + pci::kBar0, static_cast<u32>(kGuestEdu));
    write<u32>(kGuestConfig + pci::kCommand, pci::kMemory | pci::kMaster);
    const Edu edu{kGuestEdu};
    BANYAN_EXPECT(edu.answers());
    return edu;
}

void run_with_edu(GuestMain main)
{
    Domain d(1, main);
    give_edu(d);
    for (u64 i = 0; i < 0x1000; i += 8) {
        write<u64>(kHostMemory + i, kPattern + i);
    }
    d.run();
    for (u64 i = 0; i < 0x1000; i += 8) {
        BANYAN_EXPECT_EQ(read<u64>(kHostMemory + i), kPattern + i);
    }
}

} // namespace

// The domain's device copies from and to the domain's RAM at the addresses that the guest knows.
BANYAN_SELFTEST(a_domains_device_reaches_its_ram_by_guest_addresses)
{
    run_with_edu([](u64) {
        const Edu edu = guest_edu();
        write<u64>(0x30'0000, 0x1122'3344'5566'7788);
        edu.load(0x30'0000, 8);
        edu.store(0x31'0000, 8);
        BANYAN_EXPECT_EQ(read<u64>(0x31'0000), 0x1122'3344'5566'7788);
    });
}

// From everywhere else it loads ones, and what it stores there vanishes: host memory, another domain's RAM by its physical
// address, its own by its physical address, the domain table, the vTPM, the local APIC's registers, behind the end of RAM.
BANYAN_SELFTEST(a_domains_device_reaches_nothing_else)
{
    Domain two(2, [](u64) {
        write<u64>(0x30'0000, kPattern);
        guest::signal(1);
        guest::await(2);
        BANYAN_EXPECT_EQ(read<u64>(0x30'0000), kPattern);
    });
    set_up_devices();
    two.start();
    two.await(1);
    run_with_edu([](u64) {
        const Edu edu = guest_edu();
        for (const u64 at : {kHostMemory, slice(2) + 0x30'0000, slice(1) + 0x30'0000, u64{dt::kControlBase},
                             u64{dt::kVtpmBase}, u64{dt::kOwnPageBase}, u64{kSliceSize}, kHostEdu, box(2)}) {
            write<u64>(0x30'0000, 0);
            edu.load(0x30'0000, 8);
            edu.store(at, 8);
            edu.load(at, 8);
            edu.store(0x30'0000, 8);
            BANYAN_EXPECT_EQ(read<u64>(0x30'0000), kOnes);
        }
        write<u64>(kSliceSize - 8, 0x7777);
        edu.load(kSliceSize - 8, 16); // half inside
        edu.store(0x30'0000, 16);
        BANYAN_EXPECT_EQ(read<u64>(0x30'0000), 0x7777);
        BANYAN_EXPECT_EQ(read<u64>(0x30'0008), kOnes);
    });
    BANYAN_EXPECT(ask("report domains.1.denied.dma") >= 16);
    two.signal(2);
    two.wait();
    BANYAN_EXPECT_EQ(two.reason(), dt::EndReason::kPoweroff);
}

// The launched block is closed to the domain's own device until the loader lifts that.
BANYAN_SELFTEST(a_domains_device_cannot_write_into_the_launched_block)
{
    run_with_edu([](u64) {
        const Edu edu = guest_edu();
        make_block(kSlb, 0x200);
        write<u64>(kSlb + 0x8000, 0x1111);
        write<u64>(kSlb + 0xF000, 0x2222);
        write<u64>(0x30'0000, 0);
        launch();
        edu.load(0x30'0000, 8);
        edu.store(kSlb + 0x8000, 8);
        edu.store(kSlb + 0xF000, 8);
        BANYAN_EXPECT_EQ(read<u64>(kSlb + 0x8000), 0x1111);
        BANYAN_EXPECT_EQ(read<u64>(kSlb + 0xF000), 0x2222);
        edu.load(kSlb + 0x8000, 8);
        edu.store(0x30'0000, 8);
        BANYAN_EXPECT_EQ(read<u64>(0x30'0000), kOnes);
        write<u32>(dt::kOwnPageBase + dt::own::kSlDev, 0);
        edu.load(kSlb + 0xF000, 8);
        edu.store(kSlb + 0x8000, 8);
        BANYAN_EXPECT_EQ(read<u64>(kSlb + 0x8000), 0x2222);
    });
}

// A loader that knows AMD's processors lifts the closure at 00:18.3 or 00:18.0, in its own domain's bank: configuration
// space of these two functions is in every domain's reach, and nothing else of bus 0 is.
BANYAN_SELFTEST(a_domains_loader_lifts_the_closure_where_the_processor_has_it)
{
    const GuestMain main = [](u64 word) {
        const Edu edu = guest_edu();
        const u64 dev = kEcamBase + (u64{dt::kDevDevice} << 15) + (u64{dt::kDevFunction} << 12);
        const u64 link = kEcamBase + (u64{dt::kDevDevice} << 15) + (u64{dt::kDevLinkFunction} << 12);
        BANYAN_EXPECT_EQ(read<u8>(dev + 0xF0), 0x0F);
        BANYAN_EXPECT_EQ(read<u32>(dev + 0xF4), 0); // nothing of the life before
        write<u32>(dev + 0xF4, 4 << 8);
        make_block(kSlb, 0x200);
        write<u64>(kSlb + 0x8000, 0x1111);
        launch();
        BANYAN_EXPECT_EQ(read<u32>(dev + 0xF8), 1u << 5);
        BANYAN_EXPECT_EQ(read<u32>(link + 0x384), 1);
        edu.load(0x30'0000, 8);
        edu.store(kSlb + 0x8000, 8);
        BANYAN_EXPECT_EQ(read<u64>(kSlb + 0x8000), 0x1111);
        write<u32>(word == 0 ? dev + 0xF8 : link + 0x384, 0);
        BANYAN_EXPECT_EQ(read<u32>(dev + 0xF8), 0);
        BANYAN_EXPECT_EQ(read<u32>(link + 0x384), 0);
        BANYAN_EXPECT_EQ(read<u32>(dt::kOwnPageBase + dt::own::kSlDev) & 1, 0);
        write<u64>(0x30'0000, 0x2222);
        edu.load(0x30'0000, 8);
        edu.store(kSlb + 0x8000, 8);
        BANYAN_EXPECT_EQ(read<u64>(kSlb + 0x8000), 0x2222);
        BANYAN_EXPECT_EQ(read<u32>(kEcamBase), ~0u); // the host bridge is nobody's
        const u16 command = read<u16>(dev + pci::kCommand);
        write<u16>(dev + pci::kCommand,
                   static_cast<u16>(~command)); // and these functions' plain registers are the host's
        BANYAN_EXPECT_EQ(read<u16>(dev + pci::kCommand), command);
    };
    for (const u64 word : {0u, 1u}) {
        set_up_devices();
        Domain d(1, main, word);
        give_edu(d);
        d.run();
    }
}

// The device writes interrupt messages. A fixed one for the domain's own core arrives; for another core, or with the
// delivery mode NMI, SMI, INIT or ExtINT, it does not, and nobody else hears it.
BANYAN_SELFTEST(a_domains_device_interrupts_its_domain_only)
{
    const auto count = [] {
        u32 sum = 0;
        for (const u32 n : this_core().interrupts) {
            sum += n;
        }
        return sum;
    };
    const u32 before = count();
    sti();
    run_with_edu([](u64) {
        const Edu edu = guest_edu();
        const auto message = [&](u64 destination, u32 data) {
            write<u32>(0x30'0000, data);
            edu.load(0x30'0000, 4);
            edu.store(dt::kLapicBase | destination << 12, 4);
        };
        sti();
        message(1, 0x61);
        BANYAN_EXPECT_EQ(this_core().interrupts[0x61], 1);
        for (const u32 mode : {2u, 4u, 5u, 7u}) { // SMI, NMI, INIT, ExtINT
            message(1, mode << 8 | 0x62);
        }
        for (const u64 destination : {u64{0}, u64{2}, u64{3}}) {
            message(destination, 0x63);
            message(destination, 4u << 8);
        }
        message(0xFF, 0x64); // broadcast: its own core alone
        cli();
        BANYAN_EXPECT_EQ(this_core().interrupts[0x61], 1);
        BANYAN_EXPECT_EQ(this_core().interrupts[0x62], 0);
        BANYAN_EXPECT_EQ(this_core().interrupts[0x63], 0);
        BANYAN_EXPECT_EQ(this_core().interrupts[kNmi], 0);
    });
    cli();
    BANYAN_EXPECT_EQ(count() - before, 0);
}

// The guest starts a copy into an address of its choice, and ends before the device performs it; the host deletes the
// domain and gets the device back. Passes if the copy never arrives in the host's memory.
BANYAN_SELFTEST(a_deleted_domains_device_writes_nothing_into_the_hosts_memory)
{
    Domain d(1, [](u64) {
        const Edu edu = guest_edu();
        write<u64>(0x30'0000, 0xBAD0'BAD0);
        edu.load(0x30'0000, 8);
        edu.begin(0x40000, kHostMemory, 8, 1);
    });
    give_edu(d);
    write<u64>(kHostMemory, kPattern);
    d.run();
    (void)ask("sleep ", 250u);
    BANYAN_EXPECT_EQ(read<u64>(kHostMemory), kPattern);
}

// The same into the domain's own RAM: what it was must stay clean after the scrub.
BANYAN_SELFTEST(a_deleted_domains_device_writes_nothing_into_scrubbed_ram)
{
    Domain d(1, [](u64) {
        const Edu edu = guest_edu();
        write<u64>(0x30'0000, 0xBAD0'BAD0);
        edu.load(0x30'0000, 8);
        edu.begin(0x40000, 0x31'0000, 8, 1);
    });
    give_edu(d);
    d.run();
    (void)ask("sleep ", 250u);
    BANYAN_EXPECT_EQ(read<u64>(slice(1) + 0x31'0000), 0);
    BANYAN_EXPECT_EQ(read<u64>(0x31'0000), 0);
}

// The host's device copies from and to a sealed domain's RAM, its window and the platform's windows. Passes if it loads
// ones, and the guest finds all as it was.
BANYAN_SELFTEST(the_hosts_devices_do_not_reach_a_closed_domain)
{
    Domain d(1, [](u64) {
        write<u64>(0x30'0000, kPattern);
        guest::result(8, kPattern);
        const Edu mine = guest_edu();
        write<u32>(mine.bar + 4, 0x1234'5678); // the register "liveness check" gives it back inverted
        guest::signal(1);
        guest::await(2);
        BANYAN_EXPECT_EQ(read<u64>(0x30'0000), kPattern);
        BANYAN_EXPECT_EQ(read<u32>(mine.bar + 4), ~0x1234'5678u);
    });
    give_edu(d);
    const Edu host{kHostEdu};
    write<u64>(0x0310'0000, 0xBAD0'BAD0);
    d.start();
    d.await(1);
    host.load(0x0310'0000, 8);
    host.store(slice(1) + 0x30'0000, 8);
    host.store(box(1) + 0x140, 8);
    host.store(kGuestEdu + 4, 4);
    for (const u64 at : {slice(1) + 0x30'0000, box(1) + 0x140, kGuestEdu, kGuestConfig}) {
        host.load(at, 4);
        host.store(0x0311'0000, 4);
        BANYAN_EXPECT_EQ(read<u32>(0x0311'0000), 0xFFFF'FFFF);
    }
    d.signal(2);
    d.wait();
    const dt::EndReason why = d.reason();
    d.remove();
    BANYAN_EXPECT_EQ(why, dt::EndReason::kPoweroff);
    BANYAN_EXPECT_EQ(d.result(8), kPattern);
}

// Windows that answer marked accesses only: a device reads ones there, and changes nothing.
BANYAN_SELFTEST(devices_do_not_reach_the_vtpm_or_the_domain_table)
{
    set_up_devices();
    const Edu host{kHostEdu};
    Domain d(1, [](u64) {});
    d.build();
    write<u64>(0x0310'0000, 0);
    host.load(0x0310'0000, 8);
    for (const u64 at :
         {dt::kVtpmBase, dt::kVtpmBase + 0x4028, dt::kOwnPageBase, dt::kControlBase, dt::kControlBase + 0x1000}) {
        host.store(at, 4);
        host.load(at, 4);
        host.store(0x0311'0000, 4);
        BANYAN_EXPECT_EQ(read<u32>(0x0311'0000), 0xFFFF'FFFF);
        host.load(0x0310'0000, 8);
    }
    BANYAN_EXPECT_EQ(read_descriptor(1).magic, dt::kDescriptorMagic);
    BANYAN_EXPECT(ask("report unmarked") + ask("report host.denied.dma") > 0);
}

// A host that could program a domain's device could have it write into the domain's RAM. It tries by configuration ports
// and by ECAM, on the function and on its root port.
BANYAN_SELFTEST(the_host_cannot_configure_a_running_domains_device)
{
    Domain d(1, [](u64) {
        const Edu edu = guest_edu();
        guest::signal(1);
        guest::await(2);
        BANYAN_EXPECT(edu.answers());
        BANYAN_EXPECT_EQ(read<u32>(kGuestConfig + pci::kBar0), kGuestEdu);
        BANYAN_EXPECT_EQ(read<u32>(kGuestConfig + pci::kCommand) & 6, 6);
        write<u64>(0x30'0000, 0x4444);
        edu.load(0x30'0000, 8);
        edu.store(0x31'0000, 8);
        BANYAN_EXPECT_EQ(read<u64>(0x31'0000), 0x4444);
    });
    give_edu(d);
    const pci::Function port = root_port();
    d.start();
    d.await(1);
    const pci::Function edu{true, kSecondary, 0};
    BANYAN_EXPECT_EQ(pci::read(edu, 0), 0xFFFF'FFFF);
    pci::write(edu, pci::kBar0, 0xE300'0000);
    pci::write(edu, pci::kCommand, 0);
    write<u32>(kGuestConfig + pci::kCommand, 0);
    BANYAN_EXPECT_EQ(read<u32>(kGuestConfig), 0xFFFF'FFFF);
    pci::write(port, pci::kBridgeMemory, 0xE3F0'E300); // the port's window elsewhere: the device with it
    pci::write(port, pci::kBuses, 0x0002'0200);        // another bus number: another ECAM page
    pci::write(port, 0x3C, 1u << 22);                  // secondary bus reset
    BANYAN_EXPECT_EQ(read<u32>(kEcamBase + 0x20'0000), 0xFFFF'FFFF);
    // ECAM itself elsewhere.
    const pci::Function bridge{true, 0, 0};
    const u32 ecam = pci::read(bridge, 0x60);
    pci::write(bridge, 0x60, 0xC000'0001);
    BANYAN_EXPECT_EQ(read<u32>(0xC000'0000 + (u64{kSecondary} << 20)), 0xFFFF'FFFF);
    pci::write(bridge, 0x60, ecam);
    d.signal(2);
    d.wait();
    const dt::EndReason why = d.reason();
    d.remove();
    BANYAN_EXPECT_EQ(why, dt::EndReason::kPoweroff);
}

// Deleted, the domain's device is the host's to configure: reset, and without reach into the host's memory, where something
// that the guest began could end. The next domain has it whole.
BANYAN_SELFTEST(a_deleted_domains_device_comes_back_reset_and_without_reach)
{
    run_with_edu([](u64) { (void)guest_edu(); });
    const pci::Function f{true, kSecondary, 0};
    BANYAN_EXPECT_EQ(pci::read(f, 0), 0x11E8'1234);
    BANYAN_EXPECT_EQ(pci::read(f, pci::kCommand) & 7, 0);
    pci::write(f, pci::kBar0, static_cast<u32>(kGuestEdu));
    pci::write(f, pci::kCommand, pci::kMemory | pci::kMaster);
    const Edu edu{kGuestEdu};
    BANYAN_EXPECT(edu.answers());
    write<u64>(kHostMemory, 0x1357);
    write<u64>(kHostMemory + 8, kPattern);
    edu.load(kHostMemory, 8);
    edu.store(kHostMemory + 8, 8);
    BANYAN_EXPECT_EQ(read<u64>(kHostMemory + 8), kPattern);
    run_with_edu([](u64) {
        const Edu mine = guest_edu();
        write<u64>(0x30'0000, 0x2468);
        mine.load(0x30'0000, 8);
        mine.store(0x31'0000, 8);
        BANYAN_EXPECT_EQ(read<u64>(0x31'0000), 0x2468);
    });
}
