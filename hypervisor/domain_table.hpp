// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>

#include "banyan/arch/domain_table.hpp"

namespace banyan::hv {

/// The control window of the domain table. Machine: read32, write32, read64, write64, idle.
template <typename Machine>
class DomainTable {
public:
    explicit DomainTable(Machine &machine) : machine_{machine} {}

    [[nodiscard]] bool present() { return read(dt::control::kId) == dt::kOwnId && read(dt::control::kVersion) == 1; }

    void select(std::uint32_t domain) { write(dt::control::kSelect, domain); }

    // ---- of the selected domain

    [[nodiscard]] dt::State state() { return dt::State{read(dt::control::kState)}; }
    [[nodiscard]] dt::EndReason reason() { return dt::EndReason{read(dt::control::kReason)}; }
    [[nodiscard]] std::uint64_t start_count() { return read64(dt::control::kStartCount); }
    [[nodiscard]] std::uint64_t launch_count() { return read64(dt::control::kLaunchCount); }

    /// kBusy: it was still busy when patience ended.
    [[nodiscard]] dt::Status command(dt::Command command)
    {
        write(dt::control::kCommand, static_cast<std::uint32_t>(command));
        (void)wait([&] { return status() != dt::Status::kBusy; });
        return status();
    }

    /// False: it is in another state still.
    template <typename Predicate>
    [[nodiscard]] bool wait(Predicate done)
    {
        for (unsigned poll = 0; !done(); ++poll) {
            if (poll >= kPolls + kTicks) {
                return false;
            }
            if (poll >= kPolls) {
                machine_.idle();
            }
        }
        return true;
    }

    void write_descriptor(const dt::Descriptor &descriptor)
    {
        write_words(dt::control::kDescriptor, &descriptor, sizeof descriptor);
    }

    [[nodiscard]] dt::Descriptor descriptor()
    {
        dt::Descriptor descriptor;
        read_words(&descriptor, dt::control::kDescriptor, sizeof descriptor);
        return descriptor;
    }

    /// The signed receipt into `data`, its size or 0. nonce: all 64 bytes.
    [[nodiscard]] std::uint32_t receipt(const std::uint8_t *nonce, std::uint32_t nonce_size,
                                        std::uint8_t (&data)[dt::own::kReportMax])
    {
        write_words(dt::control::kNonce, nonce, dt::own::kNonceMax);
        write(dt::control::kNonceSize, nonce_size);
        if (command(dt::Command::kReceipt) != dt::Status::kOk) {
            return 0;
        }
        const bool finished = wait([&] { return receipt_status() != dt::ReportStatus::kBusy; });
        const std::uint32_t size = read(dt::control::kReceiptSize);
        if (!finished || receipt_status() != dt::ReportStatus::kReady || size > sizeof data) {
            return 0;
        }
        read_words(data, dt::control::kReceiptData, sizeof data);
        return size;
    }

    // ---- of all

    /// Bit d: domain d. One write, so that they open together.
    void open_gates(std::uint64_t domains) { machine_.write64(dt::kControlBase + dt::control::kGateOpen, domains); }

private:
    static constexpr unsigned kPolls = 200;  // before the core sleeps between two looks
    static constexpr unsigned kTicks = 6000; // a vTPM instance may have keys to make

    [[nodiscard]] dt::Status status() { return dt::Status{read(dt::control::kStatus)}; }
    [[nodiscard]] dt::ReportStatus receipt_status() { return dt::ReportStatus{read(dt::control::kReceiptStatus)}; }

    [[nodiscard]] std::uint32_t read(std::uint32_t reg) { return machine_.read32(dt::kControlBase + reg); }
    [[nodiscard]] std::uint64_t read64(std::uint32_t reg) { return machine_.read64(dt::kControlBase + reg); }
    void write(std::uint32_t reg, std::uint32_t value) { machine_.write32(dt::kControlBase + reg, value); }

    void write_words(std::uint32_t reg, const void *from, std::size_t size)
    {
        for (std::size_t i = 0; i < size; i += 4) {
            std::uint32_t word = 0;
            __builtin_memcpy(&word, static_cast<const std::uint8_t *>(from) + i, sizeof word);
            write(static_cast<std::uint32_t>(reg + i), word);
        }
    }

    void read_words(void *to, std::uint32_t reg, std::size_t size)
    {
        for (std::size_t i = 0; i < size; i += 4) {
            const std::uint32_t word = read(static_cast<std::uint32_t>(reg + i));
            __builtin_memcpy(static_cast<std::uint8_t *>(to) + i, &word, sizeof word);
        }
    }

    Machine &machine_;
};

} // namespace banyan::hv
