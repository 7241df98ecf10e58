// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "vtpm/link/control.hpp"
#include "vtpm/link/fd.hpp"
#include "vtpm/link/giving_way.hpp"
#include "vtpm/link/instance_link.hpp"
#include "vtpm/link/mailbox_host.hpp"

namespace banyan::vtpm {

inline constexpr std::uint64_t kWatchdogNs =
    60 * kSecond; // no TPM command takes that long; RSA keys take up to seconds

/// One life of one worker: its mailbox and bells. The mailbox's size is sealed, so that a worker cannot take pages away
/// from under QEMU.
class Life final : public Waiter {
public:
    static std::shared_ptr<Life> make(std::uint32_t number, const std::shared_ptr<Crowd> &crowd);

    ~Life() override;
    Life(const Life &) = delete;
    Life &operator=(const Life &) = delete;

    [[nodiscard]] std::array<int, kSpawnFds> far_ends() const { return {memory_.get(), bell_.get(), far_line_.get()}; }
    void given_away();

    [[nodiscard]] std::uint32_t number() const { return number_; }
    [[nodiscard]] const MailboxHost &host() const { return host_; }

    [[nodiscard]] bool dead();

    void post(Op op, std::uint8_t locality, std::span<const std::uint8_t> bytes);

    [[nodiscard]] bool overdue() const { return host_.pending() && monotonic_ns() - posted_at_ > kWatchdogNs; }
    [[nodiscard]] std::optional<Answer> collect(std::span<std::uint8_t> into) { return host_.collect(into); }

    void cancel();

    [[nodiscard]] int bell() override;
    [[nodiscard]] int line() const override { return line_.get(); }

    /// The bell for what is pending alone.
    void listen_once();
    void hush();
    [[nodiscard]] int own_bell() const { return bell_.get(); }

    void wait(std::uint64_t bound_ns, bool soon) override;

private:
    void ring();

    [[nodiscard]] bool hung_up() const;

    Life(std::uint32_t number, std::shared_ptr<Crowd> crowd) : number_(number), crowd_(std::move(crowd)) {}

    bool prepare();

    const std::uint32_t number_;
    Mailbox *box_ = nullptr;
    MailboxHost host_;
    const std::shared_ptr<Crowd> crowd_;
    GivingWay giving_way_;
    Fd memory_;
    Fd bell_;
    Fd line_;
    Fd far_line_;
    std::uint64_t posted_at_ = 0;
    std::uint64_t looked_at_ = 0; // whether it has died
    bool dead_ = false;
    std::atomic<bool> hung_{false}; // who waited for it saw that it has
    std::atomic<bool> listened_{false};
};

} // namespace banyan::vtpm
