// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "banyan/arch/domain_table.hpp"
#include "cpu-ext/domain/domain_state.hpp"

namespace banyan::domain {

/// The descriptor of one domain as cores and devices see it: written under the big lock, read by any thread.
///
/// A sequence lock over atomic words: a reader sees one descriptor with the phase that goes with it, never a mixture, and
/// never waits longer than a copy of 840 bytes. Loads are acquire and stores release, so no fence is needed: a reader that
/// took a new word also sees that the sequence has moved.
class Published {
    static constexpr std::size_t kWords = sizeof(dt::Descriptor) / sizeof(std::uint64_t);
    static_assert(sizeof(dt::Descriptor) % sizeof(std::uint64_t) == 0);
    static_assert(std::endian::native == std::endian::little);

public:
    class View {
    public:
        explicit View(const Published &published) : published_(published) {}

        [[nodiscard]] Phase phase() const { return published_.phase_.load(std::memory_order_acquire); }
        [[nodiscard]] std::uint64_t core_mask() const { return word(offsetof(dt::Descriptor, core_mask)); }
        [[nodiscard]] std::uint32_t vtpm_instance() const { return half(offsetof(dt::Descriptor, vtpm_instance)); }
        [[nodiscard]] std::uint32_t further_vtpm(std::uint32_t i) const
        {
            return half(offsetof(dt::Descriptor, further_vtpms) + i * sizeof(std::uint32_t));
        }
        [[nodiscard]] std::uint32_t range_count() const { return half(offsetof(dt::Descriptor, range_count)); }
        [[nodiscard]] std::uint32_t window_count() const { return half(offsetof(dt::Descriptor, window_count)); }
        [[nodiscard]] std::uint32_t port_count() const { return half(offsetof(dt::Descriptor, port_count)); }
        [[nodiscard]] std::uint32_t msr_count() const { return half(offsetof(dt::Descriptor, msr_count)); }
        [[nodiscard]] std::uint32_t root_port_count() const { return half(offsetof(dt::Descriptor, root_port_count)); }
        [[nodiscard]] std::uint32_t msr_profile() const { return half(offsetof(dt::Descriptor, msr_profile)); }
        [[nodiscard]] std::uint32_t port_profile() const { return half(offsetof(dt::Descriptor, port_profile)); }

        [[nodiscard]] dt::Range range(std::uint32_t i) const
        {
            return entry<dt::Range>(offsetof(dt::Descriptor, ranges), i);
        }
        [[nodiscard]] dt::Window window(std::uint32_t i) const
        {
            return entry<dt::Window>(offsetof(dt::Descriptor, windows), i);
        }
        [[nodiscard]] dt::RootPort root_port(std::uint32_t i) const
        {
            return entry<dt::RootPort>(offsetof(dt::Descriptor, root_ports), i);
        }
        [[nodiscard]] dt::PortRule port(std::uint32_t i) const
        {
            return entry<dt::PortRule>(offsetof(dt::Descriptor, ports), i);
        }
        [[nodiscard]] dt::MsrRule msr(std::uint32_t i) const
        {
            return entry<dt::MsrRule>(offsetof(dt::Descriptor, msrs), i);
        }
        [[nodiscard]] std::uint32_t msr_number(std::uint32_t i) const
        {
            return half(offsetof(dt::Descriptor, msrs) + i * sizeof(dt::MsrRule));
        }

    private:
        [[nodiscard]] std::uint64_t word(std::size_t offset) const
        {
            return published_.words_[offset / sizeof(std::uint64_t)].load(std::memory_order_acquire);
        }

        [[nodiscard]] std::uint32_t half(std::size_t offset) const
        {
            return static_cast<std::uint32_t>(word(offset) >> (offset % sizeof(std::uint64_t) * 8));
        }

        template <typename T>
        [[nodiscard]] T entry(std::size_t offset, std::uint32_t i) const
        {
            static_assert(sizeof(T) % sizeof(std::uint64_t) == 0 && std::is_trivially_copyable_v<T>);
            std::array<std::uint64_t, sizeof(T) / sizeof(std::uint64_t)> words{};
            for (std::size_t k = 0; k < words.size(); ++k) {
                words[k] = word(offset + i * sizeof(T) + k * sizeof(std::uint64_t));
            }
            return std::bit_cast<T>(words);
        }

        const Published &published_;
    };

    /// Any thread: calls look(View) until it saw one consistent descriptor. Counts it sees are within the tables.
    template <typename Look>
    [[nodiscard]] auto read(Look look) const
    {
        for (;;) {
            const std::uint32_t before = sequence_.load(std::memory_order_acquire);
            if ((before & 1) == 0) {
                const auto seen = look(View(*this));
                if (sequence_.load(std::memory_order_relaxed) == before) {
                    return seen;
                }
            }
        }
    }

    [[nodiscard]] Phase phase() const { return phase_.load(std::memory_order_acquire); }

    /// Big lock. Only a checked descriptor, or an empty one.
    void publish(const dt::Descriptor &descriptor, Phase phase)
    {
        std::array<std::uint64_t, kWords> words{};
        std::memcpy(words.data(), &descriptor, sizeof(descriptor));
        const std::uint32_t before = sequence_.load(std::memory_order_relaxed);
        sequence_.store(before + 1, std::memory_order_relaxed);
        for (std::size_t i = 0; i < kWords; ++i) {
            words_[i].store(words[i], std::memory_order_release);
        }
        phase_.store(phase, std::memory_order_release);
        sequence_.store(before + 2, std::memory_order_release);
    }

    /// Big lock. Another phase of the same descriptor.
    void set_phase(Phase phase) { phase_.store(phase, std::memory_order_release); }

private:
    std::atomic<std::uint32_t> sequence_{0};
    std::atomic<Phase> phase_{Phase::kEmpty};
    std::array<std::atomic<std::uint64_t>, kWords> words_{};
};

} // namespace banyan::domain
