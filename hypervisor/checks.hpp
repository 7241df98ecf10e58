// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>

#include "banyan/arch/management.hpp"
#include "hypervisor/layout.hpp"
#include "hypervisor/modules.hpp"

// What a create request must satisfy before anything is touched. The domain table checks again, and has the last
// word on what belongs to whom; these checks keep the hypervisor's own writes inside the domain.

namespace banyan::hv {

template <typename T>
[[nodiscard]] bool all_zero(const T *items, std::size_t count)
{
    const auto *bytes = reinterpret_cast<const std::uint8_t *>(items);
    std::uint8_t seen = 0;
    for (std::size_t i = 0; i < count * sizeof(T); ++i) {
        seen |= bytes[i];
    }
    return seen == 0;
}

[[nodiscard]] constexpr bool valid_domain(std::uint32_t domain)
{
    return domain >= 1 && domain <= dt::kMaxDomains;
}

/// Characters of [a-z0-9-], at least one, then NULs to the end, at least one.
template <std::size_t N>
[[nodiscard]] constexpr bool valid_name(const char (&name)[N])
{
    std::size_t length = 0;
    while (length < N && name[length] != 0) {
        const char c = name[length++];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-')) {
            return false;
        }
    }
    return length > 0 && length < N && all_zero(name + length, N - length);
}

[[nodiscard]] inline bool valid_ranges(const dt::Descriptor &d)
{
    std::uint64_t next_gpa = 0;
    for (std::uint32_t i = 0; i < d.range_count; ++i) {
        const dt::Range &r = d.ranges[i];
        const Extent host{r.hpa, r.size};
        const bool below_hole = within(host, kLowEnd, kRamHole);
        const bool above_hole = within(host, kRamHoleEnd, kMapEnd);
        if (r.size == 0 || !page_aligned(host) || r.gpa % dt::kPageSize != 0 || !(below_hole || above_hole) ||
            !within({r.gpa, r.size}, next_gpa, kMapEnd)) {
            return false;
        }
        for (std::uint32_t j = 0; j < i; ++j) {
            if (overlap(host, {d.ranges[j].hpa, d.ranges[j].size})) {
                return false;
            }
        }
        next_gpa = r.gpa + r.size;
    }
    return d.range_count > 0;
}

[[nodiscard]] constexpr bool is_bridge_window(const dt::Window &w)
{
    return w.base >= kEcamEnd;
}

/// A window is the ECAM page of one of the domain's own buses, or MiB-aligned in the PCI hole: then the i-th of
/// these is what the i-th root port forwards.
[[nodiscard]] inline bool valid_windows(const dt::Descriptor &d)
{
    std::uint32_t bridge_windows = 0;
    for (std::uint32_t i = 0; i < d.window_count; ++i) {
        const dt::Window &w = d.windows[i];
        const Extent extent{w.base, w.size};
        if (w.size == 0 || (w.base | w.size) % kEcamBus != 0) {
            return false;
        }
        if (is_bridge_window(w)) {
            ++bridge_windows;
            if (!within(extent, kEcamEnd, kPciHoleEnd)) {
                return false;
            }
        } else {
            bool own = false;
            for (std::uint32_t j = 0; j < d.root_port_count; ++j) {
                own |= w.base == kEcam + d.root_ports[j].secondary * kEcamBus && w.size == kEcamBus;
            }
            if (!own) {
                return false;
            }
        }
        for (std::uint32_t j = 0; j < i; ++j) {
            if (overlap(extent, {d.windows[j].base, d.windows[j].size})) {
                return false;
            }
        }
    }
    return bridge_windows <= d.root_port_count;
}

[[nodiscard]] inline bool valid_root_ports(const dt::Descriptor &d)
{
    for (std::uint32_t i = 0; i < d.root_port_count; ++i) {
        const dt::RootPort &port = d.root_ports[i];
        if (port.devfn == 0 || port.secondary == 0 || !all_zero(port.reserved, sizeof port.reserved)) {
            return false;
        }
        for (std::uint32_t j = 0; j < i; ++j) {
            if (port.devfn == d.root_ports[j].devfn || port.secondary == d.root_ports[j].secondary) {
                return false;
            }
        }
    }
    return true;
}

/// Ports through which a domain would reach the host: never granted, whatever the caller asks for.
inline constexpr struct {
    std::uint16_t first, last;
} kHostPorts[] = {
    {0x0B2, 0x0B3}, // SMI command
    {0x3F8, 0x3FF}, // management
    {0x510, 0x51B}, // fw_cfg
    {0xCF8, 0xCFF}, // PCI configuration, reset
};

[[nodiscard]] inline bool valid_port_rules(const dt::Descriptor &d)
{
    for (std::uint32_t i = 0; i < d.port_count; ++i) {
        const dt::PortRule &rule = d.ports[i];
        if (rule.first > rule.last || rule.action > dt::PortAction::kAllow ||
            !all_zero(rule.reserved, sizeof rule.reserved)) {
            return false;
        }
        for (const auto &host : kHostPorts) {
            if (rule.action == dt::PortAction::kAllow && rule.first <= host.last && host.first <= rule.last) {
                return false;
            }
        }
    }
    return true;
}

[[nodiscard]] inline bool valid_msr_rules(const dt::Descriptor &d)
{
    for (std::uint32_t i = 0; i < d.msr_count; ++i) {
        const dt::MsrRule &rule = d.msrs[i];
        if (rule.action > dt::MsrAction::kConstant || !all_zero(rule.reserved, sizeof rule.reserved)) {
            return false;
        }
    }
    return true;
}

/// Instances from 1 on, each once, those of further windows without a gap.
[[nodiscard]] inline bool valid_instances(const dt::Descriptor &d)
{
    for (std::uint32_t window = 0; window < dt::kVtpmWindows; ++window) {
        const std::uint32_t instance = dt::vtpm_behind(d, window);
        if (instance == 0) {
            return window > 0 && all_zero(d.further_vtpms + window - 1, dt::kVtpmWindows - window);
        }
        for (std::uint32_t before = 0; before < window; ++before) {
            if (dt::vtpm_behind(d, before) == instance) {
                return false;
            }
        }
    }
    return true;
}

[[nodiscard]] inline bool valid_descriptor(const dt::Descriptor &d)
{
    if (d.magic != dt::kDescriptorMagic || d.version != dt::kDescriptorVersion || d.size != sizeof d ||
        !valid_name(d.name)) {
        return false;
    }
    if ((d.core_mask & 1) != 0 || d.boot_core >= dt::kMaxCores || (d.core_mask >> d.boot_core & 1) == 0 ||
        !valid_instances(d) || (d.flags & ~dt::flag::kAll) != 0 || d.msr_profile != 1 || d.port_profile != 1) {
        return false;
    }
    if (d.range_count > dt::kMaxRanges || d.window_count > dt::kMaxWindows || d.port_count > dt::kMaxPorts ||
        d.msr_count > dt::kMaxMsrs || d.root_port_count > dt::kMaxFunctions) {
        return false;
    }
    return all_zero(d.ranges + d.range_count, dt::kMaxRanges - d.range_count) &&
           all_zero(d.windows + d.window_count, dt::kMaxWindows - d.window_count) &&
           all_zero(d.root_ports + d.root_port_count, dt::kMaxFunctions - d.root_port_count) &&
           all_zero(d.ports + d.port_count, dt::kMaxPorts - d.port_count) &&
           all_zero(d.msrs + d.msr_count, dt::kMaxMsrs - d.msr_count) && valid_ranges(d) && valid_root_ports(d) &&
           valid_windows(d) && valid_port_rules(d) && valid_msr_rules(d);
}

/// Where guest physical [gpa, gpa + size) lies if one of the domain's ranges holds it whole; 0 if none does.
/// The descriptor is valid.
[[nodiscard]] inline std::uint64_t host_address(const dt::Descriptor &d, std::uint64_t gpa, std::uint64_t size)
{
    for (std::uint32_t i = 0; i < d.range_count; ++i) {
        const dt::Range &r = d.ranges[i];
        if (within({gpa, size}, r.gpa, r.gpa + r.size)) {
            return r.hpa + (gpa - r.gpa);
        }
    }
    return 0;
}

/// Each placement names a boot module, and they lie in the domain's RAM without touching each other.
[[nodiscard]] inline mgmt::Result check_placements(const mgmt::CreateRequest &request, const Modules &modules)
{
    Extent placed[mgmt::kMaxPlacements];
    for (std::uint32_t i = 0; i < request.placement_count; ++i) {
        const mgmt::Placement &p = request.placements[i];
        const Module *module = modules.find(p.module);
        if (module == nullptr) {
            return mgmt::Result::kNoModule;
        }
        placed[i] = {p.gpa, module->extent.size};
        if (host_address(request.descriptor, p.gpa, module->extent.size) == 0) {
            return mgmt::Result::kNoMemory;
        }
        for (std::uint32_t j = 0; j < i; ++j) {
            if (overlap(placed[i], placed[j])) {
                return mgmt::Result::kBadField;
            }
        }
    }
    return mgmt::Result::kOk;
}

/// Everything about a create request that can be said without the domain table. kRefused: the domain's RAM is the
/// hypervisor's or a module's.
[[nodiscard]] inline mgmt::Result check_create(const mgmt::CreateRequest &request, const Modules &modules,
                                               Extent hypervisor)
{
    if (!valid_domain(request.domain) || request.placement_count > mgmt::kMaxPlacements || request.nonce_size < 1 ||
        request.nonce_size > sizeof request.nonce || request.reserved != 0 ||
        !all_zero(request.nonce + request.nonce_size, sizeof request.nonce - request.nonce_size) ||
        !all_zero(request.placements + request.placement_count, mgmt::kMaxPlacements - request.placement_count) ||
        !valid_descriptor(request.descriptor)) {
        return mgmt::Result::kBadField;
    }
    for (std::uint32_t i = 0; i < request.descriptor.range_count; ++i) {
        const Extent range{request.descriptor.ranges[i].hpa, request.descriptor.ranges[i].size};
        bool taken = overlap(range, hypervisor);
        for (std::size_t m = 0; m < modules.count; ++m) {
            taken |= overlap(range, modules.module[m].extent);
        }
        if (taken) {
            return mgmt::Result::kRefused;
        }
    }
    return check_placements(request, modules);
}

} // namespace banyan::hv
