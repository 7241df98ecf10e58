// SPDX-License-Identifier: GPL-2.0-or-later
#include <atomic>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "fake_host.hpp"

// Look-ups run on every core without the big lock while another core seals and deletes. Under ThreadSanitizer this also
// shows that nothing of it is a data race.

namespace banyan::domain {
namespace {

TEST(DomainThreads, ALookUpSeesOneWholeDescriptorOrNone)
{
    Bench b;
    ASSERT_TRUE(b.run(2)); // stays
    const dt::Descriptor two = good_descriptor(2);

    // Domain 1 alternates between two descriptors: every pair of guest and physical base belongs to one of them.
    dt::Descriptor first = good_descriptor(1);
    dt::Descriptor second = first;
    second.ranges[1] = {0x1'0000'0000, k4Gib + 64 * kMib, 64 * kMib};
    second.ports[0] = {0x90, 0x90, dt::PortAction::kAllow, 0, {}};
    second.msrs[0].value = 0x5678;

    std::atomic<bool> stop{false};
    std::atomic<std::uint64_t> wrong{0};
    std::atomic<std::uint64_t> seen_ram{0};
    std::atomic<std::uint64_t> seen_none{0};
    std::vector<std::thread> readers;
    for (int r = 0; r < 3; ++r) {
        readers.emplace_back([&] {
            const auto check = [&](bool good) { wrong += good ? 0 : 1; };
            while (!stop.load(std::memory_order_relaxed)) {
                std::uint64_t hpa = 0;
                const Reach low = b.table.translate(1, kMib + 0x1000, hpa);
                check(low == Reach::kNone || (low == Reach::kRam && hpa == first.ranges[1].hpa + 0x1000));
                const Reach high = b.table.translate(1, 0x1'0000'2000, hpa);
                check(high == Reach::kNone || (high == Reach::kRam && hpa == second.ranges[1].hpa + 0x2000));
                (low == Reach::kNone && high == Reach::kNone ? seen_none : seen_ram)++;
                check(b.table.translate(2, kMib, hpa) == Reach::kRam && hpa == two.ranges[1].hpa);
                check(b.table.translate(0, two.ranges[1].hpa, hpa) == Reach::kNone);
                check(b.table.ram(0, 0, 0x1000) == std::uint64_t{0});
                const std::uint32_t owner = b.table.of_root_port(first.root_ports[0].devfn);
                check(owner <= 1);
                const std::uint64_t cores = b.table.cores(1);
                check(cores == 0 || cores == first.core_mask);
                const std::uint64_t value = b.table.msr(1, 0xC001'0299, false).value;
                check(value == 0 || value == 0x1234 || value == 0x5678);
                std::uint32_t read = 0;
                (void)b.table.port(1, 0x80, 1, false, read);
                (void)b.table.is_closed(1);
                (void)b.table.instance(1);
                b.table.deny(3, Denied::kDma);
            }
        });
    }
    for (int round = 0; round < 400; ++round) {
        ASSERT_EQ(b.seal(1, round % 2 == 0 ? first : second), dt::Status::kOk);
        ASSERT_TRUE(b.start(1, 1));
        std::this_thread::yield();
        b.table.exit(1, 1, ExitCause::kShutdown);
        ASSERT_EQ(b.command(1, dt::Command::kDelete), dt::Status::kOk);
    }
    stop = true;
    for (std::thread &reader : readers) {
        reader.join();
    }
    EXPECT_EQ(wrong.load(), 0U);
    EXPECT_GT(seen_ram.load() + seen_none.load(), 0U);
}

} // namespace
} // namespace banyan::domain
