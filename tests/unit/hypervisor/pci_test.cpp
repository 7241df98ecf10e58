// SPDX-License-Identifier: GPL-2.0-or-later
#include "hypervisor/pci.hpp"

#include <gtest/gtest.h>

#include "tests/unit/hypervisor/fake_machine.hpp"

namespace banyan::hv::test {
namespace {

constexpr std::uint32_t kPort1 = 4 << 3;
constexpr std::uint32_t kPort2 = 5 << 3;

std::uint32_t word(const FakeMachine &machine, std::uint32_t function, std::uint32_t reg)
{
    return machine.functions.at(function)[reg >> 2];
}

TEST(TakingPciOver, ShutsEveryBridge)
{
    FakeMachine machine;
    add_pci(machine);
    Pci pci{machine};
    pci.take_over();
    for (const std::uint32_t port : {kPort1, kPort2}) {
        EXPECT_EQ(word(machine, port, pci::kCommand), 0u);
        EXPECT_EQ(word(machine, port, pci::kBuses), 0u);
        EXPECT_EQ(word(machine, port, pci::kMemory), 0xFFF0u);
        EXPECT_EQ(word(machine, port, pci::kPrefetch), 0xFFF0u);
        EXPECT_EQ(word(machine, port, pci::kIo), 0x00F0u);
    }
}

TEST(TakingPciOver, LeavesNoBusMasterOnBusZero)
{
    FakeMachine machine;
    add_pci(machine);
    Pci pci{machine};
    pci.take_over();
    EXPECT_EQ(word(machine, 0xFA, pci::kCommand), 3u);
}

TEST(TakingPciOver, PutsEcamWhereDescriptorsExpectIt)
{
    FakeMachine machine;
    add_pci(machine);
    Pci pci{machine};
    pci.take_over();
    EXPECT_EQ(word(machine, 0, pci::kEcamRegister), 0xB000'0001u);
    EXPECT_EQ(word(machine, 0, pci::kEcamRegister + 4), 0u);
}

TEST(ARootPort, GetsTheNumbersOfItsDescriptor)
{
    FakeMachine machine;
    add_pci(machine);
    Pci pci{machine};
    pci.take_over();
    pci.assign(good_request(1).descriptor);
    EXPECT_EQ(word(machine, kPort1, pci::kBuses), 0x0011'1100u);
    EXPECT_EQ(word(machine, kPort1, pci::kMemory), 0xC3F0'C200u); // [C2000000, C4000000)
    EXPECT_EQ(word(machine, kPort1, pci::kPrefetch), 0xFFF0u);
    EXPECT_EQ(word(machine, kPort1, pci::kIo), 0x00F0u);
    EXPECT_EQ(word(machine, kPort1, pci::kCommand), 7u);
    EXPECT_EQ(machine.secondary_resets, std::vector<std::uint8_t>{kPort1});
    EXPECT_EQ(word(machine, kPort1, pci::kBridgeControl) & pci::kSecondaryReset, 0u);
}

TEST(ARootPort, LosesWhatItsFunctionsHad)
{
    FakeMachine machine;
    add_pci(machine);
    Pci pci{machine};
    pci.take_over();
    pci.assign(good_request(1).descriptor);
    for (const std::uint32_t function : {0x1100u, 0x1101u}) {
        EXPECT_EQ(word(machine, function, pci::kCommand), 0u);
        for (std::uint32_t bar = 0; bar < 6; ++bar) {
            EXPECT_EQ(word(machine, function, pci::kFirstBar + 4 * bar), 0u);
        }
        EXPECT_EQ(word(machine, function, pci::kExpansionRom), 0u);
    }
}

TEST(ARootPort, OfAnotherDomainIsNotTouched)
{
    FakeMachine machine;
    add_pci(machine);
    Pci pci{machine};
    pci.take_over();
    pci.assign(good_request(1).descriptor);
    auto before = machine.functions;
    pci.assign(good_request(2).descriptor);
    for (const std::uint32_t function : {kPort1, 0x1100u, 0x1101u, 0u, 0xFAu}) {
        EXPECT_EQ(machine.functions[function], before[function]) << function;
    }
}

TEST(ARootPort, WithoutAWindowOfItsOwnForwardsNothing)
{
    FakeMachine machine;
    add_pci(machine);
    Pci pci{machine};
    pci.take_over();
    dt::Descriptor d = good_request(1).descriptor;
    d.root_port_count = 2;
    d.root_ports[1] = {kPort2, 0x12, {}};
    pci.assign(d);
    EXPECT_EQ(word(machine, kPort1, pci::kMemory), 0xC3F0'C200u);
    EXPECT_EQ(word(machine, kPort2, pci::kMemory), 0xFFF0u);
}

TEST(Bridges, AreToldFromOtherFunctions)
{
    FakeMachine machine;
    add_pci(machine);
    Pci pci{machine};
    EXPECT_TRUE(pci.is_bridge(kPort1));
    EXPECT_FALSE(pci.is_bridge(0xFA));
    EXPECT_FALSE(pci.is_bridge(0x18));
}

} // namespace
} // namespace banyan::hv::test
