// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string_view>

#include <gtest/gtest.h>

#include "tests/unit/tool/build_folder.hpp"

namespace banyan::tool::test {

class BuildFolder : public Build {
public:
    /// A machine that must be right.
    [[nodiscard]] Machine machine(std::string_view text) const
    {
        auto machine = parse(text);
        if (!machine) {
            ADD_FAILURE() << machine.error().text;
            return {};
        }
        return *machine;
    }
};

inline constexpr std::string_view kTwoVms = R"(schema = 1
[[vm]]
name = "alpha"
kernel = "debian:amd64"
[[vm]]
name = "beta"
memory = "1G"
kernel = "debian:cloud-amd64"
command_line = "quiet"
)";

} // namespace banyan::tool::test
