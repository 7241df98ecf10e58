// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/acpi.hpp"

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <numeric>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "banyan/arch/boot_info.hpp"
#include "banyan/arch/domain_table.hpp"
#include "tests/unit/tool/fixture.hpp"
#include "tool/plan.hpp"

namespace banyan::tool {
namespace {

using Bytes = std::vector<std::uint8_t>;

template <typename T>
T at(const Bytes &bytes, std::size_t offset)
{
    T value{};
    std::memcpy(&value, bytes.data() + offset, sizeof(value));
    return value;
}

unsigned sum(const Bytes &bytes)
{
    return std::accumulate(bytes.begin(), bytes.end(), 0u) & 0xFF;
}

/// The tables by signature, found as Linux finds them: RSDP, XSDT, FADT.
std::map<std::string, Bytes> tables_of(const Bytes &area)
{
    const auto table = [&](std::uint64_t address) {
        const std::size_t offset = address - boot::kAcpi;
        const auto length = at<std::uint32_t>(area, offset + 4);
        return Bytes(area.begin() + static_cast<std::ptrdiff_t>(offset),
                     area.begin() + static_cast<std::ptrdiff_t>(offset + length));
    };
    std::map<std::string, Bytes> tables;
    const auto take = [&](std::uint64_t address) {
        Bytes bytes = table(address);
        const std::string signature(bytes.begin(), bytes.begin() + 4);
        tables[signature] = std::move(bytes);
    };
    const Bytes rsdp(area.begin(), area.begin() + 36);
    EXPECT_EQ(std::string(rsdp.begin(), rsdp.begin() + 8), "RSD PTR ");
    EXPECT_EQ(sum(rsdp), 0u);
    EXPECT_EQ(sum(Bytes(rsdp.begin(), rsdp.begin() + 20)), 0u);
    take(at<std::uint64_t>(rsdp, 24));
    const Bytes &xsdt = tables.at("XSDT");
    for (std::size_t i = 36; i < xsdt.size(); i += 8) {
        take(at<std::uint64_t>(xsdt, i));
    }
    take(at<std::uint64_t>(tables.at("FACP"), 140));
    return tables;
}

const AcpiInput kInput{3, 3, 0x17FF'0000, 0x1'0000};

TEST(Acpi, TablesAddUpToZero)
{
    for (unsigned domain = 1; domain <= dt::kMaxDomains; ++domain) {
        const auto tables = tables_of(make_acpi({domain, domain, 0x17FF'0000, 0x1'0000}));
        for (const char *signature : {"XSDT", "FACP", "APIC", "MCFG", "TPM2", "DSDT"}) {
            ASSERT_EQ(tables.count(signature), 1u) << signature;
            EXPECT_EQ(sum(tables.at(signature)), 0u) << signature;
        }
    }
}

TEST(Acpi, FitsItsAreaAndIsTheSameEachTime)
{
    const Bytes area = make_acpi(kInput);
    EXPECT_LE(area.size(), boot::kAcpiSize);
    EXPECT_EQ(area, make_acpi(kInput));
}

TEST(Acpi, FadtIsHardwareReducedAndEndsTheVmThroughItsOwnPage)
{
    const Bytes fadt = tables_of(make_acpi(kInput)).at("FACP");
    ASSERT_EQ(fadt.size(), 276u);
    EXPECT_EQ(fadt[8], 6);
    const auto flags = at<std::uint32_t>(fadt, 112);
    EXPECT_TRUE(flags & 1u << 20) << "hardware-reduced";
    EXPECT_TRUE(flags & 1u << 19) << "physical destinations";
    EXPECT_TRUE(flags & 1u << 10) << "reset register";
    struct Place {
        std::size_t offset;
        std::uint32_t own;
    };
    for (const auto [offset, own] :
         {Place{116, dt::own::kReset}, Place{244, dt::own::kSleepControl}, Place{256, dt::own::kSleepStatus}}) {
        EXPECT_EQ(fadt[offset], 0) << "system memory";
        EXPECT_EQ(fadt[offset + 1], 8) << "8 bits";
        EXPECT_EQ(at<std::uint64_t>(fadt, offset + 4), dt::kOwnPageBase + own);
    }
    EXPECT_EQ(fadt[128], dt::own::kResetValue);
}

TEST(Acpi, MadtNamesOneCoreByItsPhysicalId)
{
    const Bytes madt = tables_of(make_acpi(kInput)).at("APIC");
    ASSERT_EQ(madt.size(), 52u);
    EXPECT_EQ(at<std::uint32_t>(madt, 36), dt::kLapicBase);
    EXPECT_EQ(madt[44], 0);
    EXPECT_EQ(madt[45], 8);
    EXPECT_EQ(madt[47], 3) << "APIC id";
    EXPECT_EQ(at<std::uint32_t>(madt, 48), 1u);
}

TEST(Acpi, McfgGivesOneBus)
{
    const Bytes mcfg = tables_of(make_acpi(kInput)).at("MCFG");
    ASSERT_EQ(mcfg.size(), 60u);
    EXPECT_EQ(at<std::uint64_t>(mcfg, 44), layout::kEcam);
    EXPECT_EQ(mcfg[54], 0x13);
    EXPECT_EQ(mcfg[55], 0x13);
}

TEST(Acpi, Tpm2PointsToTheLog)
{
    const Bytes tpm2 = tables_of(make_acpi(kInput)).at("TPM2");
    ASSERT_EQ(tpm2.size(), 76u);
    EXPECT_EQ(tpm2[8], 4);
    EXPECT_EQ(at<std::uint64_t>(tpm2, 40), 0u) << "no control area";
    EXPECT_EQ(at<std::uint32_t>(tpm2, 48), 6u) << "start method TIS";
    EXPECT_EQ(at<std::uint32_t>(tpm2, 64), 0x1'0000u);
    EXPECT_EQ(at<std::uint64_t>(tpm2, 68), 0x17FF'0000u);
}

TEST(Acpi, Tpm2OfACrbPointsToItsControlArea)
{
    AcpiInput input = kInput;
    input.crb = true;
    const Bytes area = make_acpi(input);
    const Bytes tpm2 = tables_of(area).at("TPM2");
    EXPECT_EQ(sum(tpm2), 0u);
    EXPECT_EQ(at<std::uint64_t>(tpm2, 40), 0xFED4'0040u);
    EXPECT_EQ(at<std::uint32_t>(tpm2, 48), 7u) << "start method CRB";
    EXPECT_EQ(at<std::uint64_t>(tpm2, 68), 0x17FF'0000u) << "the log";
    auto others = tables_of(area);
    auto of_a_fifo = tables_of(make_acpi(kInput));
    others.erase("TPM2");
    of_a_fifo.erase("TPM2");
    EXPECT_EQ(others, of_a_fifo);
}

TEST(Acpi, FurtherTpmsAreInAnSsdtAndOtherwiseThereIsNone)
{
    AcpiInput input = kInput;
    EXPECT_EQ(tables_of(make_acpi(input)).count("SSDT"), 0U);
    for (unsigned tpms = 2; tpms <= dt::kVtpmWindows; ++tpms) {
        input.tpms = tpms;
        const Bytes area = make_acpi(input);
        EXPECT_LE(area.size(), boot::kAcpiSize);
        auto tables = tables_of(area);
        ASSERT_EQ(tables.count("SSDT"), 1U);
        for (const auto &[signature, table] : tables) {
            EXPECT_EQ(sum(table), 0U) << signature;
        }
        const Bytes &ssdt = tables.at("SSDT");
        const std::string text(ssdt.begin(), ssdt.end());
        for (unsigned k = 1; k < dt::kVtpmWindows; ++k) {
            EXPECT_EQ(text.find("TPM" + std::to_string(k)) != std::string::npos, k < tpms);
        }
    }
}

/// iasl -d is the oracle: it reads each table and names the fields in it.
class Disassembled : public ::testing::Test {
protected:
    std::string disassemble(const std::string &signature, unsigned domain, unsigned tpms = 1)
    {
        const auto tables = tables_of(make_acpi({domain, domain, 0x17FF'0000, 0x1'0000, tpms}));
        const Bytes &table = tables.at(signature);
        folder_.put("table.aml", {reinterpret_cast<const char *>(table.data()), table.size()});
        const std::string prefix = (folder_.path() / "table").string();
        const int status = std::system(fmt::format("{0} -p {1} -d {1}.aml >{1}.log 2>&1", BANYAN_IASL, prefix).c_str());
        EXPECT_EQ(status, 0);
        std::ifstream in(prefix + ".dsl");
        return {std::istreambuf_iterator<char>(in), {}};
    }

    test::BuildFolder folder_;
};

TEST_F(Disassembled, EveryTableIsUnderstood)
{
    for (const char *signature : {"FACP", "APIC", "MCFG", "TPM2", "DSDT"}) {
        const std::string text = disassemble(signature, 2);
        EXPECT_NE(text.find(fmt::format("\"{}\"", signature)), std::string::npos) << text.substr(0, 500);
        EXPECT_EQ(text.find("Invalid"), std::string::npos) << text;
        EXPECT_EQ(text.find("Incorrect checksum"), std::string::npos) << text;
    }
    const std::string fadt = disassemble("FACP", 2);
    EXPECT_NE(fadt.find("Hardware Reduced (V5) : 1"), std::string::npos) << fadt;
    EXPECT_NE(fadt.find("Use APIC Physical Destination Mode (V4) : 1"), std::string::npos);
}

TEST_F(Disassembled, DsdtHasTheVmsOwnBusWindowAndTpm)
{
    const std::string first = disassemble("DSDT", 1);
    EXPECT_NE(first.find("PNP0A08"), std::string::npos);
    EXPECT_NE(first.find("0xB1100000"), std::string::npos) << "ECAM of bus 0x11";
    EXPECT_NE(first.find("0xC0000000"), std::string::npos);
    EXPECT_NE(first.find("0xC1FFFFFF"), std::string::npos);
    EXPECT_NE(first.find("MSFT0101"), std::string::npos);
    EXPECT_NE(first.find("0xFED40000"), std::string::npos);
    const std::string last = disassemble("DSDT", 15);
    EXPECT_NE(last.find("0xB1F00000"), std::string::npos) << "ECAM of bus 0x1F";
    EXPECT_NE(last.find("0xDC000000"), std::string::npos);
}

TEST_F(Disassembled, SsdtHasAWindowForEachFurtherTpm)
{
    const std::string text = disassemble("SSDT", 1, dt::kVtpmWindows);
    for (const char *address : {"0xFED60000", "0xFED65000", "0xFED6A000", "0xFED6F000", "0xFED74000", "0xFED79000",
                                "0xFED7E000", "0xFED83000"}) {
        EXPECT_NE(text.find(address), std::string::npos) << address;
    }
    EXPECT_EQ(text.find("0xFED88000"), std::string::npos);
    EXPECT_EQ(disassemble("SSDT", 1, 2).find("0xFED65000"), std::string::npos);
}

} // namespace
} // namespace banyan::tool
