// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <span>
#include <vector>

// The hardware-reduced ACPI tables of one VM.

namespace banyan::tool {

struct AcpiInput {
    unsigned domain = 0; // 1..dt::kMaxDomains: picks the DSDT and the PCI bus
    unsigned core = 0;   // LAPIC id
    std::uint64_t log_base = 0;
    std::uint32_t log_size = 0;
    unsigned tpms = 1; // 1..dt::kVtpmWindows
    bool crb = false;  // the first, which is the only one then
};

/// RSDP, XSDT, FADT, MADT, MCFG, TPM2, DSDT and, with more than one TPM, an SSDT as they lie from boot::kAcpi on. Depends on nothing else.
std::vector<std::uint8_t> make_acpi(const AcpiInput &input);

/// The DSDT of a domain, compiled from tool/acpi/dsdt.asl.in when Banyan was built.
std::span<const std::uint8_t> dsdt_of(unsigned domain);

/// The SSDT with so many further TPMs, 1..dt::kMaxFurtherVtpms, compiled from tool/acpi/ssdt.asl.in.
std::span<const std::uint8_t> ssdt_of(unsigned further_tpms);

} // namespace banyan::tool
