// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "banyan/arch/boot_info.hpp"
#include "banyan/arch/domain_table.hpp"
#include "banyan/arch/management.hpp"
#include "tool/machine.hpp"

// What a machine file comes to: addresses, descriptors, tables, files to boot. The same file and images give the same
// bytes on every host; that is what makes reference values possible.

namespace banyan::tool {

/// The emulated server's physical memory map, as far as VMs have a part in it.
namespace layout {
inline constexpr std::uint64_t kHostRam = 0x4000'0000;      // below 4 GiB: hypervisor and boot modules
inline constexpr std::uint64_t kSliceFirst = 0x1'0000'0000; // the VMs' RAM
inline constexpr std::uint64_t kSliceLast = 0x10'0000'0000; // no slice begins above
inline constexpr std::uint64_t kSliceAlignment = 0x20'0000; // of an explicit base
inline constexpr std::uint64_t kMaxRam = 0x8000'0000;       // of one VM; Linux wants its initrd below 2 GiB
inline constexpr std::uint64_t kEcam = 0xB000'0000;         // q35
inline constexpr std::uint64_t kEcamPerBus = 0x10'0000;
inline constexpr std::uint64_t kPciWindows = 0xC000'0000; // window k - 1 belongs to VM k
inline constexpr std::uint64_t kPciWindowSize = 0x200'0000;
inline constexpr unsigned kFirstBus = 0x10;       // bus 0x10 + k belongs to VM k
inline constexpr unsigned kFirstRootPortSlot = 4; // device 4 + k on bus 0 is VM k's root port

constexpr unsigned bus_of(unsigned domain)
{
    return kFirstBus + domain;
}
constexpr std::uint64_t ecam_of(unsigned domain)
{
    return kEcam + bus_of(domain) * kEcamPerBus;
}
constexpr std::uint64_t window_of(unsigned domain)
{
    return kPciWindows + (domain - 1) * kPciWindowSize;
}
/// vTPM instance behind the domain's window, 0 being the one that a launch reaches. Whatever other VMs have.
constexpr unsigned instance_of(unsigned domain, unsigned window)
{
    return window == 0 ? domain : dt::kMaxDomains + (domain - 1) * static_cast<unsigned>(dt::kMaxFurtherVtpms) + window;
}
} // namespace layout

using Bytes = std::vector<std::uint8_t>;

/// A file that the hypervisor gets as boot module: a file of the user, or bytes made here.
struct Module {
    std::string name; // [a-z0-9-]
    std::filesystem::path file;
    Bytes bytes; // when file is empty
};

struct VmPlan {
    MachineVm vm;
    std::string machine_file; // for messages
    unsigned domain = 0;
    unsigned core = 0;
    unsigned instance = 0;
    std::uint64_t slice = 0; // physical address of its RAM
    dt::Descriptor descriptor{};
    boot::BootInfo boot_info{};
    Bytes acpi;
    std::vector<mgmt::Placement> placements;
};

struct Plan {
    Machine machine;
    std::uint64_t memory = 0; // of the emulated server
    std::vector<Module> modules;
    std::vector<VmPlan> vms;
    unsigned instances = 1; // vTPM instances that the chip must have
};

Outcome<Plan> make_plan(const Machine &machine);

Bytes bytes_of(const dt::Descriptor &descriptor);
Bytes bytes_of(const boot::BootInfo &info);

} // namespace banyan::tool
