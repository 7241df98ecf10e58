// SPDX-License-Identifier: GPL-2.0-or-later
#include <openssl/sha.h>

#include "tests/unit/vtpm/vtpm_machine.hpp"

namespace banyan::vtpm::testing {
namespace {

TEST(Engine, AnswersACommandThroughTheWindow)
{
    Machine machine;
    ASSERT_EQ(machine.status, 0) << machine.why;
    ASSERT_TRUE(machine.power(0)) << machine.describe();
    Guest guest(machine.vtpm);
    const Bytes random = guest.command(get_random(32));
    EXPECT_EQ(code_of(random), 0U);
    EXPECT_EQ(random.size(), 44U);
}

TEST(Engine, LaunchExtendsPcr17AsComputedByHand)
{
    Machine machine;
    ASSERT_TRUE(machine.power(0)) << machine.describe();
    Guest guest(machine.vtpm);
    EXPECT_EQ(digest_of(guest.command(pcr_read(17))), Bytes(32, 0xff));
    Bytes block(60000);
    for (std::size_t i = 0; i < block.size(); ++i) {
        block[i] = static_cast<std::uint8_t>(i * 7);
    }
    ASSERT_EQ(machine.launch(0, block), 0) << machine.describe();
    Bytes text(64);
    SHA256(block.data(), block.size(), text.data() + 32);
    Bytes expected(32);
    SHA256(text.data(), text.size(), expected.data());
    EXPECT_EQ(digest_of(guest.command(pcr_read(17))), expected);
    EXPECT_EQ(digest_of(guest.command(pcr_read(18))), Bytes(32, 0));
    EXPECT_FALSE(tis::Access::TpmEstablishment::get(guest.read(0, tis::Reg::kAccess, 1)));
}

} // namespace
} // namespace banyan::vtpm::testing
