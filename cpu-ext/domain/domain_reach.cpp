// SPDX-License-Identifier: GPL-2.0-or-later
#include <array>
#include <bit>

#include "cpu-ext/domain/descriptor_check.hpp"
#include "cpu-ext/domain/domain_table.hpp"

// What any thread may ask: reach, ports, MSRs. On the way of every TLB fill.

namespace banyan::domain {

namespace {

using View = Published::View;

struct Place {
    Reach reach;
    std::uint64_t hpa;
};

constexpr bool within(std::uint64_t address, std::uint64_t base, std::uint64_t size)
{
    return address - base < size; // below base it wraps to something large
}

constexpr bool implicit_window(std::uint64_t gpa)
{
    return within(gpa, dt::kLapicBase, dt::kLapicSize) || within(gpa, dt::kVtpmBase, dt::kVtpmSize) ||
           within(gpa, dt::kOwnPageBase, dt::kOwnPageSize);
}

bool further_vtpm(const View &view, std::uint64_t gpa)
{
    if (!within(gpa, dt::kVtpmWindowsBase, dt::kMaxFurtherVtpms * dt::kVtpmSize)) {
        return false;
    }
    return view.further_vtpm(static_cast<std::uint32_t>((gpa - dt::kVtpmWindowsBase) / dt::kVtpmSize)) != 0;
}

/// Configuration space of the functions that lift a launch window (APM 2, 15.24.4), banked by domain.
constexpr bool dev_page(const Platform &platform, std::uint64_t gpa)
{
    constexpr std::uint64_t kPage = 0x1000;
    const std::uint64_t device = platform.ecam_base + kPage * dt::kDevDevice * 8;
    return within(gpa, device + kPage * dt::kDevFunction, kPage) ||
           within(gpa, device + kPage * dt::kDevLinkFunction, kPage);
}

Place place(const View &view, const Platform &platform, std::uint64_t gpa)
{
    if (!live(view.phase())) {
        return {Reach::kNone, 0};
    }
    const std::uint32_t ranges = view.range_count();
    for (std::uint32_t i = 0; i < ranges; ++i) {
        const dt::Range range = view.range(i);
        if (within(gpa, range.gpa, range.size)) {
            return {Reach::kRam, range.hpa + (gpa - range.gpa)};
        }
    }
    if (implicit_window(gpa) || further_vtpm(view, gpa) || dev_page(platform, gpa)) {
        return {Reach::kMmio, gpa};
    }
    const std::uint32_t windows = view.window_count();
    for (std::uint32_t i = 0; i < windows; ++i) {
        const dt::Window window = view.window(i);
        if (within(gpa, window.base, window.size)) {
            return {Reach::kMmio, gpa};
        }
    }
    return {Reach::kNone, 0};
}

/// The host's view of a closed domain: its RAM, and its devices and their buses too. A host that reached those could have
/// them read or write the domain's RAM.
bool belongs(const View &view, const Platform &platform, std::uint64_t hpa, std::uint64_t size)
{
    if (!closed(view.phase())) {
        return false;
    }
    const std::uint32_t ranges = view.range_count();
    for (std::uint32_t i = 0; i < ranges; ++i) {
        const dt::Range range = view.range(i);
        if (overlaps(hpa, size, range.hpa, range.size)) {
            return true;
        }
    }
    const std::uint32_t windows = view.window_count();
    for (std::uint32_t i = 0; i < windows; ++i) {
        const dt::Window window = view.window(i);
        if (overlaps(hpa, size, window.base, window.size)) {
            return true;
        }
    }
    const std::uint32_t root_ports = view.root_port_count();
    for (std::uint32_t i = 0; i < root_ports; ++i) {
        const dt::Window bus = ecam_of(view.root_port(i), platform);
        if (overlaps(hpa, size, bus.base, bus.size)) {
            return true;
        }
    }
    return false;
}

access::PortAnswer port_answer(const View &view, std::uint32_t port)
{
    for (std::uint32_t i = view.port_count(); i-- > 0;) { // later entries win
        const dt::PortRule rule = view.port(i);
        if (port >= rule.first && port <= rule.last) {
            return {rule.action, rule.value};
        }
    }
    return access::profile_port(view.port_profile(), static_cast<std::uint16_t>(port));
}

access::MsrAnswer msr_answer(const View &view, std::uint32_t msr)
{
    for (std::uint32_t i = view.msr_count(); i-- > 0;) {
        if (view.msr_number(i) == msr) {
            const dt::MsrRule rule = view.msr(i);
            return {rule.action, rule.value, rule.write_mask};
        }
    }
    return access::profile_msr(view.msr_profile(), msr);
}

constexpr std::uint32_t kPorts = 0x1'0000;

} // namespace

bool DomainTable::closed_domain_has(std::uint64_t hpa, std::uint64_t size) const
{
    for (std::uint32_t left = closed_.load(std::memory_order_acquire); left != 0; left &= left - 1) {
        const Published &published = shared_[static_cast<std::size_t>(std::countr_zero(left))].published;
        if (published.read([=, this](const View &view) { return belongs(view, platform_, hpa, size); })) {
            return true;
        }
    }
    return false;
}

Reach DomainTable::translate(std::uint32_t domain, std::uint64_t gpa, std::uint64_t &hpa) const
{
    hpa = 0;
    if (domain == 0) {
        if (closed_domain_has(gpa, 1)) {
            return Reach::kNone;
        }
        hpa = gpa;
        return Reach::kRam;
    }
    if (!is_domain(domain)) {
        return Reach::kNone;
    }
    const Place found =
        shared_[domain].published.read([=, this](const View &view) { return place(view, platform_, gpa); });
    hpa = found.hpa;
    return found.reach;
}

std::optional<std::uint64_t> DomainTable::ram(std::uint32_t domain, std::uint64_t gpa, std::uint64_t size) const
{
    if (domain == 0) {
        if (size == 0 || !in_ram(platform_, gpa, size) || closed_domain_has(gpa, size)) {
            return std::nullopt;
        }
        return gpa;
    }
    if (!is_domain(domain) || size == 0) {
        return std::nullopt;
    }
    return shared_[domain].published.read([=](const View &view) -> std::optional<std::uint64_t> {
        const std::uint32_t ranges = live(view.phase()) ? view.range_count() : 0;
        for (std::uint32_t i = 0; i < ranges; ++i) {
            const dt::Range range = view.range(i);
            if (inside(gpa, size, range.gpa, range.size)) {
                return range.hpa + (gpa - range.gpa);
            }
        }
        return std::nullopt;
    });
}

std::optional<dt::Range> DomainTable::range(std::uint32_t domain, std::uint32_t index) const
{
    if (!is_domain(domain)) {
        return std::nullopt;
    }
    return shared_[domain].published.read([=](const View &view) -> std::optional<dt::Range> {
        if (!closed(view.phase()) || index >= view.range_count()) {
            return std::nullopt;
        }
        return view.range(index);
    });
}

bool DomainTable::is_closed(std::uint32_t domain) const
{
    return is_domain(domain) && (closed_.load(std::memory_order_acquire) >> domain & 1) != 0;
}

std::uint32_t DomainTable::of_root_port(std::uint8_t devfn) const
{
    for (std::uint32_t left = closed_.load(std::memory_order_acquire); left != 0; left &= left - 1) {
        const auto domain = static_cast<std::uint32_t>(std::countr_zero(left));
        const bool owns = shared_[domain].published.read([=](const View &view) {
            const std::uint32_t ports = closed(view.phase()) ? view.root_port_count() : 0;
            for (std::uint32_t i = 0; i < ports; ++i) {
                if (view.root_port(i).devfn == devfn) {
                    return true;
                }
            }
            return false;
        });
        if (owns) {
            return domain;
        }
    }
    return 0;
}

std::uint64_t DomainTable::machine_cores() const
{
    return platform_.cores >= dt::kMaxCores ? ~std::uint64_t{0} : (std::uint64_t{1} << platform_.cores) - 1;
}

std::uint64_t DomainTable::cores(std::uint32_t domain) const
{
    if (domain == 0) {
        std::uint64_t guests = 0;
        for (const Shared &shared : shared_) {
            guests |= shared.inside.load(std::memory_order_relaxed);
        }
        return machine_cores() & ~guests;
    }
    if (!is_domain(domain)) {
        return 0;
    }
    return shared_[domain].published.read(
        [](const View &view) { return closed(view.phase()) ? view.core_mask() : std::uint64_t{0}; });
}

std::uint32_t DomainTable::instance(std::uint32_t domain) const
{
    if (!is_domain(domain)) {
        return 0;
    }
    return shared_[domain].published.read([](const View &view) { // a draft binds nothing and is never published
        return view.vtpm_instance();
    });
}

bool DomainTable::port(std::uint32_t domain, std::uint16_t port, unsigned width, bool write, std::uint32_t &value)
{
    if (domain == 0) {
        return true;
    }
    struct Answer {
        bool allowed;
        std::uint32_t value;
    };
    Answer answer{false, ~0U};
    if (is_domain(domain) && (width == 1 || width == 2 || width == 4)) {
        answer = shared_[domain].published.read([=](const View &view) {
            Answer all{live(view.phase()), 0};
            for (unsigned i = 0; i < width; ++i) {
                const std::uint32_t number = port + i;
                const access::PortAnswer one =
                    number < kPorts ? port_answer(view, number) : access::PortAnswer{dt::PortAction::kDeny, 0xFF};
                const bool allowed = one.action == dt::PortAction::kAllow;
                all.allowed = all.allowed && allowed;
                all.value |= static_cast<std::uint32_t>(allowed ? 0xFF : one.value) << (i * 8);
            }
            return all;
        });
    }
    if (answer.allowed) {
        return true;
    }
    if (!write) {
        value = answer.value;
    }
    deny(domain, Denied::kPort);
    return false;
}

access::MsrAnswer DomainTable::msr(std::uint32_t domain, std::uint32_t msr, bool write)
{
    if (domain == 0) {
        return {dt::MsrAction::kPass, 0, ~std::uint64_t{0}};
    }
    access::MsrAnswer answer{dt::MsrAction::kFault, 0, 0};
    if (is_domain(domain)) {
        answer = shared_[domain].published.read([=](const View &view) {
            return live(view.phase()) ? msr_answer(view, msr) : access::MsrAnswer{dt::MsrAction::kFault, 0, 0};
        });
    }
    const bool dropped = write && (answer.action == dt::MsrAction::kConstant || answer.write_mask == 0);
    if (answer.action == dt::MsrAction::kFault || dropped) {
        deny(domain, Denied::kMsr);
    }
    return answer;
}

void DomainTable::deny(std::uint32_t domain, Denied what)
{
    if (domain <= dt::kMaxDomains) {
        shared_[domain].denied[static_cast<std::size_t>(what)].fetch_add(1, std::memory_order_relaxed);
    }
}

} // namespace banyan::domain
