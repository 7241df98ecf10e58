// SPDX-License-Identifier: GPL-2.0-or-later
// When TPMs are started for instances that have not asked. Pure: the zygote has the clock and the processes.
#pragma once

#include <cstdint>
#include <optional>

namespace banyan::vtpm {

inline constexpr std::uint32_t kStandbyMax = 4;        // workers with a TPM that nobody has asked for yet
inline constexpr unsigned kStandbyDeathsMax = 16;      // one after another, before somebody asks again
inline constexpr std::uint64_t kQuietNs = 100'000'000; // after the answer to a snapshot's last question

class StandBy {
public:
    /// ours: the platform folder is this machine's.
    explicit StandBy(bool ours) : ours_(ours) {}

    [[nodiscard]] bool may(std::uint64_t now_ns) const { return is_called_for() && now_ns >= quiet_from_; }
    /// When it may, if only time is wanting.
    [[nodiscard]] std::optional<std::uint64_t> wait_ns(std::uint64_t now_ns) const
    {
        return is_called_for() && now_ns < quiet_from_ ? std::optional(quiet_from_ - now_ns) : std::nullopt;
    }

    /// An instance was started: what kept the others from it may be over.
    void somebody_asked() { rests_ = false; }
    /// One became its instance's worker.
    void taken() { deaths_ = 0; }
    void died()
    {
        if (++deaths_ == kStandbyDeathsMax) {
            deaths_ = 0;
            rests_ = true;
        }
    }
    /// One gave up, or could not be begun: so would the next.
    void gave_up() { rests_ = true; }
    /// A snapshot may put any state into any instance now: nobody stands by until its questions have ended, however long
    /// the disk takes over one. Each is answered once.
    void snapshot_asks() { ++unanswered_; }
    void snapshot_answered(std::uint64_t now_ns)
    {
        unanswered_ -= unanswered_ > 0 ? 1 : 0;
        quiet_from_ = now_ns + kQuietNs;
    }
    void folder(bool ours) { ours_ = ours; }

private:
    [[nodiscard]] bool is_called_for() const { return ours_ && !rests_ && unanswered_ == 0; }

    bool ours_;
    bool rests_ = false;
    unsigned unanswered_ = 0;
    unsigned deaths_ = 0;
    std::uint64_t quiet_from_ = 0;
};

} // namespace banyan::vtpm
