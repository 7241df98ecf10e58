// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>
#include <cstring>

#include "cpu-ext/domain/domain_regs.hpp"
#include "cpu-ext/domain/domain_table.hpp"

// The own page and the control window.

namespace banyan::domain {

namespace {

constexpr std::uint64_t low_bytes(unsigned width)
{
    return width >= 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << (width * 8)) - 1;
}

const RegSpec *find(WindowKind window, std::uint64_t offset, unsigned width)
{
    return window == WindowKind::kOwn ? find_reg(kOwnRegs, offset, width) : find_reg(kControlRegs, offset, width);
}

/// Whole, or one half of an 8-byte register.
bool whole(const RegSpec &spec, unsigned width)
{
    return width == spec.size || (spec.size == 8 && width == 4);
}

constexpr std::uint32_t kSlDevClosed = 1; // SL_DEV bit 0

} // namespace

// ---- who may -----------------------------------------------------------------------------------------------------

bool DomainTable::admitted(Cycle cycle, WindowKind window) const
{
    if (cycle.requester == 0 || !cycle.from_core) {
        return false; // unmarked never means privileged
    }
    const std::uint32_t number = cycle.requester - 1U;
    if (number == 0) {
        return true;
    }
    if (window == WindowKind::kControl || !is_domain(number)) {
        return false;
    }
    const Phase phase = domains_[number].phase;
    return phase == Phase::kRunning || phase == Phase::kStopping;
}

void DomainTable::refuse(Cycle cycle)
{
    const std::uint32_t number = cycle.requester - 1U;
    if (cycle.requester == 0 || !cycle.from_core || number > dt::kMaxDomains) {
        ++unmarked_;
    } else {
        deny(number, Denied::kMmio);
    }
}

// ---- accesses ----------------------------------------------------------------------------------------------------

std::uint64_t DomainTable::mmio_read(Cycle cycle, WindowKind window, std::uint64_t offset, unsigned width)
{
    const RegSpec *spec = admitted(cycle, window) ? find(window, offset, width) : nullptr;
    if (spec == nullptr) {
        refuse(cycle);
        return low_bytes(width);
    }
    const bool own = window == WindowKind::kOwn;
    const std::uint32_t number = cycle.requester - 1U;
    std::uint64_t value = 0;
    if (spec->access == Access::kWrite) {
        return 0;
    }
    if (spec->buffer) {
        const std::uint8_t *bytes = own ? own_bytes(number, spec->reg) : control_bytes(spec->reg);
        if (bytes != nullptr) {
            std::memcpy(&value, bytes + (offset - spec->reg), width);
        }
        return value;
    }
    value = own ? own_value(number, spec->reg) : control_value(spec->reg);
    return (value >> ((offset - spec->reg) * 8)) & low_bytes(width);
}

void DomainTable::mmio_write(Cycle cycle, WindowKind window, std::uint64_t offset, unsigned width, std::uint64_t value)
{
    const RegSpec *spec = admitted(cycle, window) ? find(window, offset, width) : nullptr;
    if (spec == nullptr || spec->access == Access::kRead || (!spec->buffer && !whole(*spec, width))) {
        refuse(cycle);
        return;
    }
    if (spec->access == Access::kIgnored) {
        return;
    }
    const bool own = window == WindowKind::kOwn;
    const std::uint32_t number = cycle.requester - 1U;
    if (spec->buffer) {
        std::uint8_t *bytes = own ? own_target(number, spec->reg) : control_target(spec->reg);
        if (bytes == nullptr) {
            refuse(cycle);
            return;
        }
        std::memcpy(bytes + (offset - spec->reg), &value, width);
        return;
    }
    const std::uint64_t shifted = (value & low_bytes(width)) << ((offset - spec->reg) * 8);
    if (!(own ? own_write(number, spec->reg, shifted) : control_write(spec->reg, shifted))) {
        refuse(cycle);
    }
}

// ---- own page ----------------------------------------------------------------------------------------------------

std::uint64_t DomainTable::own_value(std::uint32_t number, std::uint32_t reg)
{
    Domain &domain = domains_[number];
    switch (reg) {
    case dt::own::kId:
        return dt::kOwnId;
    case dt::own::kVersion:
        return kRegisterVersion;
    case dt::own::kDomain:
        return number;
    case dt::own::kGate:
        return number == 0 || domain.gate ? 1 : 0; // the host waits for nobody
    case dt::own::kSleepStatus:
        return 0;
    case dt::own::kSlDev:
        return host_.window_closed(number) ? kSlDevClosed : 0;
    case dt::own::kWallTime:
        return host_.wall_time();
    case dt::own::kReportStatus:
        poll_report(number, Kind::kReport);
        return static_cast<std::uint32_t>(domain.report.status);
    case dt::own::kReportSize:
        poll_report(number, Kind::kReport);
        return domain.report.size;
    default:
        return 0;
    }
}

const std::uint8_t *DomainTable::own_bytes(std::uint32_t number, std::uint32_t reg)
{
    Report &report = domains_[number].report;
    if (reg == dt::own::kNonce) {
        return report.nonce.data();
    }
    poll_report(number, Kind::kReport);
    return report.status == dt::ReportStatus::kReady ? report.data.data() : nullptr;
}

std::uint8_t *DomainTable::own_target(std::uint32_t number, std::uint32_t reg)
{
    Report &report = domains_[number].report;
    return reg == dt::own::kNonce && report.status != dt::ReportStatus::kBusy ? report.nonce.data() : nullptr;
}

bool DomainTable::own_write(std::uint32_t number, std::uint32_t reg, std::uint64_t value)
{
    switch (reg) {
    case dt::own::kSleepControl:
        if (number != 0 && (value & dt::own::kSleepEnable) != 0) {
            end(number, Event::kEnd, dt::EndReason::kPoweroff);
        }
        return number != 0;
    case dt::own::kReset:
        if (number != 0 && value == dt::own::kResetValue) {
            end(number, Event::kEnd, dt::EndReason::kReboot);
        }
        return number != 0;
    case dt::own::kSlDev:
        if ((value & kSlDevClosed) == 0 && host_.window_closed(number)) {
            host_.window_lifted(number);
        }
        return true;
    case dt::own::kReportStart:
        start_report(number, Kind::kReport, value);
        return true;
    default:
        return false;
    }
}

// ---- control window ----------------------------------------------------------------------------------------------

std::uint64_t DomainTable::control_value(std::uint32_t reg)
{
    switch (reg) {
    case dt::control::kId:
        return dt::kOwnId;
    case dt::control::kVersion:
        return kRegisterVersion;
    case dt::control::kDomains:
        return dt::kMaxDomains;
    case dt::control::kSelect:
        return select_;
    default:
        break;
    }
    if (!selected()) {
        return reg == dt::control::kStatus ? static_cast<std::uint64_t>(dt::Status::kBadDomain) : 0;
    }
    poll_seal(select_);
    Domain &domain = domains_[select_];
    switch (reg) {
    case dt::control::kStatus:
        return static_cast<std::uint32_t>(domain.status);
    case dt::control::kState:
        return static_cast<std::uint32_t>(visible(domain.phase));
    case dt::control::kReason:
        return static_cast<std::uint32_t>(domain.reason);
    case dt::control::kStartCount:
        return domain.start_count;
    case dt::control::kLaunchCount:
        return domain.launch_count;
    case dt::control::kNonceSize:
        return domain.receipt_nonce_size;
    case dt::control::kReceiptStatus:
        poll_report(select_, Kind::kReceipt);
        return static_cast<std::uint32_t>(domain.receipt.status);
    case dt::control::kReceiptSize:
        poll_report(select_, Kind::kReceipt);
        return domain.receipt.size;
    default:
        return 0;
    }
}

const std::uint8_t *DomainTable::control_bytes(std::uint32_t reg)
{
    if (!selected()) {
        return nullptr;
    }
    poll_seal(select_);
    Domain &domain = domains_[select_];
    switch (reg) {
    case dt::control::kDigest:
        return closed(domain.phase) ? domain.digest.data() : nullptr;
    case dt::control::kNonce:
        return domain.receipt.nonce.data();
    case dt::control::kReceiptData:
        poll_report(select_, Kind::kReceipt);
        return domain.receipt.status == dt::ReportStatus::kReady ? domain.receipt.data.data() : nullptr;
    case dt::control::kDescriptor:
        return reinterpret_cast<const std::uint8_t *>(&domain.descriptor);
    default:
        return nullptr;
    }
}

std::uint8_t *DomainTable::control_target(std::uint32_t reg)
{
    if (!selected()) {
        return nullptr;
    }
    poll_seal(select_);
    Domain &domain = domains_[select_];
    switch (reg) {
    case dt::control::kNonce:
        return domain.receipt.status == dt::ReportStatus::kBusy ? nullptr : domain.receipt.nonce.data();
    case dt::control::kDescriptor:
        return domain.phase == Phase::kBuilding ? reinterpret_cast<std::uint8_t *>(&domain.descriptor) : nullptr;
    default:
        return nullptr;
    }
}

bool DomainTable::control_write(std::uint32_t reg, std::uint64_t value)
{
    switch (reg) {
    case dt::control::kSelect:
        select_ = static_cast<std::uint32_t>(value);
        return true;
    case dt::control::kGateOpen: // the gates of one write open at one moment: every access holds the big lock
        for (std::uint32_t number = 1; number <= dt::kMaxDomains; ++number) {
            if ((value >> number & 1) != 0 && domains_[number].phase == Phase::kRunning) {
                domains_[number].gate = true;
            }
        }
        return true;
    case dt::control::kCommand:
        if (!selected()) {
            return false;
        }
        command(select_, static_cast<std::uint32_t>(value));
        return true;
    case dt::control::kNonceSize:
        if (!selected()) {
            return false;
        }
        domains_[select_].receipt_nonce_size = static_cast<std::uint32_t>(value);
        return true;
    default:
        return false;
    }
}

} // namespace banyan::domain
