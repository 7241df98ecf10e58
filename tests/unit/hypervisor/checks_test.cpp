// SPDX-License-Identifier: GPL-2.0-or-later
#include "hypervisor/checks.hpp"

#include <cstring>
#include <functional>
#include <string>

#include <gtest/gtest.h>

#include "tests/unit/hypervisor/fake_machine.hpp"

namespace banyan::hv::test {
namespace {

using mgmt::CreateRequest;
using mgmt::Result;

struct Case {
    std::string name;
    Result result;
    std::function<void(CreateRequest &)> change;
};

Result check(const CreateRequest &request)
{
    return check_create(request, good_modules(), kHypervisor);
}

const Case kCases[] = {
    {"DomainZero", Result::kBadField, [](auto &r) { r.domain = 0; }},
    {"DomainPastTheLast", Result::kBadField, [](auto &r) { r.domain = dt::kMaxDomains + 1; }},
    {"TooManyPlacements", Result::kBadField, [](auto &r) { r.placement_count = mgmt::kMaxPlacements + 1; }},
    {"HugePlacementCount", Result::kBadField, [](auto &r) { r.placement_count = ~0u; }},
    {"NoNonce", Result::kBadField, [](auto &r) { r.nonce_size = 0; }},
    {"NonceTooLong", Result::kBadField, [](auto &r) { r.nonce_size = 65; }},
    {"BytesBehindTheNonce", Result::kBadField, [](auto &r) { r.nonce[r.nonce_size] = 1; }},
    {"Reserved", Result::kBadField, [](auto &r) { r.reserved = 1; }},
    {"UnusedPlacement", Result::kBadField, [](auto &r) { r.placements[15].gpa = 1; }},

    {"Magic", Result::kBadField, [](auto &r) { ++r.descriptor.magic; }},
    {"Version", Result::kBadField, [](auto &r) { ++r.descriptor.version; }},
    {"Size", Result::kBadField, [](auto &r) { --r.descriptor.size; }},
    {"EmptyName", Result::kBadField, [](auto &r) { std::memset(r.descriptor.name, 0, 32); }},
    {"NameWithoutEnd", Result::kBadField, [](auto &r) { std::memset(r.descriptor.name, 'a', 32); }},
    {"NameWithCapital", Result::kBadField, [](auto &r) { r.descriptor.name[0] = 'V'; }},
    {"NameWithTail", Result::kBadField, [](auto &r) { r.descriptor.name[31] = 'x'; }},
    {"NoCores", Result::kBadField, [](auto &r) { r.descriptor.core_mask = 0; }},
    {"CoreZero", Result::kBadField, [](auto &r) { r.descriptor.core_mask |= 1; }},
    {"BootCoreOutside", Result::kBadField, [](auto &r) { r.descriptor.boot_core = 2; }},
    {"BootCorePastTheLast", Result::kBadField, [](auto &r) { r.descriptor.boot_core = 65; }},
    {"InstanceOfTheHost", Result::kBadField, [](auto &r) { r.descriptor.vtpm_instance = 0; }},
    {"InstanceTwice", Result::kBadField, [](auto &r) { r.descriptor.further_vtpms[0] = r.descriptor.vtpm_instance; }},
    {"InstancesWithAGap", Result::kBadField, [](auto &r) { r.descriptor.further_vtpms[1] = 21; }},
    {"UnknownFlag", Result::kBadField, [](auto &r) { r.descriptor.flags = 0x8000'0000; }},
    {"MsrProfile", Result::kBadField, [](auto &r) { r.descriptor.msr_profile = 0; }},
    {"PortProfile", Result::kBadField, [](auto &r) { r.descriptor.port_profile = 2; }},

    {"NoRange", Result::kBadField, [](auto &r) { r.descriptor.range_count = 0; }},
    {"TooManyRanges", Result::kBadField, [](auto &r) { r.descriptor.range_count = dt::kMaxRanges + 1; }},
    {"UnusedRange", Result::kBadField, [](auto &r) { r.descriptor.ranges[3].hpa = 1; }},
    {"EmptyRange", Result::kBadField, [](auto &r) { r.descriptor.ranges[1].size = 0; }},
    {"RangeGpaOddly", Result::kBadField, [](auto &r) { r.descriptor.ranges[1].gpa += 8; }},
    {"RangeHpaOddly", Result::kBadField, [](auto &r) { r.descriptor.ranges[1].hpa += 8; }},
    {"RangeSizeOddly", Result::kBadField, [](auto &r) { r.descriptor.ranges[1].size += 8; }},
    {"RangesDescend", Result::kBadField, [](auto &r) { std::swap(r.descriptor.ranges[0], r.descriptor.ranges[1]); }},
    {"RangesOverlapInTheGuest", Result::kBadField, [](auto &r) { r.descriptor.ranges[1].gpa = 0x9'F000; }},
    {"RangesShareMemory", Result::kBadField,
     [](auto &r) { r.descriptor.ranges[0].hpa = r.descriptor.ranges[1].hpa + kMib; }},
    {"RangeWraps", Result::kBadField, [](auto &r) { r.descriptor.ranges[1].hpa = ~0xFFFull; }},
    {"RangeSizeWraps", Result::kBadField, [](auto &r) { r.descriptor.ranges[1].size = ~0xFFFull; }},
    {"GuestAddressWraps", Result::kBadField, [](auto &r) { r.descriptor.ranges[1].gpa = ~0xFFFull; }},
    {"RangeIsFirmware", Result::kBadField, [](auto &r) { r.descriptor.ranges[0].hpa = 0; }},
    {"RangeIsTheControlWindow", Result::kBadField, [](auto &r) { r.descriptor.ranges[1].hpa = dt::kControlBase; }},
    {"RangeRunsIntoMmio", Result::kBadField, [](auto &r) { r.descriptor.ranges[1].hpa = kRamHole - kMib; }},
    {"RangePastTheMap", Result::kBadField, [](auto &r) { r.descriptor.ranges[1].hpa = kMapEnd - kMib; }},

    {"TooManyWindows", Result::kBadField, [](auto &r) { r.descriptor.window_count = dt::kMaxWindows + 1; }},
    {"UnusedWindow", Result::kBadField, [](auto &r) { r.descriptor.windows[2].size = 1; }},
    {"EmptyWindow", Result::kBadField, [](auto &r) { r.descriptor.windows[1].size = 0; }},
    {"WindowOddly", Result::kBadField, [](auto &r) { r.descriptor.windows[1].size -= 0x1000; }},
    {"WindowIsRam", Result::kBadField, [](auto &r) { r.descriptor.windows[1].base = 0x2000'0000; }},
    {"WindowIsTheLapic", Result::kBadField,
     [](auto &r) {
         r.descriptor.windows[1] = {dt::kLapicBase, kMib};
     }},
    {"WindowIsTheControlWindow", Result::kBadField,
     [](auto &r) {
         r.descriptor.windows[1] = {dt::kControlBase & ~(kMib - 1), kMib};
     }},
    {"WindowWraps", Result::kBadField, [](auto &r) { r.descriptor.windows[1].size = 0 - kMib; }},
    {"EcamOfAnotherBus", Result::kBadField, [](auto &r) { r.descriptor.windows[0].base += kMib; }},
    {"EcamOfBusZero", Result::kBadField, [](auto &r) { r.descriptor.windows[0].base = kEcam; }},
    {"EcamOfTwoBuses", Result::kBadField, [](auto &r) { r.descriptor.windows[0].size = 2 * kMib; }},
    {"WindowsOverlap", Result::kBadField,
     [](auto &r) {
         r.descriptor.window_count = 3;
         r.descriptor.windows[2] = r.descriptor.windows[1];
     }},
    {"MoreWindowsThanRootPorts", Result::kBadField,
     [](auto &r) {
         r.descriptor.window_count = 3;
         r.descriptor.windows[2] = {0xE000'0000, kMib};
     }},

    {"TooManyRootPorts", Result::kBadField, [](auto &r) { r.descriptor.root_port_count = 5; }},
    {"UnusedRootPort", Result::kBadField, [](auto &r) { r.descriptor.root_ports[1].devfn = 1; }},
    {"RootPortIsTheHostBridge", Result::kBadField, [](auto &r) { r.descriptor.root_ports[0].devfn = 0; }},
    {"RootPortReserved", Result::kBadField, [](auto &r) { r.descriptor.root_ports[0].reserved[5] = 1; }},
    {"RootPortTwice", Result::kBadField,
     [](auto &r) {
         r.descriptor.root_port_count = 2;
         r.descriptor.root_ports[1] = {r.descriptor.root_ports[0].devfn, 0x20, {}};
     }},
    {"BusTwice", Result::kBadField,
     [](auto &r) {
         r.descriptor.root_port_count = 2;
         r.descriptor.root_ports[1] = {0x40, r.descriptor.root_ports[0].secondary, {}};
     }},

    {"TooManyPorts", Result::kBadField, [](auto &r) { r.descriptor.port_count = dt::kMaxPorts + 1; }},
    {"UnusedPort", Result::kBadField, [](auto &r) { r.descriptor.ports[15].value = 1; }},
    {"PortsBackwards", Result::kBadField, [](auto &r) { r.descriptor.ports[0].last = 0x2F7; }},
    {"PortAction", Result::kBadField, [](auto &r) { r.descriptor.ports[0].action = dt::PortAction{2}; }},
    {"PortReserved", Result::kBadField, [](auto &r) { r.descriptor.ports[0].reserved[1] = 1; }},
    {"PortOfManagement", Result::kBadField, [](auto &r) { r.descriptor.ports[0].last = 0x3F8; }},
    {"PortOfFwCfg", Result::kBadField,
     [](auto &r) {
         r.descriptor.ports[0] = {0x514, 0x514, dt::PortAction::kAllow, 0, {}};
     }},
    {"PortOfPci", Result::kBadField,
     [](auto &r) {
         r.descriptor.ports[0] = {0, 0xFFFF, dt::PortAction::kAllow, 0, {}};
     }},

    {"TooManyMsrs", Result::kBadField, [](auto &r) { r.descriptor.msr_count = dt::kMaxMsrs + 1; }},
    {"UnusedMsr", Result::kBadField, [](auto &r) { r.descriptor.msrs[15].msr = 1; }},
    {"MsrAction", Result::kBadField, [](auto &r) { r.descriptor.msrs[0].action = dt::MsrAction{3}; }},
    {"MsrReserved", Result::kBadField, [](auto &r) { r.descriptor.msrs[0].reserved[0] = 1; }},

    {"RamOfTheHypervisor", Result::kRefused, [](auto &r) { r.descriptor.ranges[0].hpa = kHypervisor.base; }},
    {"RamOfAModule", Result::kRefused, [](auto &r) { r.descriptor.ranges[0].hpa = 8 * kMib + 0x1000; }},

    {"NoSuchModule", Result::kNoModule, [](auto &r) { std::strcpy(r.placements[0].module, "kernel2"); }},
    {"NameOfAModuleWithTail", Result::kNoModule, [](auto &r) { r.placements[0].module[31] = 1; }},
    {"NoModuleName", Result::kNoModule, [](auto &r) { r.placements[0].module[0] = 0; }},
    {"PlacedInTheLegacyHole", Result::kNoMemory, [](auto &r) { r.placements[0].gpa = 0xA'0000; }},
    {"PlacedAcrossTheEnd", Result::kNoMemory, [](auto &r) { r.placements[0].gpa = 256 * kMib - 99'999; }},
    {"PlacedAcrossTwoRanges", Result::kNoMemory, [](auto &r) { r.placements[0].gpa = 0x9'0000; }},
    {"PlacementWraps", Result::kNoMemory, [](auto &r) { r.placements[0].gpa = ~0ull - 5; }},
    {"PlacementsOverlap", Result::kBadField, [](auto &r) { r.placements[1].gpa = r.placements[0].gpa + 99'999; }},
    {"PlacementsOverlapBackwards", Result::kBadField, [](auto &r) { r.placements[1].gpa = r.placements[0].gpa - 1; }},
};

class EveryBadCreateRequest : public testing::TestWithParam<Case> {};

TEST_P(EveryBadCreateRequest, IsRefused)
{
    CreateRequest request = good_request();
    GetParam().change(request);
    EXPECT_EQ(check(request), GetParam().result);
}

INSTANTIATE_TEST_SUITE_P(, EveryBadCreateRequest, testing::ValuesIn(kCases),
                         [](const auto &one) { return one.param.name; });

TEST(CreateRequest, IsAcceptedWhenGood)
{
    for (std::uint32_t domain = 1; domain <= dt::kMaxDomains / 2; ++domain) {
        EXPECT_EQ(check(good_request(domain)), Result::kOk) << domain;
    }
}

TEST(CreateRequest, MayPlaceUpToTheLastByte)
{
    CreateRequest request = good_request();
    request.placements[0].gpa = 256 * kMib - 100'000;
    EXPECT_EQ(check(request), Result::kOk);
    request.placements[1].gpa = kMib;
    EXPECT_EQ(check(request), Result::kOk);
}

TEST(CreateRequest, MayPlaceSideBySide)
{
    CreateRequest request = good_request();
    request.placements[1].gpa = request.placements[0].gpa + 100'000;
    EXPECT_EQ(check(request), Result::kOk);
}

TEST(CreateRequest, MayUseMemoryAboveFourGib)
{
    CreateRequest request = good_request();
    request.descriptor.ranges[1].hpa = kRamHoleEnd;
    EXPECT_EQ(check(request), Result::kOk);
}

TEST(CreateRequest, MayDenyAnyPort)
{
    CreateRequest request = good_request();
    request.descriptor.ports[0] = {0, 0xFFFF, dt::PortAction::kDeny, 0xFF, {}};
    EXPECT_EQ(check(request), Result::kOk);
}

TEST(HostAddress, FollowsTheRange)
{
    const dt::Descriptor d = good_request().descriptor;
    EXPECT_EQ(host_address(d, 0, 0xA'0000), d.ranges[0].hpa);
    EXPECT_EQ(host_address(d, kMib + 5, 1), d.ranges[1].hpa + 5);
    EXPECT_EQ(host_address(d, 0, 0xA'0001), 0u);
}

} // namespace
} // namespace banyan::hv::test
