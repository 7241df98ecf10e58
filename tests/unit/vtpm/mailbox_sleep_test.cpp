// SPDX-License-Identifier: GPL-2.0-or-later
// Waiting on a mailbox: neither side sleeps through what it waits for, and the host does not rely on being woken.
#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <thread>

#include <gtest/gtest.h>

#include "vtpm/link/mailbox_host.hpp"
#include "vtpm/link/mailbox_worker.hpp"

namespace banyan::vtpm {
namespace {

constexpr std::uint64_t kLong = 20'000'000'000; // only a wake-up that was missed takes so long
constexpr std::uint64_t kShort = 1'000'000;

class Mailboxes : public testing::Test {
protected:
    Mailboxes() { host_.attach(box_.get()); }
    [[nodiscard]] bool sleep(std::uint64_t most_ns)
    {
        return host_.sleep(most_ns, [this] { return host_.answered(); });
    }
    void answer(std::uint32_t request) { shared_store(box_->worker.response, request); }

    std::unique_ptr<Mailbox> box_ = std::make_unique<Mailbox>();
    MailboxHost host_;
    std::array<std::uint8_t, kTpmBufferSize> into_{};
};

TEST_F(Mailboxes, NoRequestAndNoAnswerIsSleptThrough)
{
    constexpr std::uint32_t kRounds = 20'000;
    std::atomic<std::uint32_t> slept_out{0};
    std::thread worker([&] {
        MailboxWorker mine(box_.get(), -1);
        std::uint32_t answered = 0;
        while (answered < kRounds && slept_out == 0) {
            slept_out += mine.wait(answered, kLong) ? 0 : 1;
            const std::uint32_t request = shared_load(box_->host.request);
            if (request != answered) {
                answered = request;
                answer(request);
                mine.tell_host();
            }
        }
    });
    for (std::uint32_t i = 0; i < kRounds && slept_out == 0; ++i) {
        if (i % 64 == 0) { // else the worker hardly ever sleeps
            std::this_thread::sleep_for(std::chrono::microseconds(100));
        }
        host_.post(Op::kHashStart, 4, {});
        while (!host_.answered() && slept_out == 0) {
            slept_out += sleep(kLong) ? 0 : 1;
        }
        const auto got = host_.collect(into_);
        EXPECT_TRUE((got && got->kind == Answer::Kind::kOk) || slept_out != 0);
    }
    worker.join();
    EXPECT_EQ(slept_out, 0U);
    EXPECT_EQ(box_->host.sleepers, 0U);
    EXPECT_EQ(box_->worker.dozes, 0U);
}

TEST_F(Mailboxes, AHostThatIsNotWokenFindsTheAnswerAfterItsSlice)
{
    host_.post(Op::kHashStart, 4, {});
    EXPECT_FALSE(sleep(kShort)) << "no answer yet";
    std::thread silent([this] { answer(1); }); // and tells nobody
    while (!host_.answered()) {
        (void)sleep(kShort);
    }
    silent.join();
    EXPECT_EQ(host_.collect(into_)->kind, Answer::Kind::kOk);
}

TEST_F(Mailboxes, WhatAWorkerWritesIntoTheHostsWordsDoesNotHoldTheHost)
{
    box_->host.sleepers = ~0U;
    box_->host.listens = 7;
    box_->worker.dozes = 7;
    box_->worker.news = ~0U;
    host_.post(Op::kHashStart, 4, {});
    EXPECT_FALSE(sleep(kShort));
    answer(1);
    EXPECT_TRUE(sleep(kLong)) << "what is there is not waited for";
    EXPECT_EQ(host_.collect(into_)->kind, Answer::Kind::kOk);
}

TEST_F(Mailboxes, AWorkerRestsWhenNoRequestComes)
{
    MailboxWorker mine(box_.get(), -1);
    EXPECT_FALSE(mine.wait(0, kShort));
    host_.post(Op::kHashStart, 4, {});
    EXPECT_TRUE(mine.wait(0, kLong));
}

} // namespace
} // namespace banyan::vtpm
