// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <filesystem>

#include "tool/machine.hpp"

namespace banyan::tool {

/// Makes the machine's platform, with so many vTPM instances, if its folder does not exist yet.
Outcome<void> ensure_platform(const Machine &machine, const std::filesystem::path &engine, unsigned instances);

} // namespace banyan::tool
