// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <filesystem>
#include <vector>

#include "tool/machine.hpp"
#include "tool/report.hpp"

namespace banyan::tool {

/// Verifies an evidence folder against the machine file's reference values and the platform's own trust anchor, as
/// `banyan verify` does. An entry for each VM of `machine`, in its order.
std::vector<Verdict> verify_evidence(const Machine &machine, const std::filesystem::path &evidence);

} // namespace banyan::tool
