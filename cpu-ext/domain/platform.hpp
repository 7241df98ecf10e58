// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "banyan/arch/domain_table.hpp"

// What the domain table is told about the machine, and what it asks of it. The C boundary (domains_capi.cpp) is the only
// implementation besides those of tests.

namespace banyan::domain {

struct Platform {
    std::uint32_t cores; // core 0 included
    std::uint64_t ram_below_4g;
    std::uint64_t ram_above_4g;
    std::uint64_t ecam_base, ecam_size;
    std::uint64_t pci_base, pci_size;
    std::uint32_t insecure;
};

inline constexpr std::uint64_t k4Gib = std::uint64_t{1} << 32;
inline constexpr std::uint64_t kLegacyHoleBase = 0xA'0000; // VGA, option ROMs, firmware: no RAM on a PC
inline constexpr std::uint64_t kLegacyHoleSize = 0x6'0000;
inline constexpr std::uint64_t kEcamBusSize = 0x10'0000; // PCI Express 3.0, 7.2.2: 32 devices, 8 functions, 4 KiB
inline constexpr std::uint64_t kGuestPhysicalEnd = std::uint64_t{1} << 46;

using Digest = std::array<std::uint8_t, 48>; // SHA-384

struct ReportFacts {
    bool receipt;
    std::uint32_t domain, instance, flags, insecure;
    std::uint64_t start_count, launch_count;
    Digest digest, hypervisor;
    std::uint32_t nonce_size;
    std::array<std::uint8_t, dt::own::kNonceMax> nonce;
    std::array<char, 32> name;
};

enum class Instance : std::uint8_t { kBusy, kReady, kFailed };
enum class Signature : std::uint8_t { kBusy, kReady, kFailed };

struct LaunchTimes {
    std::int64_t start_ns, hash_start_ns, hash_end_ns, entry_ns, wait_for_other_domain_ns;
};

class Host {
public:
    Host() = default;
    Host(const Host &) = delete;
    Host &operator=(const Host &) = delete;
    virtual ~Host() = default;

    /// Behind vTPM window `window` of the domain.
    virtual bool instance_on(std::uint32_t domain, std::uint32_t window, std::uint32_t instance) = 0;
    virtual void instance_off(std::uint32_t domain, std::uint32_t instance) = 0;
    virtual void instance_unbind(std::uint32_t domain, std::uint32_t instance, bool erase) = 0;
    virtual Instance instance_state(std::uint32_t instance) = 0;
    virtual void stop_cores(std::uint32_t domain, std::uint64_t core_mask) = 0;
    virtual void launch_cancel(std::uint32_t domain) = 0;
    virtual void reach_changed(std::uint32_t domain) = 0;
    virtual void window_lifted(std::uint32_t domain) = 0;
    virtual bool window_closed(std::uint32_t domain) = 0;
    virtual void scrub(std::uint64_t hpa, std::uint64_t size) = 0;
    virtual Digest sha384(std::span<const std::byte> data) = 0;
    virtual std::uint64_t wall_time() = 0;
    virtual bool sign(std::uint32_t slot, const ReportFacts &facts) = 0;
    /// kReady: the first `size` bytes of `out` are the signed statement; size <= out.size().
    virtual Signature sign_poll(std::uint32_t slot, std::span<std::uint8_t, dt::own::kReportMax> out,
                                std::uint32_t &size) = 0;
};

} // namespace banyan::domain
