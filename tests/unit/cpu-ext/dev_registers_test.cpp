// SPDX-License-Identifier: GPL-2.0-or-later
#include "cpu-ext/dma/dev_registers.hpp"

#include <gtest/gtest.h>

namespace banyan::dma {
namespace {

using dev::Control;
using dev::Function;
using dev::kFunction;
using dev::kLinkFunction;
using dev::kSlbProtection;
using dev::Reg;

constexpr auto kOp = static_cast<std::uint16_t>(Reg::kOp);
constexpr auto kData = static_cast<std::uint16_t>(Reg::kData);
constexpr std::uint32_t kSlDevEn = Control::SlDevEnable::kMask;

constexpr std::uint32_t op(Function function, std::uint32_t index = 0)
{
    return dev::Op::Function::with(index, static_cast<std::uint32_t>(function));
}

TEST(DevRegisters, ShowTheClosureInTheControlRegister)
{
    DevRegisters dev;
    EXPECT_EQ(dev.write(0, kFunction, kOp, 4, op(Function::kControl), false), DevWish::kNothing);
    EXPECT_EQ(dev.read(0, kFunction, kData, false), 0U);
    EXPECT_EQ(dev.read(0, kFunction, kData, true), kSlDevEn);
}

TEST(DevRegisters, LiftTheClosureWhenSlDevEnableIsCleared)
{
    DevRegisters dev;
    (void)dev.write(3, kFunction, kOp, 4, op(Function::kControl), true);
    EXPECT_EQ(dev.write(3, kFunction, kData, 4, kSlDevEn, true), DevWish::kNothing) << "still set";
    EXPECT_EQ(dev.write(3, kFunction, kData, 4, 0x1F, true), DevWish::kLiftWindow) << "whatever the other bits";
    EXPECT_EQ(dev.write(3, kFunction, kData, 4, 0, false), DevWish::kNothing) << "nothing is closed";
    EXPECT_EQ(dev.write(3, kFunction, kData + 1, 1, 0, true), DevWish::kNothing) << "not the byte with the bit";
    EXPECT_EQ(dev.write(3, kFunction, kData, 1, 0, true), DevWish::kLiftWindow);
    EXPECT_EQ(dev.write(3, kFunction, kData, 2, 0, true), DevWish::kLiftWindow);
}

// What else DEV_OP can select neither shows nor lifts anything; DEV_CAP therefore names no bitmap and no map.
TEST(DevRegisters, HaveNothingBehindTheOtherFunctions)
{
    for (std::uint32_t function = 0; function < 256; ++function) {
        for (const std::uint32_t index : {0U, 1U, 255U}) {
            DevRegisters dev;
            const std::uint32_t select = dev::Op::Function::with(index, function);
            (void)dev.write(1, kFunction, kOp, 4, select, true);
            EXPECT_EQ(dev.read(1, kFunction, kOp, true), select);
            if (function == static_cast<std::uint32_t>(Function::kControl)) {
                continue;
            }
            EXPECT_EQ(dev.read(1, kFunction, kData, true), 0U) << function;
            EXPECT_EQ(dev.write(1, kFunction, kData, 4, 0, true), DevWish::kNothing) << function;
        }
    }
}

TEST(DevRegisters, LiftTheClosureAtTheWordOfFamily17h)
{
    DevRegisters dev;
    EXPECT_EQ(dev.read(2, kLinkFunction, kSlbProtection, true), 1U);
    EXPECT_EQ(dev.read(2, kLinkFunction, kSlbProtection, false), 0U);
    EXPECT_EQ(dev.write(2, kLinkFunction, kSlbProtection, 4, 1, true), DevWish::kNothing);
    EXPECT_EQ(dev.write(2, kLinkFunction, kSlbProtection + 1, 1, 0, true), DevWish::kNothing);
    EXPECT_EQ(dev.write(2, kLinkFunction, kSlbProtection, 4, 0xFFFF'FFFE, true), DevWish::kLiftWindow);
    EXPECT_EQ(dev.write(2, kLinkFunction, kSlbProtection, 1, 0, true), DevWish::kLiftWindow);
}

TEST(DevRegisters, AreBankedByDomain)
{
    DevRegisters dev;
    for (std::uint32_t domain = 0; domain <= dt::kMaxDomains; ++domain) {
        (void)dev.write(domain, kFunction, kOp, 4, domain + 1, true);
    }
    dev.reset(5);
    for (std::uint32_t domain = 0; domain <= dt::kMaxDomains; ++domain) {
        EXPECT_EQ(dev.read(domain, kFunction, kOp, true), domain == 5 ? 0 : domain + 1);
    }
    EXPECT_EQ(dev.read(dt::kMaxDomains + 1, kFunction, kOp, true), 0U);
    EXPECT_EQ(dev.write(dt::kMaxDomains + 1, kFunction, kData, 4, 0, true), DevWish::kNothing);
    dev.reset(dt::kMaxDomains + 1);
}

// Every function, offset, width and alignment: only the two registers act, and no access leaves its word.
TEST(DevRegisters, IgnoreEveryOtherPlace)
{
    for (std::uint32_t function = 0; function < 8; ++function) {
        for (std::uint32_t offset = 0; offset < 0x1000; ++offset) {
            for (const unsigned width : {0U, 1U, 2U, 3U, 4U, 8U}) {
                DevRegisters dev;
                (void)dev.write(1, kFunction, kOp, 4, op(Function::kControl), true);
                const auto at = static_cast<std::uint16_t>(offset);
                const bool shaped = (width == 1 || width == 2 || width == 4) && (offset & 3) + width <= 4;
                const bool lifts = shaped && (offset & 3) == 0 &&
                                   ((function == kFunction && offset == kData) ||
                                    (function == kLinkFunction && offset == kSlbProtection));
                ASSERT_EQ(dev.write(1, static_cast<std::uint8_t>(function), at, width, 0, true),
                          lifts ? DevWish::kLiftWindow : DevWish::kNothing)
                    << function << " " << offset << " " << width;
                const bool changed = shaped && function == kFunction && offset >= kOp && offset < kOp + 4U;
                const std::uint32_t touched =
                    changed && offset + width > kOp + 1U && offset <= kOp + 1U ? 0 : op(Function::kControl);
                ASSERT_EQ(dev.read(1, kFunction, kOp, true), touched) << function << " " << offset << " " << width;
            }
        }
    }
}

} // namespace
} // namespace banyan::dma
