// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>

#include "guest/agent/request.hpp"
#include "guest/agent/system.hpp"

namespace banyan::agent {

/// A line for each TPM: its driver, its PCR banks and, where it is not the first, the name of its attestation key or why
/// that could not be read.
std::vector<std::string> describe_tpms();

/// Makes the evidence that docs/spec/evidence.md describes, as a tar archive. Throws Failed.
std::string collect_evidence(const Request &request, OwnPage &own_page);

} // namespace banyan::agent
