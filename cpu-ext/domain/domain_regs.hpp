// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "banyan/arch/domain_table.hpp"
#include "banyan/base/reg_file.hpp"

// Register maps of the own page and of the control window. docs/spec/domain-table.md.
// Facts only; behaviour is in domain_table.cpp.

namespace banyan::domain {

enum class Access : std::uint8_t {
    kRead,  // a write is refused
    kWrite, // reads 0
    kBoth,
    kIgnored, // reads; software is expected to write and the write does nothing
};

struct RegSpec {
    std::uint32_t reg; // offset in the window
    std::uint32_t size;
    Access access;
    bool buffer; // bytes: any aligned access inside; a register takes whole-width writes and aligned reads inside
    std::string_view name;
};

inline constexpr std::array kOwnRegs{
    RegSpec{dt::own::kId, 4, Access::kRead, false, "ID"},
    RegSpec{dt::own::kVersion, 4, Access::kRead, false, "VERSION"},
    RegSpec{dt::own::kDomain, 4, Access::kRead, false, "DOMAIN"},
    RegSpec{dt::own::kGate, 4, Access::kRead, false, "GATE"},
    RegSpec{dt::own::kSleepControl, 1, Access::kWrite, false, "SLEEP_CONTROL"},
    RegSpec{dt::own::kSleepStatus, 1, Access::kIgnored, false, "SLEEP_STATUS"}, // ACPI clears WAK_STS before it sleeps
    RegSpec{dt::own::kReset, 1, Access::kWrite, false, "RESET"},
    RegSpec{dt::own::kSlDev, 4, Access::kBoth, false, "SL_DEV"},
    RegSpec{dt::own::kWallTime, 8, Access::kRead, false, "WALL_TIME"},
    RegSpec{dt::own::kNonce, dt::own::kNonceMax, Access::kBoth, true, "NONCE"},
    RegSpec{dt::own::kReportStart, 4, Access::kWrite, false, "REPORT_START"},
    RegSpec{dt::own::kReportStatus, 4, Access::kRead, false, "REPORT_STATUS"},
    RegSpec{dt::own::kReportSize, 4, Access::kRead, false, "REPORT_SIZE"},
    RegSpec{dt::own::kReportData, dt::own::kReportMax, Access::kRead, true, "REPORT_DATA"},
};

inline constexpr std::uint32_t kDigestSize = 48; // SHA-384

inline constexpr std::array kControlRegs{
    RegSpec{dt::control::kId, 4, Access::kRead, false, "ID"},
    RegSpec{dt::control::kVersion, 4, Access::kRead, false, "VERSION"},
    RegSpec{dt::control::kDomains, 4, Access::kRead, false, "DOMAINS"},
    RegSpec{dt::control::kSelect, 4, Access::kBoth, false, "SELECT"},
    RegSpec{dt::control::kCommand, 4, Access::kWrite, false, "COMMAND"},
    RegSpec{dt::control::kStatus, 4, Access::kRead, false, "STATUS"},
    RegSpec{dt::control::kState, 4, Access::kRead, false, "STATE"},
    RegSpec{dt::control::kReason, 4, Access::kRead, false, "REASON"},
    RegSpec{dt::control::kStartCount, 8, Access::kRead, false, "START_COUNT"},
    RegSpec{dt::control::kLaunchCount, 8, Access::kRead, false, "LAUNCH_COUNT"},
    RegSpec{dt::control::kGateOpen, 8, Access::kWrite, false, "GATE_OPEN"},
    RegSpec{dt::control::kDigest, kDigestSize, Access::kRead, true, "DIGEST"},
    RegSpec{dt::control::kNonce, dt::own::kNonceMax, Access::kBoth, true, "NONCE"},
    RegSpec{dt::control::kNonceSize, 4, Access::kBoth, false, "NONCE_SIZE"},
    RegSpec{dt::control::kReceiptStatus, 4, Access::kRead, false, "RECEIPT_STATUS"},
    RegSpec{dt::control::kReceiptSize, 4, Access::kRead, false, "RECEIPT_SIZE"},
    RegSpec{dt::control::kReceiptData, dt::own::kReportMax, Access::kRead, true, "RECEIPT_DATA"},
    RegSpec{dt::control::kDescriptor, sizeof(dt::Descriptor), Access::kBoth, true, "DESCRIPTOR"},
};

inline constexpr std::uint32_t kRegisterVersion = 1;

template <typename Table>
consteval bool regs_are_sane(const Table &specs, std::uint64_t window)
{
    std::uint64_t end = 0;
    for (const RegSpec &spec : specs) {
        const bool register_size = spec.size == 1 || spec.size == 4 || spec.size == 8;
        if (spec.reg < end || (!spec.buffer && (!register_size || spec.reg % spec.size != 0))) {
            return false;
        }
        end = spec.reg + spec.size;
    }
    return end <= window;
}

static_assert(offsets_ascend(kOwnRegs) && regs_are_sane(kOwnRegs, dt::kOwnPageSize));
static_assert(offsets_ascend(kControlRegs) && regs_are_sane(kControlRegs, dt::kControlSize));

/// The register that holds the whole access, or nullptr: misaligned, between registers, across two, odd widths.
template <std::size_t N>
[[nodiscard]] constexpr const RegSpec *find_reg(const std::array<RegSpec, N> &specs, std::uint64_t offset,
                                                unsigned width)
{
    if ((width != 1 && width != 2 && width != 4 && width != 8) || offset % width != 0) {
        return nullptr;
    }
    for (const RegSpec &spec : specs) {
        if (offset >= spec.reg && offset - spec.reg < spec.size) {
            return offset - spec.reg + width <= spec.size ? &spec : nullptr;
        }
    }
    return nullptr;
}

} // namespace banyan::domain
