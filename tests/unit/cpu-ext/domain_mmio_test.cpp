// SPDX-License-Identifier: GPL-2.0-or-later
#include <gtest/gtest.h>

#include "cpu-ext/domain/domain_regs.hpp"
#include "fake_host.hpp"

// Who reaches which window, and what every register does at every width.

namespace banyan::domain {

static void PrintTo(const RegSpec &spec, std::ostream *out) // NOLINT(readability-identifier-naming)
{
    *out << spec.name;
}

namespace {

constexpr std::uint64_t ones(unsigned width)
{
    return width == 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << (8 * width)) - 1;
}

constexpr unsigned kWidths[] = {1, 2, 4, 8};

TEST(DomainWindows, TheControlWindowAnswersOnlyHostCores)
{
    Bench b;
    ASSERT_TRUE(b.run(1));
    b.select(1);
    const auto state = [&] { return b.state(1); };
    for (unsigned requester = 0; requester <= 255; ++requester) {
        for (const bool from_core : {false, true}) {
            if (requester == 1 && from_core) {
                continue;
            }
            const Cycle cycle{static_cast<std::uint8_t>(requester), from_core};
            EXPECT_EQ(b.table.mmio_read(cycle, WindowKind::kControl, dt::control::kId, 4), ones(4));
            b.table.mmio_write(cycle, WindowKind::kControl, dt::control::kCommand, 4, 3);
            EXPECT_EQ(state(), dt::State::kRunning);
        }
    }
    EXPECT_EQ(b.denied(1, "mmio"), 2U);
    EXPECT_NE(b.json().find("\"unmarked\":" + std::to_string((256 * 2 - 1 - 15) * 2)), std::string::npos) << b.json();
}

TEST(DomainWindows, TheOwnPageAnswersOnlyTheCoresOfARunningDomain)
{
    Bench b;
    ASSERT_TRUE(b.run(1));
    ASSERT_EQ(b.seal(2), dt::Status::kOk);
    EXPECT_EQ(b.own(1, dt::own::kId), dt::kOwnId);
    EXPECT_EQ(b.own(0, dt::own::kId), dt::kOwnId) << "the host has one too";
    EXPECT_EQ(b.own(2, dt::own::kId), ones(4)) << "no core of it can run";
    EXPECT_EQ(b.own(16, dt::own::kId), ones(4)) << "no such domain";
    EXPECT_EQ(b.table.mmio_read({2, false}, WindowKind::kOwn, dt::own::kId, 4), ones(4)) << "a device of it";
    EXPECT_EQ(b.table.mmio_read({0, true}, WindowKind::kOwn, dt::own::kId, 4), ones(4)) << "nobody";
    b.command(1, dt::Command::kStop);
    EXPECT_EQ(b.own(1, dt::own::kDomain), 1U) << "until its core is out";
    b.table.exit(1, 1, ExitCause::kStopLine);
    EXPECT_EQ(b.own(1, dt::own::kDomain), ones(4));
}

TEST(DomainWindows, EachDomainSeesItsOwnPage)
{
    Bench b;
    for (std::uint32_t n = 1; n <= 3; ++n) {
        ASSERT_TRUE(b.run(n));
    }
    for (std::uint32_t n = 0; n <= 3; ++n) {
        EXPECT_EQ(b.own(n, dt::own::kDomain), n);
        b.own_write(n, dt::own::kNonce, 0x1111 * (n + 1), 8);
    }
    for (std::uint32_t n = 0; n <= 3; ++n) {
        EXPECT_EQ(b.own(n, dt::own::kNonce, 8), 0x1111 * (n + 1));
    }
}

class EveryRegister : public testing::TestWithParam<std::pair<WindowKind, RegSpec>> {
protected:
    EveryRegister()
    {
        EXPECT_TRUE(b.run(1));
        b.select(1);
        b.control_write(dt::control::kNonceSize, 8);
    }
    std::uint64_t read(std::uint64_t offset, unsigned width)
    {
        return b.table.mmio_read(Bench::kHostCore, GetParam().first, offset, width);
    }
    Bench b;
};

TEST_P(EveryRegister, ReadsThePartsOfItsValueAtEveryAlignedWidth)
{
    const RegSpec &spec = GetParam().second;
    if (spec.size < 8) {
        std::uint64_t whole = read(spec.reg, spec.size);
        for (std::uint32_t at = 0; at < spec.size; ++at) {
            EXPECT_EQ(read(spec.reg + at, 1), whole >> (8 * at) & 0xFF);
        }
        return;
    }
    for (std::uint32_t at = 0; at + 8 <= spec.size; at += 8) {
        const std::uint64_t whole = read(spec.reg + at, 8);
        for (const unsigned width : {1U, 2U, 4U}) {
            for (std::uint32_t part = 0; part < 8; part += width) {
                EXPECT_EQ(read(spec.reg + at + part, width), whole >> (8 * part) & ones(width));
            }
        }
    }
}

TEST_P(EveryRegister, RefusesMisalignedAndCrossingAccesses)
{
    const RegSpec &spec = GetParam().second;
    for (const unsigned width : {2U, 4U, 8U}) {
        for (unsigned skew = 1; skew < width; ++skew) {
            if ((spec.reg + skew) % width != 0) {
                EXPECT_EQ(read(spec.reg + skew, width), ones(width));
            }
        }
    }
    for (const unsigned width : {0U, 3U, 5U, 16U, 255U}) {
        read(spec.reg, width);
    }
    if (spec.size < 8 && spec.reg % 8 == 0) {
        EXPECT_EQ(read(spec.reg, 8), ones(8));
    }
}

TEST_P(EveryRegister, KeepsWhatSoftwareMayNotWrite)
{
    const RegSpec &spec = GetParam().second;
    if (spec.access != Access::kRead) {
        return;
    }
    for (const unsigned width : kWidths) {
        for (std::uint32_t at = 0; at + width <= spec.size; at += width) {
            const std::uint64_t before = read(spec.reg + at, width);
            b.table.mmio_write(Bench::kHostCore, GetParam().first, spec.reg + at, width, ~before);
            EXPECT_EQ(read(spec.reg + at, width), before);
        }
    }
    EXPECT_GT(b.denied(0, "mmio"), 0U);
}

TEST_P(EveryRegister, TakesOnlyWholeWritesUnlessItIsABuffer)
{
    const RegSpec &spec = GetParam().second;
    if (spec.access == Access::kRead || spec.buffer) {
        return;
    }
    const std::uint64_t before = b.denied(0, "mmio");
    std::uint64_t refused = 0;
    for (const unsigned width : kWidths) {
        const bool whole = width == spec.size || (spec.size == 8 && width == 4);
        if (!whole) {
            b.table.mmio_write(Bench::kHostCore, GetParam().first, spec.reg, width, 0);
            ++refused;
        }
    }
    EXPECT_EQ(b.denied(0, "mmio") - before, refused);
    EXPECT_EQ(b.state(1), dt::State::kRunning);
}

std::vector<std::pair<WindowKind, RegSpec>> all_registers()
{
    std::vector<std::pair<WindowKind, RegSpec>> all;
    for (const RegSpec &spec : kOwnRegs) {
        all.emplace_back(WindowKind::kOwn, spec);
    }
    for (const RegSpec &spec : kControlRegs) {
        all.emplace_back(WindowKind::kControl, spec);
    }
    return all;
}

INSTANTIATE_TEST_SUITE_P(Map, EveryRegister, testing::ValuesIn(all_registers()), [](const auto &test) {
    return std::string(test.param.first == WindowKind::kOwn ? "Own_" : "Control_") +
           std::string(test.param.second.name);
});

TEST(DomainWindows, WhatIsNoRegisterReadsOnes)
{
    Bench b;
    std::uint64_t holes = 0;
    for (std::uint64_t offset = 0; offset < 0x3000; ++offset) {
        if (find_reg(kControlRegs, offset, 1) == nullptr) {
            ASSERT_EQ(b.control(static_cast<std::uint32_t>(offset), 1), 0xFFU) << offset;
            b.control_write(static_cast<std::uint32_t>(offset), 0, 1);
            holes += 2;
        }
    }
    EXPECT_EQ(b.denied(0, "mmio"), holes);
    EXPECT_EQ(b.table.mmio_read(Bench::kHostCore, WindowKind::kControl, ~std::uint64_t{7}, 8), ones(8));
}

TEST(DomainWindows, RegistersOfNoDomainReadZero)
{
    Bench b;
    for (const std::uint32_t number : {0U, 16U, 0xFFFF'FFFFU}) {
        b.select(number);
        EXPECT_EQ(b.control(dt::control::kSelect), number);
        EXPECT_EQ(b.control(dt::control::kStatus), static_cast<std::uint64_t>(dt::Status::kBadDomain));
        EXPECT_EQ(b.control(dt::control::kState), 0U);
        EXPECT_EQ(b.control(dt::control::kDescriptor, 8), 0U);
        EXPECT_EQ(b.control(dt::control::kDigest, 8), 0U);
        b.control_write(dt::control::kCommand, 1);
        b.control_write(dt::control::kDescriptor, 1, 8);
        b.control_write(dt::control::kNonce, 1, 8);
        b.control_write(dt::control::kNonceSize, 1);
        EXPECT_EQ(b.control(dt::control::kNonce, 8), 0U);
    }
    EXPECT_EQ(b.denied(0, "mmio"), 12U);
    EXPECT_EQ(b.control(dt::control::kDomains), dt::kMaxDomains);
}

TEST(DomainWindows, TheLaunchWindowIsLiftedOnceByWritingZero)
{
    Bench b;
    ASSERT_TRUE(b.run(1));
    EXPECT_EQ(b.own(1, dt::own::kSlDev), 0U);
    b.own_write(1, dt::own::kSlDev, 0);
    EXPECT_EQ(b.host.count("lifted"), 0) << "it is open";
    b.host.window_is_closed = true;
    EXPECT_EQ(b.own(1, dt::own::kSlDev), 1U);
    b.own_write(1, dt::own::kSlDev, 1);
    EXPECT_EQ(b.host.count("lifted"), 0);
    b.own_write(1, dt::own::kSlDev, 0);
    b.own_write(1, dt::own::kSlDev, 0);
    EXPECT_EQ(b.host.count("lifted 1"), 1);
    EXPECT_EQ(b.own(1, dt::own::kSlDev), 0U);
}

TEST(DomainWindows, TheClockIsTheHosts)
{
    Bench b;
    ASSERT_TRUE(b.run(1));
    EXPECT_EQ(b.own(1, dt::own::kWallTime, 8), 0x1'6543'2100U);
    EXPECT_EQ(b.own(1, dt::own::kWallTime + 4), 1U);
}

TEST(DomainWindows, DescriptorBytesAreWrittenAtEveryWidth)
{
    Bench b;
    b.command(1, dt::Command::kCreate);
    b.control_write(dt::control::kDescriptor, 0x0807'0605'0403'0201, 8);
    b.control_write(dt::control::kDescriptor + 2, 0xFFFF'BBAA, 2);
    b.control_write(dt::control::kDescriptor + 7, 0x99, 1);
    EXPECT_EQ(b.control(dt::control::kDescriptor, 8), 0x9907'0605'BBAA'0201U);
    const std::uint32_t last = dt::control::kDescriptor + sizeof(dt::Descriptor) - 1;
    b.control_write(last, 0x77, 1);
    EXPECT_EQ(b.control(last, 1), 0x77U);
}

} // namespace
} // namespace banyan::domain
