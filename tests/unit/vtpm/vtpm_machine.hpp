// SPDX-License-Identifier: GPL-2.0-or-later
// A vTPM as QEMU holds it, with the real engine, and a guest that drives its window the way Linux' tpm_tis does.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "banyan/capi/vtpm.h"
#include "vtpm/chip/tis_regs.hpp"
#include "vtpm/chip/tpm_header.hpp"

namespace banyan::vtpm::testing {

using Bytes = std::vector<std::uint8_t>;

struct SeenEvent {
    std::uint32_t instance;
    std::string kind;
    std::string text;
};

class Machine {
public:
    struct Options {
        std::uint32_t instances = 1;
        std::string platform{};
        std::uint64_t sync_bound_ns = 2'000'000;
        bool deterministic = false;
        bool wired = false; // interrupts
        banyan_vtpm_rollback rollback = BANYAN_ROLLBACK_STRICT;
        banyan_vtpm_sandbox require_sandbox = BANYAN_SANDBOX_ANY;
        std::string engine = BANYAN_TEST_ENGINE;
        std::string snapshot_key{};
        bool incoming = false;
    };

    Machine() : Machine(Options{}) {}
    explicit Machine(const Options &options)
    {
        banyan_vtpm_config config{};
        config.size = sizeof(config);
        config.instances = options.instances;
        config.engine = options.engine.c_str();
        config.platform = options.platform.empty() ? nullptr : options.platform.c_str();
        config.sync_bound_ns = options.sync_bound_ns;
        config.deterministic = options.deterministic ? 1 : 0;
        config.rollback = options.rollback;
        config.require_sandbox = options.require_sandbox;
        config.snapshot_key = options.snapshot_key.empty() ? nullptr : options.snapshot_key.c_str();
        config.incoming = options.incoming ? 1 : 0;
        banyan_vtpm_host_ops ops{};
        ops.size = sizeof(ops);
        ops.event = [](void *opaque, std::uint32_t instance, const char *kind, const char *text) {
            auto *self = static_cast<Machine *>(opaque);
            const std::lock_guard lock(self->mutex_);
            self->events_.push_back({instance, kind, text});
        };
        if (options.wired) {
            ops.irq = [](void *opaque, std::uint32_t instance, int level) {
                auto *self = static_cast<Machine *>(opaque);
                self->irq[instance] = level;
                if (self->when_irq_moves) {
                    self->when_irq_moves();
                }
            };
            ops.look_at = [](void *opaque, std::uint32_t instance, std::int64_t when) {
                static_cast<Machine *>(opaque)->look_at[instance] = when;
                ++static_cast<Machine *>(opaque)->looks_asked[instance];
            };
        }
        char *error = nullptr;
        status = banyan_vtpm_create(&config, &ops, this, &vtpm, &error);
        if (error != nullptr) {
            why = error;
            std::free(error);
        }
    }
    ~Machine() { banyan_vtpm_destroy(vtpm); }
    Machine(const Machine &) = delete;
    Machine &operator=(const Machine &) = delete;

    [[nodiscard]] banyan_vtpm_state settle(std::uint32_t instance) const
    {
        for (int i = 0; i < 20000; ++i) {
            const banyan_vtpm_state now = banyan_vtpm_instance_state(vtpm, instance);
            if (now != BANYAN_VTPM_STARTING && now != BANYAN_VTPM_STOPPING) {
                return now;
            }
            std::this_thread::sleep_for(std::chrono::microseconds(500));
        }
        return BANYAN_VTPM_STARTING;
    }

    [[nodiscard]] bool power(std::uint32_t instance) const
    {
        return banyan_vtpm_power_on(vtpm, instance) == 0 && settle(instance) == BANYAN_VTPM_READY;
    }

    [[nodiscard]] bool power_held(std::uint32_t instance) const
    {
        return banyan_vtpm_power_on_held(vtpm, instance) == 0 && settle(instance) == BANYAN_VTPM_HELD;
    }

    [[nodiscard]] banyan_status drtm(std::uint32_t instance, banyan_drtm_step step, const Bytes &data = {}) const
    {
        banyan_status now =
            banyan_vtpm_drtm(vtpm, instance, step, data.data(), static_cast<std::uint32_t>(data.size()));
        while (now == 0 && (now = banyan_vtpm_drtm_poll(vtpm, instance)) == BANYAN_BUSY) {
            std::this_thread::sleep_for(std::chrono::microseconds(50));
            now = 0;
        }
        return now;
    }

    [[nodiscard]] banyan_status launch(std::uint32_t instance, const Bytes &block) const
    {
        banyan_status now = drtm(instance, BANYAN_DRTM_START);
        for (std::size_t at = 0; now == 0 && at < block.size(); at += BANYAN_DRTM_DATA_MAX) {
            const std::size_t end = std::min<std::size_t>(block.size(), at + BANYAN_DRTM_DATA_MAX);
            now = drtm(instance, BANYAN_DRTM_DATA,
                       Bytes(block.begin() + static_cast<std::ptrdiff_t>(at),
                             block.begin() + static_cast<std::ptrdiff_t>(end)));
        }
        return now == 0 ? drtm(instance, BANYAN_DRTM_END) : now;
    }

    /// Empty: refused; the sentence is in `why`.
    [[nodiscard]] Bytes save(bool hand_over = false)
    {
        std::uint8_t *bytes = nullptr;
        std::size_t size = 0;
        char *error = nullptr;
        status = banyan_vtpm_save(vtpm, 0, hand_over ? 1 : 0, &bytes, &size, &error);
        take(error);
        Bytes out = status == 0 ? Bytes(bytes, bytes + size) : Bytes{};
        std::free(bytes);
        return out;
    }
    [[nodiscard]] bool load(const Bytes &bytes)
    {
        char *error = nullptr;
        status = banyan_vtpm_load(vtpm, bytes.data(), bytes.size(), &error);
        take(error);
        return status == 0;
    }
    [[nodiscard]] bool run()
    {
        char *error = nullptr;
        status = banyan_vtpm_run(vtpm, &error);
        take(error);
        return status == 0;
    }

    [[nodiscard]] std::vector<SeenEvent> events()
    {
        (void)banyan_vtpm_instance_state(vtpm, 0);
        const std::lock_guard lock(mutex_);
        return events_;
    }
    /// Within two seconds: the news takes a way of its own.
    [[nodiscard]] bool saw(const std::string &kind, const std::string &text = "")
    {
        for (int i = 0; i < 2000; ++i) {
            for (const auto &event : events()) {
                if (event.kind == kind && event.text.find(text) != std::string::npos) {
                    return true;
                }
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        return false;
    }
    [[nodiscard]] std::string json() const
    {
        char *text = banyan_vtpm_json(vtpm);
        std::string copy = text;
        std::free(text);
        return copy;
    }

    /// For the message of a failed assertion.
    [[nodiscard]] std::string describe()
    {
        std::string text = why + json();
        for (const auto &event : events()) {
            text += "\nevent " + std::to_string(event.instance) + " " + event.kind + ": " + event.text;
        }
        return text;
    }

    banyan_vtpm *vtpm = nullptr;
    std::array<std::atomic<int>, 4> irq{}; // levels of the first instances
    std::function<void()> when_irq_moves;  // with the instance locked
    std::array<std::atomic<std::int64_t>, 4> look_at{};
    std::array<std::atomic<int>, 4> looks_asked{};
    banyan_status status = -1;
    std::string why;

private:
    void take(char *error)
    {
        why = error != nullptr ? error : "";
        std::free(error);
    }

    std::mutex mutex_;
    std::vector<SeenEvent> events_;
};

/// Software of one domain.
class Guest {
public:
    explicit Guest(banyan_vtpm *vtpm, std::uint32_t domain = 0) : vtpm_(vtpm)
    {
        cycle.size = sizeof(cycle);
        cycle.requester = static_cast<std::uint8_t>(domain + 1);
        cycle.from_core = 1;
    }

    [[nodiscard]] std::uint64_t read(unsigned locality, std::uint32_t offset, unsigned width)
    {
        std::uint64_t value = 0;
        EXPECT_EQ(banyan_vtpm_mmio_read(vtpm_, &cycle, locality * 0x1000U + offset, width, &value), 0);
        return value;
    }
    [[nodiscard]] std::uint32_t read(unsigned locality, tis::Reg reg, unsigned width = 4)
    {
        return static_cast<std::uint32_t>(read(locality, static_cast<std::uint32_t>(reg), width));
    }
    void write(unsigned locality, tis::Reg reg, std::uint64_t value, unsigned width = 4)
    {
        EXPECT_EQ(
            banyan_vtpm_mmio_write(vtpm_, &cycle, locality * 0x1000U + static_cast<std::uint32_t>(reg), width, value),
            0);
    }

    [[nodiscard]] bool request(unsigned locality)
    {
        write(locality, tis::Reg::kAccess, tis::Access::RequestUse::kMask, 1);
        return tis::Access::ActiveLocality::get(read(locality, tis::Reg::kAccess, 1));
    }
    void relinquish(unsigned locality) { write(locality, tis::Reg::kAccess, tis::Access::ActiveLocality::kMask, 1); }

    [[nodiscard]] bool wait_for(unsigned locality, std::uint32_t mask, std::uint32_t want)
    {
        for (int i = 0; i < 100000; ++i) {
            if ((read(locality, tis::Reg::kSts) & mask) == want) {
                return true;
            }
            if (i > 2) {
                std::this_thread::sleep_for(std::chrono::microseconds(100));
            }
            cycle.vtime_ns += 100'000;
        }
        return false;
    }

    void put(unsigned locality, const Bytes &command)
    {
        write(locality, tis::Reg::kSts, tis::Sts::CommandReady::kMask, 1);
        EXPECT_TRUE(wait_for(locality, tis::Sts::CommandReady::kMask, tis::Sts::CommandReady::kMask));
        for (const std::uint8_t byte : command) {
            write(locality, tis::Reg::kDataFifo, byte, 1);
        }
    }
    void go(unsigned locality) { write(locality, tis::Reg::kSts, tis::Sts::TpmGo::kMask, 1); }

    [[nodiscard]] Bytes take(unsigned locality)
    {
        constexpr std::uint32_t kAvailable = tis::Sts::StsValid::kMask | tis::Sts::DataAvail::kMask;
        if (!wait_for(locality, kAvailable, kAvailable)) {
            return {};
        }
        Bytes response;
        while (response.size() <= kTpmBufferSize && tis::Sts::DataAvail::get(read(locality, tis::Reg::kSts))) {
            response.push_back(static_cast<std::uint8_t>(read(locality, tis::Reg::kDataFifo, 1)));
        }
        return response;
    }

    /// The locality must be active.
    [[nodiscard]] Bytes command(unsigned locality, const Bytes &bytes)
    {
        put(locality, bytes);
        go(locality);
        Bytes response = take(locality);
        write(locality, tis::Reg::kSts, tis::Sts::CommandReady::kMask, 1);
        return response;
    }
    [[nodiscard]] Bytes command(const Bytes &bytes)
    {
        EXPECT_TRUE(request(0));
        Bytes response = command(0, bytes);
        relinquish(0);
        return response;
    }

    banyan_cycle cycle{};

private:
    banyan_vtpm *vtpm_;
};

// Commands, byte by byte.
inline void put32(Bytes &out, std::uint32_t value)
{
    for (int shift = 24; shift >= 0; shift -= 8) {
        out.push_back(static_cast<std::uint8_t>(value >> shift));
    }
}
inline void put16(Bytes &out, std::uint32_t value)
{
    out.push_back(static_cast<std::uint8_t>(value >> 8));
    out.push_back(static_cast<std::uint8_t>(value));
}

[[nodiscard]] inline Bytes tpm_command(std::uint16_t tag, std::uint32_t code, const Bytes &body)
{
    Bytes command;
    put16(command, tag);
    put32(command, static_cast<std::uint32_t>(10 + body.size()));
    put32(command, code);
    command.insert(command.end(), body.begin(), body.end());
    return command;
}

[[nodiscard]] inline Bytes get_random(std::uint16_t size)
{
    Bytes body;
    put16(body, size);
    return tpm_command(0x8001, 0x17b, body);
}
[[nodiscard]] inline Bytes startup(std::uint16_t type)
{
    Bytes body;
    put16(body, type);
    return tpm_command(0x8001, 0x144, body);
}
[[nodiscard]] inline Bytes shutdown(std::uint16_t type)
{
    Bytes body;
    put16(body, type);
    return tpm_command(0x8001, 0x145, body);
}
/// One SHA-256 PCR.
[[nodiscard]] inline Bytes pcr_read(unsigned pcr, std::uint16_t bank = 0x000b)
{
    Bytes body;
    put32(body, 1);
    put16(body, bank);
    body.push_back(3);
    for (unsigned i = 0; i < 3; ++i) {
        body.push_back(pcr / 8 == i ? static_cast<std::uint8_t>(1U << (pcr % 8)) : 0);
    }
    return tpm_command(0x8001, 0x17e, body);
}
[[nodiscard]] inline Bytes auth_area()
{
    Bytes area;
    put32(area, 9);
    put32(area, 0x40000009); // TPM_RS_PW
    put16(area, 0);
    area.push_back(0);
    put16(area, 0);
    return area;
}
[[nodiscard]] inline Bytes pcr_extend(std::uint32_t pcr, std::uint8_t fill)
{
    Bytes body;
    put32(body, pcr);
    const Bytes area = auth_area();
    body.insert(body.end(), area.begin(), area.end());
    put32(body, 1);
    put16(body, 0x000b);
    body.insert(body.end(), 32, fill);
    return tpm_command(0x8002, 0x182, body);
}

/// An RSA-3072 key: it takes long, and can be cancelled.
/// TPM2_FlushContext
[[nodiscard]] inline Bytes flush(std::uint32_t handle)
{
    Bytes body;
    put32(body, handle);
    return tpm_command(0x8001, 0x165, body);
}
/// ... of what a response made.
[[nodiscard]] inline Bytes flush(const Bytes &made)
{
    return tpm_command(0x8001, 0x165, Bytes(made.begin() + 10, made.begin() + 14));
}

[[nodiscard]] inline Bytes create_primary_rsa()
{
    Bytes body;
    put32(body, 0x40000007); // TPM_RH_NULL
    const Bytes area = auth_area();
    body.insert(body.end(), area.begin(), area.end());
    put16(body, 4); // TPM2B_SENSITIVE_CREATE
    put32(body, 0);
    Bytes tmpl;
    put16(tmpl, 1);          // RSA
    put16(tmpl, 0x000b);     // SHA-256
    put32(tmpl, 0x00030072); // storage key
    put16(tmpl, 0);
    put16(tmpl, 6); // AES-128-CFB
    put16(tmpl, 128);
    put16(tmpl, 0x0043);
    put16(tmpl, 0x0010);
    put16(tmpl, 3072);
    put32(tmpl, 0);
    put16(tmpl, 0);
    put16(body, static_cast<std::uint32_t>(tmpl.size()));
    body.insert(body.end(), tmpl.begin(), tmpl.end());
    put16(body, 0);
    put32(body, 0);
    return tpm_command(0x8002, 0x131, body);
}

[[nodiscard]] inline std::uint32_t code_of(const Bytes &response)
{
    return response.size() < 10 ? 0xffff'ffff : load_be32(response, 6);
}
/// The digest in a TPM2_PCR_Read response.
[[nodiscard]] inline Bytes digest_of(const Bytes &response)
{
    // header 10, updateCounter 4, count 4, hash 2, sizeofSelect 1, select 3, digest count 4, size 2
    if (code_of(response) != 0 || response.size() < 30) {
        return {};
    }
    return {response.begin() + 30, response.end()};
}

} // namespace banyan::vtpm::testing
