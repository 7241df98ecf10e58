// SPDX-License-Identifier: GPL-2.0-or-later
// Sleeping on a mailbox: nobody sleeps through what he waits for, and nobody relies on the other side's word for it.
#include <array>
#include <atomic>
#include <memory>
#include <thread>

#include <gtest/gtest.h>

#include "vtpm/link/mailbox_host.hpp"

namespace banyan::vtpm {
namespace {

constexpr std::uint64_t kLong = 20'000'000'000; // a wake-up that was missed shows as a test that takes for ever

TEST(MailboxSleep, NoRequestAndNoAnswerIsSleptThrough)
{
    constexpr std::uint32_t kRounds = 20'000;
    const auto box = std::make_unique<Mailbox>();
    MailboxHost host;
    host.attach(box.get());
    std::atomic<std::uint32_t> slept_out{0};
    std::thread worker([&] {
        for (std::uint32_t answered = 0; answered < kRounds;) {
            shared_store(box->worker.dozes, 1);
            shared_fence();
            if (shared_load(box->host.request) == answered && !futex_wait(box->host.request, answered, kLong)) {
                ++slept_out;
            }
            shared_store(box->worker.dozes, 0);
            const std::uint32_t request = shared_load(box->host.request);
            if (request == answered) {
                continue;
            }
            answered = request;
            shared_store(box->worker.response, request);
            shared_store(box->worker.news, shared_load(box->worker.news) + 1);
            shared_fence();
            if (shared_load(box->host.sleepers) != 0) {
                futex_wake_all(box->worker.news);
            }
        }
    });
    std::array<std::uint8_t, kTpmBufferSize> into{};
    for (std::uint32_t i = 0; i < kRounds; ++i) {
        host.post(Op::kHashStart, 4, {});
        while (!host.answered()) {
            slept_out += host.sleep(kLong, [&] { return host.answered(); }) ? 0 : 1;
        }
        ASSERT_TRUE(host.collect(into).has_value());
    }
    worker.join();
    EXPECT_EQ(slept_out, 0U);
    EXPECT_EQ(box->host.sleepers, 0U);
}

TEST(MailboxSleep, AWorkerThatWakesNobodyCostsASlice)
{
    const auto box = std::make_unique<Mailbox>();
    MailboxHost host;
    host.attach(box.get());
    host.post(Op::kHashStart, 4, {});
    EXPECT_FALSE(host.sleep(1'000'000, [&] { return host.answered(); }));
    box->host.sleepers = 7;   // it may write there too
    box->worker.response = 1; // answered, and nobody woken
    EXPECT_TRUE(host.sleep(kLong, [&] { return host.answered(); })) << "what is there already is not waited for";
}

} // namespace
} // namespace banyan::vtpm
