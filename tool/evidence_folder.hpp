// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <filesystem>

#include "tool/plan.hpp"

namespace banyan::tool {

/// Makes the folders of docs/spec/evidence.md for the VMs of `plan`. What an earlier run left there is removed, by its
/// owner/run.json; a folder with anything else in it is refused.
Outcome<void> prepare_evidence(const std::filesystem::path &folder, const Plan &plan);

/// owner/chain.pem, from the platform's public folder.
Outcome<void> copy_chain(const std::filesystem::path &folder, const std::filesystem::path &platform_public);

} // namespace banyan::tool
