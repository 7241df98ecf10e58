// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "tool/exit_status.hpp"
#include "tool/session.hpp"

namespace banyan::tool {

struct RunRequest {
    std::filesystem::path machine_file;
    std::optional<unsigned> vms; // only the first so many
    std::optional<std::filesystem::path> json;
    std::optional<std::filesystem::path> evidence;
    std::optional<std::filesystem::path> qemu; // instead of ours
    std::vector<std::string> qemu_arguments;
    Timeouts timeouts;
    std::string task;
    End end = End::kPoweroff;
    bool quiet = false;
};

/// All of `banyan run`. Messages go to standard error, the table to standard output.
Exit run(const RunRequest &request);

} // namespace banyan::tool
