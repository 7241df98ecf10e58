// SPDX-License-Identifier: GPL-2.0-or-later
#include "cpu-ext/domain/descriptor_check.hpp"

#include <algorithm>
#include <array>
#include <span>

#include "cpu-ext/access/access.hpp"

namespace banyan::domain {

namespace {

constexpr std::array kImplicitWindows{
    dt::Window{dt::kVtpmBase, dt::kVtpmSize},
    dt::Window{dt::kOwnPageBase, dt::kOwnPageSize},
    dt::Window{dt::kLapicBase, dt::kLapicSize},
};
constexpr std::array kPlatformWindows{
    dt::Window{dt::kVtpmBase, dt::kVtpmSize},
    dt::Window{dt::kOwnPageBase, dt::kOwnPageSize},
    dt::Window{dt::kControlBase, dt::kControlSize},
    dt::Window{dt::kBlackHoleBase, dt::kBlackHoleSize},
    dt::Window{dt::kLapicBase, std::uint64_t{0x10'0000}}, // with the MSI window that shares its megabyte
};

template <typename T, std::size_t N>
std::span<const T> used(const T (&entries)[N], std::uint32_t count)
{
    return {entries, std::min<std::size_t>(count, N)};
}

template <typename T, std::size_t N>
bool unused_are_zero(const T (&entries)[N], std::uint32_t count)
{
    const auto bytes = std::as_bytes(std::span(entries).subspan(count));
    return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

template <std::size_t N>
bool zero(const std::uint8_t (&bytes)[N])
{
    return std::all_of(std::begin(bytes), std::end(bytes), [](std::uint8_t b) { return b == 0; });
}

bool whole_pages(std::uint64_t address, std::uint64_t size)
{
    return size != 0 && (address | size) % dt::kPageSize == 0;
}

bool name_is_good(const char (&name)[32])
{
    const auto *end = std::find(std::begin(name), std::end(name), '\0');
    return end != std::begin(name) && end != std::end(name) &&
           std::all_of(std::begin(name), end,
                       [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; }) &&
           std::all_of(end, std::end(name), [](char c) { return c == '\0'; });
}

Rule check_header(const dt::Descriptor &d)
{
    if (d.magic != dt::kDescriptorMagic) {
        return Rule::kMagic;
    }
    if (d.version != dt::kDescriptorVersion) {
        return Rule::kVersion;
    }
    if (d.size != sizeof(dt::Descriptor)) {
        return Rule::kSize;
    }
    if (!name_is_good(d.name)) {
        return Rule::kName;
    }
    if (d.range_count == 0 || d.range_count > dt::kMaxRanges || d.window_count > dt::kMaxWindows ||
        d.port_count > dt::kMaxPorts || d.msr_count > dt::kMaxMsrs || d.root_port_count > dt::kMaxFunctions) {
        return Rule::kCounts;
    }
    const bool reserved_are_zero =
        std::all_of(std::begin(d.root_ports), std::end(d.root_ports), [](const auto &p) { return zero(p.reserved); }) &&
        std::all_of(std::begin(d.ports), std::end(d.ports), [](const auto &p) { return zero(p.reserved); }) &&
        std::all_of(std::begin(d.msrs), std::end(d.msrs), [](const auto &m) { return zero(m.reserved); });
    if (!reserved_are_zero || !unused_are_zero(d.ranges, d.range_count) ||
        !unused_are_zero(d.windows, d.window_count) || !unused_are_zero(d.root_ports, d.root_port_count) ||
        !unused_are_zero(d.ports, d.port_count) || !unused_are_zero(d.msrs, d.msr_count)) {
        return Rule::kUnused;
    }
    if ((d.flags & ~dt::flag::kAll) != 0) {
        return Rule::kFlags;
    }
    if (d.msr_profile == 0 || d.msr_profile > access::kMsrProfileMax || d.port_profile == 0 ||
        d.port_profile > access::kPortProfileMax) {
        return Rule::kProfiles;
    }
    return Rule::kNone;
}

Rule check_cores(const dt::Descriptor &d, const Platform &platform)
{
    const std::uint64_t machine =
        platform.cores >= dt::kMaxCores ? ~std::uint64_t{0} : (std::uint64_t{1} << platform.cores) - 1;
    if (d.core_mask == 0 || (d.core_mask & ~machine) != 0) {
        return Rule::kCoreMask;
    }
    if ((d.core_mask & 1) != 0) {
        return Rule::kCoreZero;
    }
    if (d.boot_core >= dt::kMaxCores || (d.core_mask >> d.boot_core & 1) == 0) {
        return Rule::kBootCore;
    }
    return Rule::kNone;
}

/// One and up, each once, no gap before the last.
Rule check_instances(const dt::Descriptor &d)
{
    if (d.vtpm_instance == 0) {
        return Rule::kInstanceZero;
    }
    for (std::uint32_t window = 1; window < dt::kVtpmWindows; ++window) {
        const std::uint32_t instance = dt::vtpm_behind(d, window);
        for (std::uint32_t before = 0; instance != 0 && before < window; ++before) {
            const std::uint32_t other = dt::vtpm_behind(d, before);
            if (other == 0 || other == instance) {
                return Rule::kInstances;
            }
        }
    }
    return Rule::kNone;
}

/// A window of the vTPM's that the domain has, at that place.
bool on_further_window(const dt::Descriptor &d, const dt::Range &range)
{
    for (std::uint32_t window = 1; window < dt::kVtpmWindows; ++window) {
        if (dt::vtpm_behind(d, window) != 0 &&
            overlaps(range.gpa, range.size, dt::vtpm_window(window), dt::kVtpmSize)) {
            return true;
        }
    }
    return false;
}

Rule check_ranges(const dt::Descriptor &d, std::span<const dt::Range> ranges, const Platform &platform)
{
    for (const dt::Range &range : ranges) {
        if (!whole_pages(range.gpa, range.size) || !whole_pages(range.hpa, range.size)) {
            return Rule::kRangeAlign;
        }
    }
    for (const dt::Range &range : ranges) {
        if (!inside(range.gpa, range.size, 0, kGuestPhysicalEnd)) {
            return Rule::kRangeGuest;
        }
    }
    for (std::size_t i = 1; i < ranges.size(); ++i) {
        if (ranges[i].gpa < ranges[i - 1].gpa + ranges[i - 1].size) { // no wrap: below 2^46
            return Rule::kRangeOrder;
        }
    }
    for (const dt::Range &range : ranges) {
        for (const dt::Window &window : kImplicitWindows) {
            if (overlaps(range.gpa, range.size, window.base, window.size)) {
                return Rule::kRangeImplicit;
            }
        }
        if (on_further_window(d, range)) {
            return Rule::kRangeImplicit;
        }
    }
    for (const dt::Range &range : ranges) {
        if (!in_ram(platform, range.hpa, range.size)) {
            return Rule::kRangeRam;
        }
    }
    for (std::size_t i = 1; i < ranges.size(); ++i) {
        for (std::size_t j = 0; j < i; ++j) {
            if (overlaps(ranges[i].hpa, ranges[i].size, ranges[j].hpa, ranges[j].size)) {
                return Rule::kRangeSelf;
            }
        }
    }
    return Rule::kNone;
}

Rule check_windows(std::span<const dt::Window> windows, std::span<const dt::Range> ranges, const Platform &platform)
{
    for (const dt::Window &window : windows) {
        if (!whole_pages(window.base, window.size)) {
            return Rule::kWindowAlign;
        }
    }
    for (const dt::Window &window : windows) {
        if (!inside(window.base, window.size, platform.ecam_base, platform.ecam_size) &&
            !inside(window.base, window.size, platform.pci_base, platform.pci_size)) {
            return Rule::kWindowPlace;
        }
    }
    for (std::size_t i = 1; i < windows.size(); ++i) {
        for (std::size_t j = 0; j < i; ++j) {
            if (overlaps(windows[i].base, windows[i].size, windows[j].base, windows[j].size)) {
                return Rule::kWindowSelf;
            }
        }
    }
    for (const dt::Window &window : windows) {
        for (const dt::Range &range : ranges) {
            if (overlaps(window.base, window.size, range.gpa, range.size)) {
                return Rule::kWindowRam;
            }
        }
    }
    return Rule::kNone;
}

Rule check_windows_of_platform(std::span<const dt::Window> windows, const Platform &platform)
{
    for (const dt::Window &window : windows) {
        if (overlaps(window.base, window.size, platform.ecam_base, std::min(platform.ecam_size, kEcamBusSize))) {
            return Rule::kWindowPlatform;
        }
        for (const dt::Window &mine : kPlatformWindows) {
            if (overlaps(window.base, window.size, mine.base, mine.size)) {
                return Rule::kWindowPlatform;
            }
        }
    }
    return Rule::kNone;
}

Rule check_root_ports(std::span<const dt::RootPort> root_ports, const Platform &platform)
{
    for (std::size_t i = 0; i < root_ports.size(); ++i) {
        const dt::RootPort &port = root_ports[i];
        if (port.devfn == 0 || port.secondary == 0 || port.secondary >= platform.ecam_size / kEcamBusSize) {
            return Rule::kRootPort;
        }
        for (std::size_t j = 0; j < i; ++j) {
            if (root_ports[j].devfn == port.devfn || root_ports[j].secondary == port.secondary) {
                return Rule::kRootPort;
            }
        }
    }
    return Rule::kNone;
}

bool port_rule_is_good(const dt::PortRule &rule)
{
    if (rule.first > rule.last) {
        return false;
    }
    return rule.action == dt::PortAction::kDeny || (rule.action == dt::PortAction::kAllow && rule.value == 0);
}

bool msr_rule_is_good(const dt::MsrRule &rule)
{
    switch (rule.action) {
    case dt::MsrAction::kFault:
        return rule.value == 0 && rule.write_mask == 0;
    case dt::MsrAction::kPass:
        return rule.value == 0 && !access::msr_forbidden(rule.msr);
    case dt::MsrAction::kConstant:
        return rule.write_mask == 0;
    }
    return false;
}

/// A window of one shows configuration space of a bus behind a root port of the other.
bool windows_reach_buses(const dt::Descriptor &one, const dt::Descriptor &other, const Platform &platform)
{
    for (const dt::Window &window : used(one.windows, one.window_count)) {
        for (const dt::RootPort &port : used(other.root_ports, other.root_port_count)) {
            const dt::Window bus = ecam_of(port, platform);
            if (overlaps(window.base, window.size, bus.base, bus.size)) {
                return true;
            }
        }
    }
    return false;
}

} // namespace

bool in_ram(const Platform &platform, std::uint64_t hpa, std::uint64_t size)
{
    return (inside(hpa, size, 0, platform.ram_below_4g) || inside(hpa, size, k4Gib, platform.ram_above_4g)) &&
           !overlaps(hpa, size, kLegacyHoleBase, kLegacyHoleSize);
}

bool share_instance(const dt::Descriptor &one, const dt::Descriptor &other)
{
    for (std::uint32_t i = 0; i < dt::kVtpmWindows; ++i) {
        for (std::uint32_t j = 0; j < dt::kVtpmWindows; ++j) {
            if (dt::vtpm_behind(one, i) != 0 && dt::vtpm_behind(one, i) == dt::vtpm_behind(other, j)) {
                return true;
            }
        }
    }
    return false;
}

Rule check_descriptor(const dt::Descriptor &descriptor, const Platform &platform)
{
    if (const Rule broken = check_header(descriptor); broken != Rule::kNone) {
        return broken;
    }
    if (const Rule broken = check_cores(descriptor, platform); broken != Rule::kNone) {
        return broken;
    }
    if (const Rule broken = check_instances(descriptor); broken != Rule::kNone) {
        return broken;
    }
    const auto ranges = used(descriptor.ranges, descriptor.range_count);
    const auto windows = used(descriptor.windows, descriptor.window_count);
    if (const Rule broken = check_ranges(descriptor, ranges, platform); broken != Rule::kNone) {
        return broken;
    }
    if (const Rule broken = check_windows(windows, ranges, platform); broken != Rule::kNone) {
        return broken;
    }
    if (const Rule broken = check_root_ports(used(descriptor.root_ports, descriptor.root_port_count), platform);
        broken != Rule::kNone) {
        return broken;
    }
    const auto ports = used(descriptor.ports, descriptor.port_count);
    if (!std::all_of(ports.begin(), ports.end(), port_rule_is_good)) {
        return Rule::kPortRule;
    }
    const auto msrs = used(descriptor.msrs, descriptor.msr_count);
    if (!std::all_of(msrs.begin(), msrs.end(), msr_rule_is_good)) {
        return Rule::kMsrRule;
    }
    if (std::none_of(ranges.begin(), ranges.end(),
                     [&](const dt::Range &r) { return inside(descriptor.entry.eip, 1, r.gpa, r.size); })) {
        return Rule::kEntry;
    }
    return check_windows_of_platform(windows, platform);
}

Rule check_against(const dt::Descriptor &descriptor, const dt::Descriptor &other, const Platform &platform)
{
    if ((descriptor.core_mask & other.core_mask) != 0) {
        return Rule::kOtherCores;
    }
    if (share_instance(descriptor, other)) {
        return Rule::kOtherInstance;
    }
    for (const dt::Range &mine : used(descriptor.ranges, descriptor.range_count)) {
        for (const dt::Range &theirs : used(other.ranges, other.range_count)) {
            if (overlaps(mine.hpa, mine.size, theirs.hpa, theirs.size)) {
                return Rule::kOtherRam;
            }
        }
    }
    for (const dt::Window &mine : used(descriptor.windows, descriptor.window_count)) {
        for (const dt::Window &theirs : used(other.windows, other.window_count)) {
            if (overlaps(mine.base, mine.size, theirs.base, theirs.size)) {
                return Rule::kOtherWindow;
            }
        }
    }
    if (windows_reach_buses(descriptor, other, platform) || windows_reach_buses(other, descriptor, platform)) {
        return Rule::kOtherWindow;
    }
    for (const dt::RootPort &mine : used(descriptor.root_ports, descriptor.root_port_count)) {
        for (const dt::RootPort &theirs : used(other.root_ports, other.root_port_count)) {
            if (mine.devfn == theirs.devfn || mine.secondary == theirs.secondary) {
                return Rule::kOtherRootPort;
            }
        }
    }
    return Rule::kNone;
}

} // namespace banyan::domain
