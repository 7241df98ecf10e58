// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "attest/verify.hpp"
#include "tool/exit_status.hpp"

namespace banyan::tool {

struct VerifyRequest {
    std::filesystem::path evidence;
    std::filesystem::path machine_file;
    std::filesystem::path trust;
    std::filesystem::path owner;     // empty: owner/ in the evidence
    std::filesystem::path json;      // empty: none; "-": standard output, and no table
    std::vector<std::string> accept; // "insecure:NAME"
};

/// Everything that `banyan verify` does but printing.
Outcome<std::vector<attest::Verdict>> verify(const VerifyRequest &request);

/// Exit::kOk if there is a verdict and all are attested.
Exit exit_of(const std::vector<attest::Verdict> &verdicts);

nlohmann::json to_json(const std::vector<attest::Verdict> &verdicts);
/// A line a VM; below it the reasons.
std::string to_table(const std::vector<attest::Verdict> &verdicts);

} // namespace banyan::tool
