// SPDX-License-Identifier: GPL-2.0-or-later
// An engine that does what the test says, instead of one that executes commands.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "vtpm/chip/tpm_header.hpp"
#include "vtpm/link/instance_link.hpp"

namespace banyan::vtpm::testing {

/// What the test sees and sets.
struct FakeEngine {
    struct Request {
        Op op;
        std::uint8_t locality;
        std::vector<std::uint8_t> bytes;
    };
    std::vector<Request> requests;
    std::vector<TpmSetup> setups;
    std::vector<bool> starts; // restore or not
    std::vector<std::string> reports;
    int stops = 0;
    int cancels = 0;
    int waits = 0;
    bool established = false;
    bool start_works = true;
    Health started = Health::kReady; // after a start that works
    bool gave_up = false;
    bool erased = false;
    Health health = Health::kOff;
    bool pending = false;
    bool answers_at_once = true; // with success
    std::function<void()> while_waiting = [] {};
    std::optional<Answer> answer;
    std::vector<std::uint8_t> response{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0, 0, 0xaa, 0xbb};

    void complete(Answer::Kind kind = Answer::Kind::kOk) { answer = Answer{kind, response.size()}; }
};

class FakeLink : public InstanceLink {
public:
    explicit FakeLink(std::shared_ptr<FakeEngine> engine) : engine_(std::move(engine)) {}

    void set_up(const TpmSetup &setup) override { engine_->setups.push_back(setup); }
    Status start(bool restore) override
    {
        engine_->starts.push_back(restore);
        engine_->pending = false;
        engine_->answer.reset();
        engine_->health = engine_->start_works ? engine_->started : Health::kOff;
        return engine_->start_works ? Status{} : fail(Errc::kIo);
    }
    void stop() override
    {
        ++engine_->stops;
        if (engine_->health != Health::kOff) {
            engine_->health = Health::kDead;
        }
    }
    Status erase() override { return {}; }
    bool erased() override { return engine_->erased; }
    Health health() override { return engine_->health; }
    bool gave_up() override { return engine_->gave_up; }
    bool established() override { return engine_->established; }
    Status post(Op op, std::uint8_t locality, std::span<const std::uint8_t> bytes) override
    {
        if (engine_->pending) {
            return fail(Errc::kBadState);
        }
        engine_->requests.push_back({op, locality, {bytes.begin(), bytes.end()}});
        engine_->pending = true;
        if (engine_->answers_at_once) {
            engine_->complete();
        }
        return {};
    }
    std::optional<Answer> collect(std::span<std::uint8_t> into) override
    {
        if (!engine_->pending || !engine_->answer) {
            return std::nullopt;
        }
        engine_->pending = false;
        const Answer answer = *engine_->answer;
        engine_->answer.reset();
        std::copy(engine_->response.begin(), engine_->response.end(), into.begin());
        return answer;
    }
    void cancel() override { ++engine_->cancels; }
    void report(const char *event, const char * /*text*/) override { engine_->reports.emplace_back(event); }
    std::shared_ptr<Waiter> waiter() override { return std::make_shared<FakeWaiter>(engine_); }

private:
    class FakeWaiter final : public Waiter {
    public:
        explicit FakeWaiter(std::shared_ptr<FakeEngine> engine) : engine_(std::move(engine)) {}
        void wait(std::uint64_t, bool) override
        {
            ++engine_->waits;
            const auto action = engine_->while_waiting; // it may replace itself
            action();
        }

    private:
        std::shared_ptr<FakeEngine> engine_;
    };

    std::shared_ptr<FakeEngine> engine_;
};

} // namespace banyan::vtpm::testing
