// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/baremetal/lib/domain.hpp"

// Reach: a domain touches its ranges and windows, and everything else is a black hole: reads ones, drops writes.

using namespace banyan;
using namespace banyan::bare;

extern "C" {
extern u32 reach_target, reach_loaded[4];
extern u32 entry_probe_function;
extern u64 pml4[512];
void reach_probe();
}

namespace {

constexpr u64 kOnes = ~u64{0};
constexpr u64 kHostMemory = 0x0300'0000; // RAM that the host has put a pattern into
constexpr u64 kPattern = 0x0057'5057'5057'5057;
constexpr u64 kOutOfBounds[] = {
    kSliceSize,        // the first page behind the domain's RAM
    kHostMemory,       // as if guest physical were physical
    slice(1),          // its own RAM by its physical address
    slice(2),          // another domain's
    box(2),            // another domain's window
    box(1) + kBoxSize, // behind its own window
    kEcamBase,         // the host bridge's configuration
    dt::kControlBase,  // the domain table
    dt::kControlBase + dt::control::kDescriptor,
    dt::kBlackHoleBase,
    dt::kLapicBase + 0x1000, // behind the local APIC's page: the message window
    0xFEC0'0000,             // IOAPIC
    0xFED0'0000,             // HPET
    0xFFFF'0000,             // firmware
    0x1'0000'0000,           // above 4 GiB
    0x7F'0000'0000,
};

/// Domain 2 keeps patterns in its RAM and ends with poweroff if they are there at the end.
void keeps_patterns(u64)
{
    constexpr u64 kWhere[] = {0, 0x1000, 0x30'0000};
    for (const u64 at : kWhere) {
        for (u64 i = 0; i < 64; ++i) {
            write<u64>(at + i * 8, kPattern + i);
        }
    }
    guest::signal(1);
    guest::await(2);
    for (const u64 at : kWhere) {
        for (u64 i = 0; i < 64; ++i) {
            BANYAN_EXPECT_EQ(read<u64>(at + i * 8), kPattern + i);
        }
    }
}

/// Runs `main` in domain 1 beside domain 2, and fails if host memory or domain 2 changed.
void attack_from_domain_1(GuestMain main, dt::EndReason expected = dt::EndReason::kPoweroff)
{
    for (u64 i = 0; i < 0x1000; i += 8) {
        write<u64>(kHostMemory + i, kPattern + i);
    }
    Domain two(2, keeps_patterns);
    two.start();
    two.await(1);
    Domain one(1, main);
    one.start();
    one.wait();
    const dt::EndReason why = one.reason();
    one.remove();
    BANYAN_EXPECT_EQ(why, expected);
    for (u64 i = 0; i < 0x1000; i += 8) {
        BANYAN_EXPECT_EQ(read<u64>(kHostMemory + i), kPattern + i);
    }
    BANYAN_EXPECT_EQ(state_of(2), dt::State::kRunning);
    two.signal(2);
    two.wait();
    BANYAN_EXPECT_EQ(two.reason(), dt::EndReason::kPoweroff);
}

} // namespace

BANYAN_SELFTEST(loads_outside_read_ones)
{
    attack_from_domain_1([](u64) {
        for (const u64 at : kOutOfBounds) {
            BANYAN_EXPECT_EQ(read<u8>(at + 3), 0xFF);
            BANYAN_EXPECT_EQ(read<u16>(at + 2), 0xFFFF);
            BANYAN_EXPECT_EQ(read<u32>(at + 4), 0xFFFF'FFFF);
            BANYAN_EXPECT_EQ(read<u64>(at), kOnes);
            BANYAN_EXPECT_EQ(read<u64>(at + 0xFFC), kOnes);   // over a page's end
            BANYAN_EXPECT_EQ(read<u32>(at + 1), 0xFFFF'FFFF); // misaligned
            u64 low, high;
            asm volatile("movups (%2), %%xmm3\n movq %%xmm3, %0\n psrldq $8, %%xmm3\n movq %%xmm3, %1"
                         : "=&r"(low), "=&r"(high)
                         : "r"(at)
                         : "memory");
            BANYAN_EXPECT_EQ(low & high, kOnes);
        }
    });
    BANYAN_EXPECT(ask("report domains.1.denied.mmio") >= 100);
}

BANYAN_SELFTEST(stores_outside_vanish)
{
    attack_from_domain_1([](u64) {
        for (const u64 at : kOutOfBounds) {
            for (u64 i = 0; i < 64; i += 8) {
                write<u64>(at + i, 0);
            }
            write<u8>(at + 1, 0);
            write<u16>(at + 2, 0);
            write<u32>(at + 4, 0);
            write<u64>(at + 0xFFC, 0);
            asm volatile("pxor %%xmm3, %%xmm3\n movups %%xmm3, (%0)\n movntps %%xmm3, (%0)" : : "r"(at) : "memory");
            BANYAN_EXPECT_EQ(read<u64>(at), kOnes);
        }
    });
}

BANYAN_SELFTEST(atomic_operations_outside_change_nothing)
{
    attack_from_domain_1([](u64) {
        for (const u64 at : kOutOfBounds) {
            u64 old = 1;
            asm volatile("lock xaddq %0, (%1)" : "+r"(old) : "r"(at) : "memory");
            BANYAN_EXPECT_EQ(old, kOnes);
            old = 0;
            asm volatile("xchgq %0, (%1)" : "+r"(old) : "r"(at) : "memory");
            BANYAN_EXPECT_EQ(old, kOnes);
            u64 a = kOnes, d = kOnes;
            asm volatile("lock cmpxchg8b (%2)" : "+a"(a), "+d"(d) : "r"(at), "b"(0), "c"(0) : "memory");
            asm volatile("lock cmpxchg16b (%2)" : "+a"(a), "+d"(d) : "r"(at), "b"(u64{0}), "c"(u64{0}) : "memory");
            asm volatile("lock btsq $5, (%0)\n lock andq $0, (%0)\n lock incb 1(%0)" : : "r"(at) : "memory");
            BANYAN_EXPECT_EQ(read<u64>(at), kOnes);
        }
    });
}

BANYAN_SELFTEST(string_instructions_outside_move_nothing)
{
    attack_from_domain_1([](u64) {
        static u8 mine[4096];
        for (const u64 at : kOutOfBounds) {
            u64 to = address_of(mine), from = at, count = sizeof mine;
            asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
            for (const u8 byte : mine) {
                BANYAN_EXPECT_EQ(byte, 0xFF);
            }
            from = 0x10'0000, to = at, count = 512;
            asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
            to = at, count = 1024;
            asm volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(0) : "memory");
            from = at, count = 64;
            asm volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(0x80) : "memory");
            to = at, count = 64;
            asm volatile("rep insb" : "+D"(to), "+c"(count) : "d"(0x80) : "memory");
        }
    });
}

// Accesses that begin in the domain's last page and end behind it: what is inside happens, what is outside does not.
BANYAN_SELFTEST(an_access_over_the_edge_is_split_at_the_edge)
{
    attack_from_domain_1([](u64) {
        const u64 edge = kSliceSize;
        write<u64>(edge - 8, 0);
        write<u64>(edge - 4, 0x1122'3344'5566'7788);
        BANYAN_EXPECT_EQ(read<u32>(edge - 4), 0x5566'7788);
        BANYAN_EXPECT_EQ(read<u64>(edge - 4), 0xFFFF'FFFF'5566'7788);
        BANYAN_EXPECT_EQ(read<u32>(edge - 8), 0);
        u64 add = 1;
        asm volatile("lock xaddq %0, (%1)" : "+r"(add) : "r"(edge - 4) : "memory");
        BANYAN_EXPECT_EQ(add, 0xFFFF'FFFF'5566'7788);
        write<u64>(dt::kOwnPageBase - 4, 0); // from the vTPM's last page into the own page's first register
        BANYAN_EXPECT_EQ(read<u32>(dt::kOwnPageBase), dt::kOwnId);
    });
}

// FXSAVE, XSAVE, FNSAVE and their opposites keep pointers into host memory while they work.
BANYAN_SELFTEST(state_images_outside_are_neither_stored_nor_loaded)
{
    attack_from_domain_1([](u64) {
        asm volatile("mov %%cr4, %%rax\n or $1 << 18, %%eax\n mov %%rax, %%cr4\n"
                     "xor %%ecx, %%ecx\n mov $3, %%eax\n xor %%edx, %%edx\n xsetbv"
                     :
                     :
                     : "rax", "rcx", "rdx");
        for (const u64 at : kOutOfBounds) {
            (void)attempt([=] { asm volatile("fxsave64 (%0)" : : "r"(at) : "memory"); });
            (void)attempt([=] { asm volatile("fxsave64 (%0)" : : "r"(at + 0xE10) : "memory"); }); // over the page's end
            (void)attempt([=] { asm volatile("xsave64 (%0)" : : "r"(at), "a"(3), "d"(0) : "memory"); });
            (void)attempt([=] { asm volatile("fnsave (%0)" : : "r"(at) : "memory"); });
            (void)attempt([=] { asm volatile("fxrstor64 (%0)" : : "r"(at) : "memory"); });
            (void)attempt([=] { asm volatile("xrstor64 (%0)" : : "r"(at), "a"(3), "d"(0) : "memory"); });
            (void)attempt([=] { asm volatile("frstor (%0)" : : "r"(at) : "memory"); });
            asm volatile("fninit");
        }
    });
}

BANYAN_SELFTEST(descriptor_tables_outside_read_as_ones)
{
    attack_from_domain_1([](u64) {
        for (const u64 at : kOutOfBounds) {
            struct [[gnu::packed]] Table {
                u16 limit;
                u64 base;
            } gdt, seen;
            asm volatile("sgdt %0" : "=m"(gdt));
            asm volatile("lgdt (%1)\n sgdt %0\n lgdt %2" : "=m"(seen) : "r"(at), "m"(gdt) : "memory");
            BANYAN_EXPECT_EQ(seen.limit, 0xFFFF);
            asm volatile("sgdt (%0)\n sidt (%0)" : : "r"(at) : "memory");
            // A table that lies outside: its descriptors are all ones, and no accessed bit is written back.
            const Table outside{0xFFFF, at};
            (void)attempt([&] {
                asm volatile("lgdt %0\n mov $0x10, %%eax\n mov %%eax, %%fs\n lgdt %1"
                             :
                             : "m"(outside), "m"(gdt)
                             : "rax", "memory");
            });
            asm volatile("lgdt %0\n xor %%eax, %%eax\n mov %%eax, %%fs" : : "m"(gdt) : "rax");
        }
    });
}

BANYAN_SELFTEST(instructions_cannot_be_fetched_from_outside)
{
    attack_from_domain_1([](u64) {
        for (const u64 at : kOutOfBounds) {
            const Fault fault = attempt([=] { reinterpret_cast<void (*)()>(at)(); });
            BANYAN_EXPECT(fault.is(kUd)); // FF FF
            BANYAN_EXPECT_EQ(fault.rip, at);
        }
        // An instruction that begins in the last bytes of RAM ends in ones.
        write<u8>(kSliceSize - 2, 0x48);
        write<u8>(kSliceSize - 1, 0xB8); // MOV RAX, imm64
        const Fault fault = attempt([] { reinterpret_cast<void (*)()>(kSliceSize - 2)(); });
        BANYAN_EXPECT(fault.is(kUd));
        BANYAN_EXPECT_EQ(fault.rip, kSliceSize + 8);
    });
}

// Page tables outside: entries of ones have reserved bits set, and no accessed or dirty bit is written there.
BANYAN_SELFTEST(a_page_table_outside_is_a_page_fault)
{
    attack_from_domain_1([](u64) {
        for (const u64 at : kOutOfBounds) {
            pml4[8] = at | 7;
            write_cr3(read_cr3());
            const Fault load = attempt([] { (void)read<u64>(8ull << 39); });
            BANYAN_EXPECT(load.is(kPf));
            BANYAN_EXPECT_EQ(load.error & ~u64{1}, 8); // reserved bits
            const Fault store = attempt([] { write<u64>((8ull << 39) + 0x12'3000, 0); });
            BANYAN_EXPECT(store.is(kPf));
            BANYAN_EXPECT_EQ(store.error & ~u64{1}, 0xA);
        }
    });
}

BANYAN_SELFTEST(a_cr3_that_points_outside_ends_that_domain_only)
{
    attack_from_domain_1([](u64) { write_cr3(kHostMemory); }, dt::EndReason::kShutdown);
}

BANYAN_SELFTEST(a_stack_outside_holds_nothing)
{
    attack_from_domain_1([](u64) {
        for (const u64 at : kOutOfBounds) {
            u64 popped;
            asm volatile("mov %%rsp, %%r12\n mov %1, %%rsp\n push %%r12\n pushfq\n pop %0\n mov %%r12, %%rsp"
                         : "=&r"(popped)
                         : "r"(at + 0x800)
                         : "r12", "memory");
            BANYAN_EXPECT_EQ(popped, kOnes);
        }
    });
}

// Paging off, 32-bit and PAE paging, real mode. The domain's RAM has a hole at 80000h.
BANYAN_SELFTEST(no_mode_of_the_processor_reaches_outside)
{
    for (u64 i = 0; i < 0x1000; i += 8) {
        write<u64>(kHostMemory + i, kPattern + i);
    }
    entry_probe_function = address_of(+[](u64) {
        for (u32 i = 0; i < 4; ++i) {
            guest::result(i, reach_loaded[i]);
        }
    });
    reach_target = kHostMemory;
    Domain d(1, [](u64) {});
    d.descriptor().entry.eip = address_of(reach_probe);
    d.descriptor().ranges[0] = {0, slice(1), 0x8'0000};
    d.descriptor().ranges[1] = {0x10'0000, slice(1) + 0x10'0000, kSliceSize - 0x10'0000};
    d.descriptor().range_count = 2;
    d.run();
    for (u32 i = 0; i < 4; ++i) {
        BANYAN_EXPECT_EQ(d.result(i), 0xFFFF'FFFF);
    }
    for (u64 i = 0; i < 0x1000; i += 8) {
        BANYAN_EXPECT_EQ(read<u64>(kHostMemory + i), kPattern + i);
    }
}

// Two ranges that lie apart in the guest and the other way round in the machine: each guest address leads where its range
// says, and an access over a range's end ends there.
BANYAN_SELFTEST(each_range_leads_to_its_own_memory)
{
    Domain d(1, [](u64) {
        constexpr u64 kHigh = 0x5'0000'0000;
        write<u64>(kHigh, 0x1111);
        write<u64>(0x30'0000, 0x2222);
        BANYAN_EXPECT_EQ(read<u64>(kHigh), 0x1111);
        BANYAN_EXPECT_EQ(read<u64>(0x30'0000), 0x2222);
        BANYAN_EXPECT_EQ(read<u64>(kHigh + 0x1000 - 4), 0xFFFF'FFFF'0000'0000);
        BANYAN_EXPECT_EQ(read<u64>(kHigh - 8), kOnes);
    });
    d.descriptor().ranges[1] = {0x5'0000'0000, slice(1) - 0x1000, 0x1000};
    d.descriptor().range_count = 2;
    write<u64>(slice(1) - 0x1000, 0x9999);
    d.run();
    BANYAN_EXPECT_EQ(read<u64>(slice(1) - 0x1000), 0); // scrubbed as well
}

// The own page answers each by its tag; what the domain writes there, the host does not see.
BANYAN_SELFTEST(the_own_page_says_who_asks)
{
    BANYAN_EXPECT_EQ(read<u32>(dt::kOwnPageBase + dt::own::kDomain), 0);
    attack_from_domain_1([](u64) {
        BANYAN_EXPECT_EQ(read<u32>(dt::kOwnPageBase + dt::own::kId), dt::kOwnId);
        BANYAN_EXPECT_EQ(read<u32>(dt::kOwnPageBase + dt::own::kDomain), 1);
        write<u32>(dt::kOwnPageBase + dt::own::kDomain, 2);
        write<u64>(dt::kOwnPageBase + dt::own::kId, 0);
        BANYAN_EXPECT_EQ(read<u32>(dt::kOwnPageBase + dt::own::kDomain), 1);
        BANYAN_EXPECT_EQ(read<u64>(dt::kOwnPageBase + dt::own::kNonce), 0);
        write<u64>(dt::kOwnPageBase + dt::own::kNonce, 0x1234);
    });
    BANYAN_EXPECT_EQ(read<u64>(dt::kOwnPageBase + dt::own::kNonce), 0); // the host's nonce is another
}
