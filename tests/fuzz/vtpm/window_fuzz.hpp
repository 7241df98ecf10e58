// SPDX-License-Identifier: GPL-2.0-or-later
// A guest that does anything to the window, with launches and power cycles in between. The engine is the input too.
// What must hold whatever happens is the interface's own: a target hands it in.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

#include "tests/unit/vtpm/fake_link.hpp"
#include "vtpm/chip/tpm_header.hpp"
#include "vtpm/manager/instance.hpp"

namespace banyan::vtpm::fuzz {

class Bytes {
public:
    Bytes(const std::uint8_t *data, std::size_t size) : data_(data), size_(size) {}
    [[nodiscard]] bool more() const { return at_ < size_; }
    std::uint8_t byte() { return more() ? data_[at_++] : 0; }
    std::uint32_t word()
    {
        std::uint32_t value = 0;
        for (int i = 0; i < 4; ++i) {
            value = (value << 8) | byte();
        }
        return value;
    }

private:
    const std::uint8_t *data_;
    std::size_t size_;
    std::size_t at_ = 0;
};

inline void require(bool what)
{
    if (!what) {
        std::abort();
    }
}

/// What the engine was asked for.
inline void check_requests(const testing::FakeEngine &engine, std::size_t buffer_size)
{
    for (const auto &request : engine.requests) {
        require(request.op != Op::kCommand || command_header_ok(request.bytes));
        require(request.op != Op::kCommand || request.locality < 4); // software never runs at locality 4
        require(request.bytes.size() <= (request.op == Op::kCommand ? buffer_size : kTpmBufferSize));
    }
}

struct Target {
    InterfaceKind interface;
    std::size_t buffer_size;
    std::uint32_t buffer_at; // where a guest puts a command
    unsigned buffer_stride;  // 0: a FIFO
    void (*check)(Instance &);
};

inline int run(const Target &target, const std::uint8_t *data, std::size_t size)
{
    Bytes input(data, size);
    auto engine = std::make_shared<testing::FakeEngine>();
    const std::uint8_t mode = input.byte();
    engine->answers_at_once = (mode & 1) != 0;
    bool line = false;
    InstanceConfig config{(mode & 2) != 0 ? 1000U : 0U, (mode & 4) != 0};
    config.setup.interface = target.interface;
    config.setup.interrupts = (mode & 8) != 0;
    config.irq = [&](bool level) {
        require(config.setup.interrupts && level != line); // each change once
        line = level;
    };
    config.look_at = [&](std::int64_t) { require(config.setup.interrupts && config.deterministic); };
    Instance instance(config, std::make_unique<testing::FakeLink>(engine));
    (void)instance.power_on();
    std::int64_t now = 0;
    const std::uint8_t launch_data[64] = {};
    while (input.more()) {
        const std::uint8_t what = input.byte();
        const std::uint32_t page = (what >> 4) % 5 * 0x1000U;
        const std::uint32_t offset = page + input.byte() * 4U % 0x100U;
        now += what;
        switch (what & 15) {
        case 0:
            (void)instance.read(offset + (what >> 6), 1U << (what >> 4 & 3), now);
            break;
        case 1:
        case 2:
            instance.write(offset, 1, input.byte(), now);
            break;
        case 3:
            instance.write(offset + (what >> 7), 1U << (what >> 4 & 3), input.word(), now);
            break;
        case 4: { // bytes of a command
            std::uint32_t at = page + target.buffer_at;
            for (unsigned i = input.byte(); i > 0; --i) {
                instance.write(at, 1, input.byte(), now);
                at += target.buffer_stride;
            }
            break;
        }
        case 5:
            (void)instance.power_on((what & 0x80) != 0 ? PowerOn::kHeld : PowerOn::kStartup);
            break;
        case 6:
            (void)instance.power_off();
            if (instance.state() == PowerState::kOff) {
                config.setup.banks = 1U + input.byte() % kAllPcrBanks;
                require(instance.configure(config.setup).has_value());
            }
            require(!line);
            break;
        case 7:
            (void)instance.launch(LaunchEvent::kStart, {});
            break;
        case 8:
            (void)instance.launch(LaunchEvent::kData, std::span(launch_data).first(input.byte() % 65));
            break;
        case 9:
            (void)instance.launch(LaunchEvent::kEnd, {});
            break;
        case 10:
            (void)instance.launch_poll();
            break;
        case 11:
            engine->health = (what & 0x10) != 0 ? Health::kRefused : Health::kDead;
            engine->started = (what & 0x60) == 0x60 ? Health::kDead : Health::kReady;
            break;
        case 12:
            engine->complete(static_cast<Answer::Kind>(input.byte() % 4));
            break;
        case 13: // answers of any length; the real link has checked their headers
            engine->response.assign(10 + input.byte() * 16U, 0x11);
            engine->complete();
            break;
        case 14:
            if ((what & 0x10) != 0) {
                instance.look(now);
            } else {
                (void)instance.state();
            }
            break;
        default:
            (void)instance.json();
            break;
        }
        target.check(instance);
        check_requests(*engine, target.buffer_size);
        engine->requests.clear();
    }
    return 0;
}

} // namespace banyan::vtpm::fuzz
