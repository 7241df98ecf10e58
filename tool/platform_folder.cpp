// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/platform_folder.hpp"

#include <fmt/format.h>


namespace banyan::tool {

Outcome<void> ensure_platform(const Machine &machine, const std::filesystem::path &, unsigned instances)
{
    std::error_code error;
    if (std::filesystem::exists(machine.platform_private, error)) {
        return {};
    }
    return failed(Exit::kEnvironment,
                  fmt::format("there is no platform in {}; make one of at least {} instances with banyan platform new",
                              machine.platform_private.parent_path().string(), instances));
}

} // namespace banyan::tool
