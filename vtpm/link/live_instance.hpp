// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vtpm/link/engine_link.hpp"
#include "vtpm/link/fd.hpp"
#include "vtpm/link/life.hpp"

namespace banyan::vtpm {

/// One instance's way to the workers that it has one after another.
class LiveInstance final : public InstanceLink {
public:
    LiveInstance(EngineLink &engine, std::uint32_t index) : engine_(engine), index_(index) {}

    void set_up(const TpmSetup &setup) override { setup_ = setup; }

    Status start(bool restore) override;

    void stop() override;

    Status erase() override;

    bool erased() override;

    Health health() override;
    bool gave_up() override;

    bool established() override { return life_ && life_->host().established(); }

    Status post(Op op, std::uint8_t locality, std::span<const std::uint8_t> bytes) override;

    std::optional<Answer> collect(std::span<std::uint8_t> into) override;

    void cancel() override;

    std::shared_ptr<Waiter> waiter() override { return life_; }

    int bell() override;

    void ring_when_done() override;

    void hush() override;

    void report(const char *event, const char *text) override { engine_.report({index_, event, text}); }

    std::uint32_t restores() override;

    Result<std::vector<std::uint8_t>> seal(const SealOrder &order, std::span<const std::uint8_t> interface,
                                           std::string &why) override;

    Result<std::vector<std::uint8_t>> open(std::span<const std::uint8_t> part, std::string &why) override;

    Status install(std::string &why) override;

private:
    void drop_life();

    /// Many instances that start at once fill the socket: who found it full asks again when it is looked at.
    Status send_start();

    EngineLink &engine_;
    const std::uint32_t index_;
    TpmSetup setup_;
    std::shared_ptr<Life> life_;
    Fd bell_;                           // an epoll instance
    bool heard_ = false;                // life_'s bell and line are in it
    unsigned vain_ = 0;                 // times that it was hushed before what is pending was done
    std::optional<ControlKind> unsent_; // the start of life_, not told to the zygote yet
    std::uint32_t lives_ = 0;
    std::uint32_t told_ = 0; // the last life that the zygote was asked for
    std::uint32_t stopped_ = 0;
    std::uint32_t restores_ = 0;
    std::uint64_t started_at_ = 0;
};

} // namespace banyan::vtpm
