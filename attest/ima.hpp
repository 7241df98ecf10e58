// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <optional>
#include <vector>

#include "attest/banks.hpp"

// What Linux' IMA does to PCR 10 in a VM without firmware. docs/spec/evidence.md, section 4.

namespace banyan::attest {

inline constexpr unsigned kPcrIma = 10; // CONFIG_IMA_MEASURE_PCR_IDX

/// Every value that PCR 10 may have; the first is zero (no IMA), the second that of Debian 6.1.
std::vector<Bytes> predicted_ima_values(Bank bank);

/// The first line of ascii_runtime_measurements that is not the predicted boot_aggregate; nothing if there is none.
std::optional<std::string> first_unexpected_ima_line(std::string_view log);

} // namespace banyan::attest
