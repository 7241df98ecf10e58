// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/chip/crb_regs.hpp"

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "vtpm/chip/crb_interface.hpp"

namespace banyan::vtpm::crb {

static void PrintTo(const RegSpec &spec, std::ostream *out) // NOLINT(readability-identifier-naming)
{
    *out << spec.name;
}

namespace {

bool wishes(const Wish &wish)
{
    return wish.dispatch || wish.abandon || wish.cancel || wish.reset_established;
}

/// Every register; each test walks the localities, with and without an interrupt wired.
class EveryCrbRegister : public testing::TestWithParam<RegSpec> {
protected:
    [[nodiscard]] static const RegSpec &spec() { return GetParam(); }
    [[nodiscard]] std::uint32_t at() const { return locality * kPageSize + static_cast<std::uint32_t>(spec().reg); }
    [[nodiscard]] std::uint64_t read(unsigned lane, unsigned width) { return crb->read(at() + lane, width); }
    void activate(unsigned who)
    {
        if (who == kHardwareLocality) {
            (void)crb->hardware_seize();
        } else {
            (void)crb->write(who * kPageSize + static_cast<std::uint32_t>(Reg::kLocCtrl), 4,
                             LocCtrl::RequestAccess::kMask);
        }
        ASSERT_EQ(crb->locality(), who);
    }
    template <typename Visit>
    void for_each_locality(Visit visit)
    {
        for (const bool wired : {false, true}) {
            for (locality = 0; locality < kLocalities; ++locality) {
                SCOPED_TRACE(testing::Message() << "locality " << locality << (wired ? ", wired" : ""));
                crb = std::make_unique<CrbInterface>(0, wired);
                crb->power_on(false);
                visit();
            }
        }
    }

    unsigned locality = 0;
    std::unique_ptr<CrbInterface> crb;
};

class EveryCrbRegisterOfTheActiveLocality : public EveryCrbRegister {};
class EveryCrbRegisterOfLocality4 : public EveryCrbRegister {};

TEST_P(EveryCrbRegister, ComesOutOfPowerOnWithTheValueOfTheTable)
{
    const bool own_page = spec().reg == Reg::kCtrlCmdLaddr || spec().reg == Reg::kCtrlRspAddr;
    for_each_locality([&] {
        if (spec().active_only) {
            EXPECT_EQ(read(0, 4), 0xffff'ffffU) << "a locality that is not active reads ones";
            activate(locality);
        }
        EXPECT_EQ(read(0, 4), spec().reset + (own_page ? locality * kPageSize : 0));
    });
}

TEST_P(EveryCrbRegister, ReadsTheSameInEveryWidthAtEveryAlignment)
{
    for_each_locality([&] {
        activate(locality);
        std::uint64_t whole = 0; // byte by byte, with what comes after
        for (unsigned lane = 0; lane < 8; ++lane) {
            whole |= read(lane, 1) << (8 * lane);
        }
        for (const unsigned width : {2U, 4U, 8U}) {
            for (unsigned lane = 0; lane + width <= 8; ++lane) {
                const std::uint64_t mask = width == 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << (8 * width)) - 1;
                EXPECT_EQ(read(lane, width), (whole >> (8 * lane)) & mask) << width << " at " << lane;
            }
        }
    });
}

TEST_P(EveryCrbRegister, TakesNoWriteOfReadOnlyBits)
{
    for_each_locality([&] {
        activate(locality);
        const std::uint64_t before = read(0, 4);
        for (const unsigned width : {1U, 2U, 4U}) {
            EXPECT_FALSE(wishes(crb->write(at(), width, ~spec().guest_writable)));
        }
        EXPECT_EQ(read(0, 4), before);
        EXPECT_EQ(crb->state(), CrbState::kIdle);
        EXPECT_EQ(crb->locality(), locality);
    });
}

TEST_P(EveryCrbRegisterOfTheActiveLocality, IsOutOfReachForTheOthers)
{
    for_each_locality([&] {
        // Its owner has a command half in.
        const unsigned owner = locality == 0 ? 1 : 0;
        const auto of_owner = [&](Reg reg) { return owner * kPageSize + static_cast<std::uint32_t>(reg); };
        activate(owner);
        (void)crb->write(of_owner(Reg::kCtrlReq), 4, CtrlReq::CmdReady::kMask);
        (void)crb->write(of_owner(Reg::kDataBuffer), 4, 0x1234'5678);
        for (const unsigned width : {1U, 2U, 4U, 8U}) {
            for (unsigned bit = 0; bit < 32; ++bit) {
                EXPECT_FALSE(wishes(crb->write(at(), width, std::uint64_t{1} << bit)));
            }
        }
        for (const unsigned width : {1U, 2U, 4U}) {
            EXPECT_EQ(read(0, width), (std::uint64_t{1} << (8 * width)) - 1);
        }
        EXPECT_EQ(crb->state(), CrbState::kReception);
        EXPECT_EQ(crb->read(of_owner(Reg::kDataBuffer), 4), 0x1234'5678U);
        EXPECT_EQ(crb->locality(), owner);
    });
}

TEST_P(EveryCrbRegisterOfLocality4, IgnoresSoftware)
{
    for (const bool open : {false, true}) {
        crb = std::make_unique<CrbInterface>(0, true);
        crb->power_on(true);
        locality = kHardwareLocality;
        if (open) {
            activate(kHardwareLocality);
        }
        const Localities before = crb->localities();
        const std::uint64_t value = read(0, 4);
        for (unsigned bit = 0; bit < 32; ++bit) {
            for (const unsigned width : {1U, 2U, 4U, 8U}) {
                EXPECT_FALSE(wishes(crb->write(at(), width, std::uint64_t{1} << bit)));
            }
        }
        EXPECT_EQ(crb->localities(), before);
        EXPECT_EQ(crb->state(), CrbState::kIdle);
        EXPECT_EQ(read(0, 4), value);
        EXPECT_TRUE(crb->established());
    }
}

std::vector<RegSpec> active_only()
{
    std::vector<RegSpec> specs;
    for (const RegSpec &spec : kRegs) {
        if (spec.active_only) {
            specs.push_back(spec);
        }
    }
    return specs;
}

std::string name_of(const testing::TestParamInfo<RegSpec> &test)
{
    return std::string(test.param.name);
}

INSTANTIATE_TEST_SUITE_P(Ptp105, EveryCrbRegister, testing::ValuesIn(kRegs), name_of);
INSTANTIATE_TEST_SUITE_P(Ptp105, EveryCrbRegisterOfTheActiveLocality, testing::ValuesIn(active_only()), name_of);
INSTANTIATE_TEST_SUITE_P(Ptp105, EveryCrbRegisterOfLocality4, testing::ValuesIn(kRegs), name_of);

TEST(CrbMap, EveryOtherOffsetReadsOnesAndTakesNothing)
{
    CrbInterface crb;
    crb.power_on(false);
    (void)crb.write(static_cast<std::uint32_t>(Reg::kLocCtrl), 4, LocCtrl::RequestAccess::kMask);
    unsigned reserved = 0;
    for (std::uint32_t offset = 0; offset < kPageSize; offset += 4) {
        if (find_reg(offset) != nullptr) {
            continue;
        }
        ++reserved;
        EXPECT_EQ(crb.read(offset, 4), 0xffff'ffffU) << offset;
        EXPECT_FALSE(wishes(crb.write(offset, 4, 0xffff'ffff)));
    }
    EXPECT_GT(reserved, 0U);
    EXPECT_EQ(crb.locality(), 0);
    EXPECT_EQ(crb.state(), CrbState::kIdle);
}

TEST(CrbMap, NoAccessLeavesItsPage)
{
    CrbInterface crb;
    crb.power_on(false);
    EXPECT_EQ(crb.read(kPageSize - 1, 2), ~std::uint64_t{0});
    EXPECT_EQ(crb.read(kLocalities * kPageSize, 4), ~std::uint64_t{0});
    EXPECT_EQ(crb.read(0xffff'fffc, 8), ~std::uint64_t{0});
    (void)crb.write(kPageSize - 1, 8, ~std::uint64_t{0});
    (void)crb.write(kPageSize + 5, 8, ~std::uint64_t{0}); // reaches TPM_LOC_CTRL_1, one page alone
    EXPECT_EQ(crb.locality(), 1);
}

TEST(CrbMap, LiesWhereLinuxLooks)
{
    // crb_regs_head and crb_regs_tail of Linux 6.1's tpm_crb: the tail is at the control area of the TPM2 table.
    EXPECT_EQ(static_cast<unsigned>(Reg::kLocCtrl), 8U);
    EXPECT_EQ(static_cast<unsigned>(Reg::kIntfId), 48U);
    EXPECT_EQ(static_cast<unsigned>(Reg::kCtrlReq), 64U);
    EXPECT_EQ(static_cast<unsigned>(Reg::kCtrlRspAddr), 64U + 40U);
    // Buffers that overlap must be equal (crb_map_io), and lie in the window.
    CrbInterface crb;
    crb.power_on(false);
    EXPECT_EQ(crb.read(static_cast<std::uint32_t>(Reg::kCtrlCmdSize), 4),
              crb.read(static_cast<std::uint32_t>(Reg::kCtrlRspSize), 4));
    EXPECT_EQ(crb.read(static_cast<std::uint32_t>(Reg::kCtrlCmdLaddr), 8),
              crb.read(static_cast<std::uint32_t>(Reg::kCtrlRspAddr), 8));
    EXPECT_EQ(crb.read(static_cast<std::uint32_t>(Reg::kCtrlRspAddr), 8), 0xfed4'0080U);
}

} // namespace
} // namespace banyan::vtpm::crb
