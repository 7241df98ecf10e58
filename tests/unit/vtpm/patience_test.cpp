// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/link/patience.hpp"

#include <gtest/gtest.h>

namespace banyan::vtpm {
namespace {

/// How many of a hundred commands gave way, when each way takes so long.
int gave_way(Patience &patience, std::uint64_t yield_ns, std::uint64_t sleep_ns)
{
    int count = 0;
    for (int i = 0; i < 100; ++i) {
        const bool yields = patience.gives_way();
        count += yields ? 1 : 0;
        patience.took(yields, yields ? yield_ns : sleep_ns);
    }
    return count;
}

TEST(Patience, TakesTheBetterWay)
{
    Patience idle;
    EXPECT_GT(gave_way(idle, 3'000, 40'000), 95);
    Patience busy;
    EXPECT_LT(gave_way(busy, 400'000, 8'000), 5);
}

TEST(Patience, NoticesWhenTheMachineChanges)
{
    Patience patience;
    (void)gave_way(patience, 3'000, 40'000);
    (void)gave_way(patience, 900'000, 8'000); // busy now; it still believes that sleeping takes 40 us
    EXPECT_LT(gave_way(patience, 900'000, 8'000), 5);
    for (int i = 0; i < 20; ++i) {
        (void)gave_way(patience, 3'000, 40'000);
    }
    EXPECT_GT(gave_way(patience, 3'000, 40'000), 95) << "the other way is tried now and then";
}

} // namespace
} // namespace banyan::vtpm
