// SPDX-License-Identifier: GPL-2.0-or-later
// Which PCR banks a TPM has. Sets of banks are those of vtpm/chip/pcr_banks.hpp.
#pragma once

#include <cstdint>

#include "banyan/base/result.hpp"
#include "vtpm/engine/tpm_life.hpp"

namespace banyan::vtpm {

/// The banks of a started TPM. One that no instance has (SHA-512) counts as a bit of its own.
[[nodiscard]] Result<std::uint32_t> allocated_banks(TpmLife &life);

/// TPM2_PCR_Allocate with empty platform authorization; counts from the next _TPM_Init on.
[[nodiscard]] Status allocate_banks(TpmLife &life, std::uint32_t banks);

} // namespace banyan::vtpm
