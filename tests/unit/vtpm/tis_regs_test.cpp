// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/chip/tis_regs.hpp"

#include <memory>
#include <ostream>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "vtpm/chip/tis_interface.hpp"

namespace banyan::vtpm::tis {

static void PrintTo(const RegSpec &spec, std::ostream *out) // NOLINT(readability-identifier-naming)
{
    *out << spec.name;
}

namespace {

std::vector<RegSpec> all_but_a_fifo()
{
    std::vector<RegSpec> specs;
    for (const RegSpec &spec : kRegs) {
        if (spec.reg != Reg::kDataFifo && spec.reg != Reg::kXdataFifo) {
            specs.push_back(spec);
        }
    }
    return specs;
}

class EveryTisRegister : public testing::TestWithParam<std::tuple<RegSpec, unsigned>> {
protected:
    EveryTisRegister() { tis_->power_on(false); }

    [[nodiscard]] const RegSpec &spec() const { return std::get<0>(GetParam()); }
    [[nodiscard]] unsigned locality() const { return std::get<1>(GetParam()); }
    [[nodiscard]] std::uint32_t at() const { return locality() * kPageSize + static_cast<std::uint32_t>(spec().reg); }
    [[nodiscard]] std::uint32_t read(unsigned lane, unsigned width)
    {
        return static_cast<std::uint32_t>(tis_->read(at() + lane, width));
    }
    void activate()
    {
        if (locality() == kHardwareLocality) {
            (void)tis_->hardware_seize();
        } else {
            (void)tis_->write(locality() * kPageSize, 1, Access::RequestUse::kMask);
        }
        ASSERT_EQ(tis_->locality(), locality());
    }

    std::unique_ptr<TisInterface> tis_ = std::make_unique<TisInterface>();
};

class EveryTisRegisterButAFifo : public EveryTisRegister {}; // whose reads take bytes, whose bits are all data
class EveryTisRegisterOfLocality4 : public EveryTisRegister {};

TEST_P(EveryTisRegister, ComesOutOfPowerOnWithTheValueOfTheTable)
{
    if (spec().active_only) {
        EXPECT_EQ(read(0, 4), 0xffff'ffffU) << "a locality that is not active reads ones";
        activate();
    }
    EXPECT_EQ(read(0, 4), spec().reset);
}

TEST_P(EveryTisRegisterButAFifo, ReadsTheSameByteByByte)
{
    activate();
    const std::uint32_t whole = read(0, 4);
    for (unsigned lane = 0; lane < 4; ++lane) {
        EXPECT_EQ(read(lane, 1), (whole >> (8 * lane)) & 0xff) << lane;
    }
    for (unsigned lane = 0; lane < 3; ++lane) { // also across the middle, as OSLO reads the burst count
        EXPECT_EQ(read(lane, 2), (whole >> (8 * lane)) & 0xffff) << lane;
    }
}

TEST_P(EveryTisRegisterButAFifo, TakesNoWriteOfReadOnlyBits)
{
    activate();
    const std::uint32_t before = read(0, 4);
    const auto fifo = tis_->state();
    const Wish wish = tis_->write(at(), 4, ~spec().guest_writable);
    EXPECT_EQ(read(0, 4), before);
    EXPECT_EQ(tis_->state(), fifo);
    EXPECT_FALSE(wish.dispatch || wish.abandon || wish.cancel || wish.reset_established);
}

TEST_P(EveryTisRegisterOfLocality4, IgnoresSoftware)
{
    for (const bool open : {false, true}) {
        if (open) {
            (void)tis_->hardware_seize();
        }
        const Localities before = tis_->localities();
        for (unsigned bit = 0; bit < 32; ++bit) {
            for (const unsigned width : {1U, 2U, 4U, 8U}) {
                const Wish wish = tis_->write(at(), width, std::uint64_t{1} << bit);
                EXPECT_FALSE(wish.dispatch || wish.abandon || wish.cancel || wish.reset_established);
            }
        }
        EXPECT_EQ(tis_->localities(), before);
        EXPECT_EQ(tis_->state(), FifoState::kIdle);
        EXPECT_TRUE(tis_->command().empty());
    }
}

std::string name_of(const testing::TestParamInfo<std::tuple<RegSpec, unsigned>> &test)
{
    return std::string(std::get<0>(test.param).name) + "_" + std::to_string(std::get<1>(test.param));
}

INSTANTIATE_TEST_SUITE_P(Ptp105, EveryTisRegister,
                         testing::Combine(testing::ValuesIn(kRegs), testing::Range(0U, kLocalities)), name_of);
INSTANTIATE_TEST_SUITE_P(Ptp105, EveryTisRegisterButAFifo,
                         testing::Combine(testing::ValuesIn(all_but_a_fifo()), testing::Range(0U, kLocalities)),
                         name_of);
INSTANTIATE_TEST_SUITE_P(Ptp105, EveryTisRegisterOfLocality4,
                         testing::Combine(testing::ValuesIn(kRegs), testing::Values(kHardwareLocality)), name_of);

TEST(TisMap, EveryOtherOffsetReadsOnesAndTakesNothing)
{
    TisInterface tis;
    tis.power_on(false);
    for (std::uint32_t offset = 0; offset < kPageSize; offset += 4) {
        if (find_reg(offset) != nullptr) {
            continue;
        }
        EXPECT_EQ(tis.read(offset, 4), 0xffff'ffffU) << offset;
        const Wish wish = tis.write(offset, 4, 0xffff'ffff);
        EXPECT_FALSE(wish.dispatch || wish.abandon || wish.cancel || wish.reset_established);
    }
    EXPECT_EQ(tis.localities(), Localities{});
}

TEST(TisMap, EightBytesAreTwoWords)
{
    TisInterface tis(0x32041114);
    EXPECT_EQ(tis.read(static_cast<std::uint32_t>(Reg::kDidVid), 8), 0x0000'0001'3204'1114U);
}

TEST(TisMap, NoAccessLeavesItsPage)
{
    TisInterface tis;
    EXPECT_EQ(tis.read(kPageSize - 1, 2), ~std::uint64_t{0});
    EXPECT_EQ(tis.read(kLocalities * kPageSize, 4), ~std::uint64_t{0});
    (void)tis.write(kPageSize - 1, 8, ~std::uint64_t{0}); // would reach TPM_ACCESS_1
    EXPECT_EQ(tis.localities(), Localities{});
}

} // namespace
} // namespace banyan::vtpm::tis
