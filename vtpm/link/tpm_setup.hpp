// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>

#include "vtpm/chip/pcr_banks.hpp"
#include "vtpm/chip/tpm_header.hpp"

namespace banyan::vtpm {

/// How a TPM is to be when it starts; from QEMU by the zygote to the worker, as it lies in memory.
struct TpmSetup {
    std::uint32_t banks = kAllPcrBanks;
    std::uint32_t buffer_size = kTpmBufferSize; // of the interface: no command and no response is longer
    std::uint32_t hold_startup = 0;             // 1: ready after _TPM_Init, Op::kStartup comes later
    std::uint32_t client_startup = 0;           // 1: TPM2_Startup comes as a command; the banks are the TPM's own

    friend bool operator==(const TpmSetup &, const TpmSetup &) = default;
};

} // namespace banyan::vtpm
