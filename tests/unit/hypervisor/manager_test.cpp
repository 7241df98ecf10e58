// SPDX-License-Identifier: GPL-2.0-or-later
#include "hypervisor/manager.hpp"

#include <cstring>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "tests/unit/hypervisor/fake_machine.hpp"

namespace banyan::hv::test {
namespace {

using mgmt::Result;
using mgmt::Type;

class Requests : public testing::Test {
protected:
    Requests() : modules{good_modules()}
    {
        add_pci(machine);
        for (std::size_t m = 0; m < modules.count; ++m) {
            std::vector<std::uint8_t> bytes(modules.module[m].extent.size);
            std::iota(bytes.begin(), bytes.end(), static_cast<std::uint8_t>(m));
            machine.write_memory(modules.module[m].extent.base, bytes.data(), bytes.size());
        }
        manager.emplace(machine, modules, kHypervisor);
        machine.changes = 0;
    }

    /// The whole way: bytes on the line, a response on the line.
    Result ask(const Frame &request)
    {
        const std::vector<std::uint8_t> bytes = bytes_of(request);
        machine.line.insert(machine.line.end(), bytes.begin(), bytes.end());
        Channel channel{machine};
        machine.sent.clear();
        const bool valid = channel.receive(frame);
        manager->handle(frame, valid);
        channel.send(frame);
        EXPECT_EQ(machine.sent, bytes_of(frame));
        EXPECT_EQ(frame.header.crc, frame_crc(frame));
        return Result{frame.header.result};
    }

    template <typename T>
    Result ask(Type type, const T &payload)
    {
        return ask(request_frame(type, &payload, sizeof payload));
    }

    Result create(std::uint32_t domain) { return ask(Type::kCreate, good_request(domain)); }
    Result start(std::uint64_t mask) { return ask(Type::kStart, mgmt::StartRequest{mask}); }
    Result stop(std::uint32_t domain) { return ask(Type::kStop, mgmt::DomainRequest{domain, 0}); }
    Result remove(std::uint32_t domain, std::uint32_t erase = 0)
    {
        return ask(Type::kDelete, mgmt::DomainRequest{domain, erase});
    }
    mgmt::StatusResponse status()
    {
        EXPECT_EQ(ask(request_frame(Type::kStatus)), Result::kOk);
        EXPECT_EQ(frame.header.length, sizeof(mgmt::StatusResponse));
        return frame.as<mgmt::StatusResponse>();
    }
    dt::State state(std::uint32_t domain) { return machine.domains[domain].state; }
    dt::Status detail() { return dt::Status{frame.header.detail}; }

    FakeMachine machine;
    Modules modules;
    std::optional<Manager<FakeMachine>> manager;
    Frame frame{};
};

TEST_F(Requests, OfUnknownTypeChangeNothing)
{
    for (const unsigned type : {0u, 6u, 7u, 0x8001u, 0xFFFFu}) {
        EXPECT_EQ(ask(request_frame(Type{static_cast<std::uint16_t>(type)})), Result::kUnknown) << type;
        EXPECT_EQ(frame.header.type, type | mgmt::kResponse);
        EXPECT_EQ(frame.header.sequence, 77u);
    }
    EXPECT_EQ(machine.changes, 0u);
}

TEST_F(Requests, WithAWrongCrcChangeNothing)
{
    const mgmt::CreateRequest request = good_request();
    Frame bad = request_frame(Type::kCreate, &request, sizeof request);
    bad.payload[100] ^= 1;
    EXPECT_EQ(ask(bad), Result::kBadFrame);
    EXPECT_EQ(frame.header.length, 0u);
    EXPECT_EQ(machine.changes, 0u);
}

TEST_F(Requests, OfAWrongLengthChangeNothing)
{
    const mgmt::CreateRequest request = good_request();
    std::uint8_t payload[sizeof request + 1]{};
    std::memcpy(payload, &request, sizeof request);
    for (const Type type : {Type::kCreate, Type::kDelete, Type::kStart, Type::kStop, Type::kStatus}) {
        for (const std::size_t size : {std::size_t{1}, std::size_t{7}, sizeof request - 1, sizeof request + 1}) {
            EXPECT_EQ(ask(request_frame(type, payload, size)), Result::kBadFrame);
        }
    }
    EXPECT_EQ(ask(request_frame(Type::kCreate)), Result::kBadFrame);
    EXPECT_EQ(machine.changes, 0u);
}

TEST_F(Requests, WithoutADomainTableAreRefused)
{
    machine.has_table = false;
    EXPECT_EQ(create(1), Result::kRefused);
    EXPECT_EQ(detail(), dt::Status::kBadDomain);
    EXPECT_EQ(start(2), Result::kRefused);
    EXPECT_EQ(stop(1), Result::kRefused);
    EXPECT_EQ(remove(1), Result::kRefused);
    EXPECT_EQ(ask(request_frame(Type::kStatus)), Result::kRefused);
    EXPECT_EQ(machine.changes, 0u);
}

// ---- create

TEST_F(Requests, CreateBuildsSealsAndReturnsTheReceipt)
{
    const mgmt::CreateRequest request = good_request(1);
    ASSERT_EQ(create(1), Result::kOk);
    EXPECT_EQ(frame.header.length, 21u);
    EXPECT_EQ(frame.payload[0], 'R');
    EXPECT_EQ(std::memcmp(frame.payload + 1, request.nonce, 20), 0);
    EXPECT_EQ(state(1), dt::State::kSealed);
    const dt::Descriptor sealed = machine.descriptor(1);
    EXPECT_EQ(std::memcmp(&sealed, &request.descriptor, sizeof sealed), 0);
    EXPECT_EQ(machine.functions[4 << 3][pci::kCommand >> 2], 7u);
    for (std::size_t m = 0; m < modules.count; ++m) {
        const std::uint64_t at = host_address(request.descriptor, request.placements[m].gpa, 1);
        EXPECT_EQ(machine.memory(at, modules.module[m].extent.size),
                  machine.memory(modules.module[m].extent.base, modules.module[m].extent.size));
    }
}

TEST_F(Requests, CreateWaitsWhileTheTableIsBusy)
{
    machine.busy_ticks = 50;
    EXPECT_EQ(create(1), Result::kOk);
    EXPECT_GE(machine.ticks, 100u);
}

TEST_F(Requests, CreateGivesUpOnATableThatStaysBusy)
{
    machine.busy_ticks = ~0u;
    EXPECT_EQ(create(1), Result::kRefused);
    EXPECT_EQ(detail(), dt::Status::kBusy);
}

TEST_F(Requests, CreateOfATakenDomainChangesNothing)
{
    ASSERT_EQ(create(1), Result::kOk);
    const auto functions = machine.functions;
    mgmt::CreateRequest again = good_request(1);
    again.descriptor.vtpm_instance = 9;
    EXPECT_EQ(ask(Type::kCreate, again), Result::kBadState);
    EXPECT_EQ(machine.functions, functions);
    EXPECT_EQ(state(1), dt::State::kSealed);
    EXPECT_EQ(machine.descriptor(1).vtpm_instance, 1u);
}

TEST_F(Requests, CreateOfABadDescriptorChangesNothing)
{
    mgmt::CreateRequest request = good_request(1);
    request.descriptor.core_mask |= 1;
    EXPECT_EQ(ask(Type::kCreate, request), Result::kBadField);
    request = good_request(1);
    request.descriptor.root_ports[0].devfn = 0xFA; // no bridge
    EXPECT_EQ(ask(Type::kCreate, request), Result::kBadField);
    request.descriptor.root_ports[0].devfn = 0x19; // nothing
    EXPECT_EQ(ask(Type::kCreate, request), Result::kBadField);
    EXPECT_EQ(machine.changes, 0u);
}

TEST_F(Requests, CreateOnTheHypervisorsMemoryIsRefused)
{
    mgmt::CreateRequest request = good_request(1);
    request.descriptor.ranges[0].hpa = kHypervisor.base;
    EXPECT_EQ(ask(Type::kCreate, request), Result::kRefused);
    EXPECT_EQ(detail(), dt::Status::kOverlap);
    EXPECT_EQ(machine.changes, 0u);
}

TEST_F(Requests, CreateWithAnothersBridgeBusOrWindowChangesNothing)
{
    ASSERT_EQ(create(1), Result::kOk);
    machine.changes = 0;
    const dt::Descriptor theirs = good_request(1).descriptor;
    mgmt::CreateRequest port = good_request(2);
    port.descriptor.root_ports[0].devfn = theirs.root_ports[0].devfn;
    EXPECT_EQ(ask(Type::kCreate, port), Result::kRefused);
    EXPECT_EQ(detail(), dt::Status::kOverlap);
    mgmt::CreateRequest bus = good_request(2);
    bus.descriptor.root_ports[0].secondary = theirs.root_ports[0].secondary;
    bus.descriptor.windows[0] = theirs.windows[0];
    EXPECT_EQ(ask(Type::kCreate, bus), Result::kRefused);
    mgmt::CreateRequest window = good_request(2);
    window.descriptor.windows[1] = {theirs.windows[1].base + 31 * kMib, 2 * kMib};
    EXPECT_EQ(ask(Type::kCreate, window), Result::kRefused);
    EXPECT_EQ(machine.changes, 0u);
    EXPECT_EQ(create(2), Result::kOk);
}

TEST_F(Requests, CreateThatTheTableRefusesLeavesTheDomainEmpty)
{
    for (const dt::Status why : {dt::Status::kBadDescriptor, dt::Status::kOverlap, dt::Status::kNoInstance}) {
        machine.seal_status = why;
        EXPECT_EQ(create(1), Result::kRefused);
        EXPECT_EQ(detail(), why);
        EXPECT_EQ(state(1), dt::State::kEmpty);
    }
    machine.seal_status = dt::Status::kOk;
    EXPECT_EQ(create(1), Result::kOk);
}

TEST_F(Requests, CreateWithoutAReceiptLeavesTheDomainEmpty)
{
    machine.receipt_outcome = dt::ReportStatus::kFailed;
    EXPECT_EQ(create(1), Result::kRefused);
    EXPECT_EQ(state(1), dt::State::kEmpty);
}

// ---- start

TEST_F(Requests, StartBringsEveryCoreInAndOpensTheGatesAtOnce)
{
    ASSERT_EQ(create(1), Result::kOk);
    ASSERT_EQ(create(2), Result::kOk);
    ASSERT_EQ(create(3), Result::kOk);
    ASSERT_EQ(start(1u << 1 | 1u << 3), Result::kOk);
    EXPECT_EQ(machine.started_cores, (std::vector<std::uint32_t>{1, 3}));
    EXPECT_EQ(machine.gate_writes, std::vector<std::uint64_t>{1u << 1 | 1u << 3});
    EXPECT_EQ(state(1), dt::State::kRunning);
    EXPECT_EQ(state(2), dt::State::kSealed);
    EXPECT_EQ(state(3), dt::State::kRunning);
}

TEST_F(Requests, StartBringsTheBootCoreInLast)
{
    mgmt::CreateRequest request = good_request(1);
    request.descriptor.core_mask = 0x8000'0000'0000'0016;
    request.descriptor.boot_core = 2;
    ASSERT_EQ(ask(Type::kCreate, request), Result::kOk);
    ASSERT_EQ(start(2), Result::kOk);
    EXPECT_EQ(machine.started_cores, (std::vector<std::uint32_t>{1, 4, 63, 2}));
}

TEST_F(Requests, StartSendsInitOnlyToCoresThatRanBefore)
{
    ASSERT_EQ(create(1), Result::kOk);
    ASSERT_EQ(start(2), Result::kOk);
    EXPECT_TRUE(machine.reset_cores.empty());
    ASSERT_EQ(stop(1), Result::kOk);
    ASSERT_EQ(remove(1), Result::kOk);
    machine.mailbox(1).phase = Phase::kLeft;
    ASSERT_EQ(create(1), Result::kOk);
    ASSERT_EQ(start(2), Result::kOk);
    EXPECT_EQ(machine.reset_cores, std::vector<std::uint32_t>{1});
}

TEST_F(Requests, StartOfABadMaskChangesNothing)
{
    ASSERT_EQ(create(1), Result::kOk);
    machine.changes = 0;
    for (const std::uint64_t mask : {0ull, 1ull, 3ull, 1ull << 16 | 2, 1ull << 63 | 2}) {
        EXPECT_EQ(start(mask), Result::kBadField) << mask;
    }
    EXPECT_EQ(start(2 | 4), Result::kBadState); // domain 2 is empty
    EXPECT_EQ(machine.changes, 0u);
    ASSERT_EQ(start(2), Result::kOk);
    EXPECT_EQ(start(2), Result::kBadState); // runs already
}

TEST_F(Requests, StartWithoutACoreStopsWhatItStartedAndNothingElse)
{
    ASSERT_EQ(create(1), Result::kOk);
    ASSERT_EQ(create(2), Result::kOk);
    ASSERT_EQ(create(3), Result::kOk);
    ASSERT_EQ(start(2), Result::kOk);
    machine.cores_come_up = false;
    EXPECT_EQ(start(4 | 8), Result::kNoCore);
    EXPECT_EQ(machine.gate_writes, std::vector<std::uint64_t>{2});
    EXPECT_EQ(state(1), dt::State::kRunning);
    EXPECT_EQ(state(2), dt::State::kDirty);
    EXPECT_EQ(state(3), dt::State::kDirty);
}

TEST_F(Requests, StartOfADomainThatDoesNotRunStopsIt)
{
    ASSERT_EQ(create(1), Result::kOk);
    machine.domains_run = false;
    EXPECT_EQ(start(2), Result::kNoCore);
    EXPECT_TRUE(machine.gate_writes.empty());
    EXPECT_EQ(state(1), dt::State::kDirty);
}

// ---- stop, delete, status

TEST_F(Requests, StopWaitsForDirty)
{
    ASSERT_EQ(create(1), Result::kOk);
    ASSERT_EQ(start(2), Result::kOk);
    machine.stop_ends = false;
    EXPECT_EQ(stop(1), Result::kRefused);
    EXPECT_EQ(detail(), dt::Status::kBusy);
    EXPECT_EQ(stop(1), Result::kBadState);
}

TEST_F(Requests, StopOfABadFieldChangesNothing)
{
    ASSERT_EQ(create(1), Result::kOk);
    machine.changes = 0;
    EXPECT_EQ(stop(0), Result::kBadField);
    EXPECT_EQ(stop(16), Result::kBadField);
    EXPECT_EQ(ask(Type::kStop, mgmt::DomainRequest{1, 1}), Result::kBadField);
    EXPECT_EQ(remove(0), Result::kBadField);
    EXPECT_EQ(remove(1, 2), Result::kBadField);
    EXPECT_EQ(machine.changes, 0u);
}

TEST_F(Requests, DeleteNeedsAStoppedDomain)
{
    ASSERT_EQ(create(1), Result::kOk);
    EXPECT_EQ(remove(1), Result::kBadState);
    ASSERT_EQ(start(2), Result::kOk);
    EXPECT_EQ(remove(1), Result::kBadState);
    ASSERT_EQ(stop(1), Result::kOk);
    EXPECT_EQ(remove(1), Result::kOk);
    EXPECT_FALSE(machine.domains[1].erased);
    EXPECT_EQ(remove(1), Result::kBadState);
}

TEST_F(Requests, DeleteErasesOnRequest)
{
    ASSERT_EQ(create(1), Result::kOk);
    ASSERT_EQ(stop(1), Result::kOk);
    EXPECT_EQ(remove(1, 1), Result::kOk);
    EXPECT_TRUE(machine.domains[1].erased);
}

TEST_F(Requests, StatusTellsStatesAndExitCodes)
{
    ASSERT_EQ(create(1), Result::kOk);
    ASSERT_EQ(create(2), Result::kOk);
    ASSERT_EQ(start(2), Result::kOk);
    machine.changes = 0;
    mgmt::StatusResponse response = status();
    EXPECT_EQ(response.domains[1].state, static_cast<std::uint32_t>(dt::State::kRunning));
    EXPECT_EQ(response.domains[1].start_count, 1u);
    EXPECT_EQ(response.domains[1].exit_code, 0u);
    EXPECT_EQ(response.domains[2].state, static_cast<std::uint32_t>(dt::State::kSealed));
    EXPECT_EQ(response.domains[3].state, static_cast<std::uint32_t>(dt::State::kEmpty));
    EXPECT_EQ(machine.changes, 0u);

    Mailbox &box = machine.mailbox(1);
    box.exit_code = 0x7F;
    box.phase = Phase::kLeft;
    machine.domains[1].state = dt::State::kDirty;
    machine.domains[1].reason = dt::EndReason::kShutdown;
    response = status();
    EXPECT_EQ(response.domains[1].exit_code, 0x7Fu);
    EXPECT_EQ(response.domains[1].reason, static_cast<std::uint32_t>(dt::EndReason::kShutdown));
    box.domain = 2; // the core serves another domain now
    EXPECT_EQ(status().domains[1].exit_code, 0u);
}

} // namespace
} // namespace banyan::hv::test
