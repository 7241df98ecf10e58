// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/exit_status.hpp"

#include <vector>

#include <gtest/gtest.h>

namespace banyan::tool {
namespace {

TEST(ExitStatus, OfSeveralIsTheWorst)
{
    const std::vector<Exit> order{Exit::kInterrupted, Exit::kBug,     Exit::kEnvironment, Exit::kTimeout,
                                  Exit::kVmFailed,    Exit::kRefused, Exit::kUsage,       Exit::kOk};
    for (std::size_t i = 0; i < order.size(); ++i) {
        for (std::size_t j = 0; j < order.size(); ++j) {
            EXPECT_EQ(fold(std::vector{order[i], order[j]}), order[std::min(i, j)]);
        }
    }
    EXPECT_EQ(fold({}), Exit::kOk);
}

} // namespace
} // namespace banyan::tool
