// SPDX-License-Identifier: GPL-2.0-or-later
#include "guest/loader/pci_reset.hpp"

#include <array>
#include <cstring>
#include <map>

#include <gtest/gtest.h>

namespace banyan::loader {
namespace {

constexpr std::uint8_t kBus = 0x11;
constexpr std::uint32_t kExpressAt = 0x84;

/// Configuration space of one function with an MSI-X and a PCI Express capability.
struct Function {
    std::array<std::uint8_t, 256> bytes{};
    unsigned resets = 0;
    unsigned pending = 0; // looks until its transactions have ended
    bool stays_master = false;
    bool stays_away = false;
    bool gone = false;

    Function()
    {
        set16(pci::kVendor, 0x1AF4);
        set16(pci::kCommand, 0x0406); // as a driver leaves it: memory space, bus master
        set16(pci::kStatus, pci::kHasCapabilities);
        bytes[pci::kCapabilities] = 0x98;
        bytes[0x98] = 0x11;
        bytes[0x99] = kExpressAt;
        bytes[kExpressAt] = pci::kExpress;
        bytes[kExpressAt + pci::kDeviceCapabilities + 3] = pci::kCanReset >> 24;
    }
    void set16(std::uint32_t offset, std::uint16_t value) { std::memcpy(&bytes[offset], &value, 2); }
    std::uint16_t get16(std::uint32_t offset) const
    {
        std::uint16_t value = 0;
        std::memcpy(&value, &bytes[offset], 2);
        return value;
    }
};

struct Bus {
    std::map<unsigned, Function> functions;
    unsigned pauses = 0;

    Function *find(std::uint8_t bus, std::uint8_t devfn)
    {
        const auto found = functions.find(devfn);
        return bus != kBus || found == functions.end() || found->second.gone ? nullptr : &found->second;
    }
    std::uint8_t read8(std::uint8_t bus, std::uint8_t devfn, std::uint32_t offset)
    {
        const Function *f = find(bus, devfn);
        return f ? f->bytes.at(offset) : 0xFF;
    }
    std::uint16_t read16(std::uint8_t bus, std::uint8_t devfn, std::uint32_t offset)
    {
        Function *f = find(bus, devfn);
        if (f && offset == kExpressAt + pci::kDeviceStatus && f->pending != 0) {
            --f->pending;
            return pci::kTransactionsPending;
        }
        return f ? f->get16(offset) : 0xFFFF;
    }
    std::uint32_t read32(std::uint8_t bus, std::uint8_t devfn, std::uint32_t offset)
    {
        return read16(bus, devfn, offset) | std::uint32_t{read16(bus, devfn, offset + 2)} << 16;
    }
    void write16(std::uint8_t bus, std::uint8_t devfn, std::uint32_t offset, std::uint16_t value)
    {
        Function *f = find(bus, devfn);
        ASSERT_NE(f, nullptr);
        if (offset == kExpressAt + pci::kDeviceControl && (value & pci::kInitiateReset) != 0) {
            EXPECT_EQ(f->pending, 0u);
            ++f->resets;
            f->set16(pci::kCommand, f->stays_master ? pci::kBusMaster : 0);
            f->gone = f->stays_away;
            return;
        }
        f->set16(offset, value);
    }
    void pause() { ++pauses; }
};

TEST(PciReset, ResetsEveryFunctionOfTheBus)
{
    Bus bus;
    bus.functions[0];
    bus.functions[1].pending = 5;
    bus.functions[0xFF];
    unsigned count = 0;
    ASSERT_EQ(PciReset(bus, 100).reset_bus(kBus, count), PciFault::kNone);
    EXPECT_EQ(count, 3u);
    for (const auto &[devfn, function] : bus.functions) {
        EXPECT_EQ(function.resets, 1u) << devfn;
        EXPECT_EQ(function.get16(pci::kCommand), 0) << devfn;
    }
}

TEST(PciReset, AnEmptyBusIsFine)
{
    Bus bus;
    unsigned count = 0;
    EXPECT_EQ(PciReset(bus, 100).reset_bus(kBus, count), PciFault::kNone);
    EXPECT_EQ(count, 0u);
}

struct Stubborn {
    const char *name;
    PciFault expected;
    void (*breaks)(Function &);
};

const Stubborn kStubborn[] = {
    {"bridge", PciFault::kBridge, [](Function &f) { f.bytes[pci::kHeaderType] = 0x81; }},
    {"no_capabilities", PciFault::kNoReset, [](Function &f) { f.set16(pci::kStatus, 0); }},
    {"no_express", PciFault::kNoReset, [](Function &f) { f.bytes[kExpressAt] = 5; }},
    {"capabilities_in_a_ring", PciFault::kNoReset, [](Function &f) { f.bytes[0x99] = 0x98; }},
    {"capabilities_in_the_header", PciFault::kNoReset, [](Function &f) { f.bytes[pci::kCapabilities] = 0x10; }},
    {"no_reset", PciFault::kNoReset, [](Function &f) { f.bytes[kExpressAt + 7] = 0; }},
    {"pending_for_ever", PciFault::kPending, [](Function &f) { f.pending = 1000; }},
    {"stays_bus_master", PciFault::kNotReset, [](Function &f) { f.stays_master = true; }},
    {"stays_away", PciFault::kNotReset, [](Function &f) { f.stays_away = true; }},
};

class EveryStubbornFunction : public testing::TestWithParam<Stubborn> {};

TEST_P(EveryStubbornFunction, IsReportedWithinTheBound)
{
    Bus bus;
    bus.functions[0];
    GetParam().breaks(bus.functions[1]);
    unsigned count = 0;
    EXPECT_STREQ(describe(PciReset(bus, 100).reset_bus(kBus, count)), describe(GetParam().expected));
    EXPECT_LE(bus.pauses, 200u);
}

INSTANTIATE_TEST_SUITE_P(Table, EveryStubbornFunction, testing::ValuesIn(kStubborn),
                         [](const auto &param) { return std::string(param.param.name); });

} // namespace
} // namespace banyan::loader
