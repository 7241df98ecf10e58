// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>

#include "hypervisor/cores.hpp"
#include "hypervisor/layout.hpp"
#include "hypervisor/x86.hpp"

namespace banyan::hv {

/// What a core other than 0 owns.
struct alignas(4096) CoreArea {
    Vmcb vmcb;
    std::uint8_t host_save[4096];
    std::uint8_t stack[4096 - sizeof(Mailbox)]; // grows down, away from the mailbox
    Mailbox mailbox;
};
static_assert(sizeof(CoreArea) == 0x3000); // link.ld

// ---- from link.ld and boot.S --------------------------------------------------------------------------------------

extern "C" {
extern const std::uint8_t image_start[];
extern const std::uint8_t image_end[];
extern const std::uint8_t core_trampoline[];
extern const std::uint8_t core_trampoline_end[];
extern const std::uint8_t exception_entries[];
extern const std::uint8_t ignore_interrupt[];
extern CoreArea core_areas[dt::kMaxCores];
extern std::uint32_t handoff_multiboot;
extern std::uint32_t core_stack;
extern std::uint32_t core_number;
}

[[nodiscard]] inline std::uint64_t address_of(const void *object)
{
    return reinterpret_cast<std::uint64_t>(object);
}

/// The hardware under the logic: everything is reached at its physical address.
class Machine {
public:
    [[nodiscard]] static std::uint8_t in8(std::uint16_t port) { return hv::in8(port); }
    [[nodiscard]] static std::uint32_t in32(std::uint16_t port) { return hv::in32(port); }
    static void out8(std::uint16_t port, std::uint8_t value) { hv::out8(port, value); }
    static void out32(std::uint16_t port, std::uint32_t value) { hv::out32(port, value); }

    [[nodiscard]] static std::uint32_t read32(std::uint64_t at) { return *reg<std::uint32_t>(at); }
    [[nodiscard]] static std::uint64_t read64(std::uint64_t at) { return *reg<std::uint64_t>(at); }
    static void write32(std::uint64_t at, std::uint32_t value) { *reg<std::uint32_t>(at) = value; }
    static void write64(std::uint64_t at, std::uint64_t value) { *reg<std::uint64_t>(at) = value; }

    static void read(void *to, std::uint64_t from, std::size_t size) { copy(address_of(to), from, size); }
    static void copy(std::uint64_t to, std::uint64_t from, std::uint64_t size)
    {
        std::uint64_t words = size / 8;
        std::uint64_t rest = size % 8;
        asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
        asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(rest) : : "memory");
    }

    /// Sleeps until the next interrupt.
    static void idle() { asm volatile("sti; hlt; cli" : : : "memory"); }

    [[nodiscard]] static Mailbox &mailbox(std::uint32_t core) { return core_areas[core].mailbox; }

    static void prepare(std::uint32_t core)
    {
        CoreArea &area = core_areas[core];
        __builtin_memset(&area.vmcb, 0, sizeof area.vmcb);
        make_vmcb(area.vmcb);
        core_stack = static_cast<std::uint32_t>(address_of(&area.mailbox));
        core_number = core;
        copy(kTrampoline, address_of(core_trampoline), address_of(core_trampoline_end) - address_of(core_trampoline));
    }

private:
    template <typename Word>
    [[nodiscard]] static volatile Word *reg(std::uint64_t at)
    {
        return reinterpret_cast<volatile Word *>(at);
    }
};

} // namespace banyan::hv
