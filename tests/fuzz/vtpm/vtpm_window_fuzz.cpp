// SPDX-License-Identifier: GPL-2.0-or-later
// A guest that does anything to the window, with launches and power cycles in between. The engine is the input too.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

#include "tests/unit/vtpm/fake_link.hpp"
#include "vtpm/chip/tis_regs.hpp"
#include "vtpm/chip/tpm_header.hpp"
#include "vtpm/manager/instance.hpp"

namespace {

using namespace banyan::vtpm;

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

void require(bool what)
{
    if (!what) {
        std::abort();
    }
}

void check(Instance &instance, const banyan::vtpm::testing::FakeEngine &engine)
{
    for (const auto &request : engine.requests) {
        require(request.op != Op::kCommand || command_header_ok(request.bytes));
        require(request.op != Op::kCommand || request.locality < 4); // software never runs at locality 4
        require(request.bytes.size() <= kTpmBufferSize);
    }
    unsigned active = 0;
    for (std::uint32_t locality = 0; locality < 5; ++locality) {
        const auto access = static_cast<std::uint8_t>(instance.read(locality * 0x1000, 1, 0));
        if (access != 0xff) {
            active += tis::Access::ActiveLocality::get(access) ? 1 : 0;
            require(!tis::Access::Seize::get(access));
        }
    }
    require(active <= 1);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size)
{
    Bytes input(data, size);
    auto engine = std::make_shared<banyan::vtpm::testing::FakeEngine>();
    const std::uint8_t mode = input.byte();
    engine->answers_at_once = (mode & 1) != 0;
    Instance instance({(mode & 2) != 0 ? 1000U : 0U, (mode & 4) != 0},
                      std::make_unique<banyan::vtpm::testing::FakeLink>(engine));
    (void)instance.power_on();
    std::int64_t now = 0;
    const std::uint8_t launch_data[64] = {};
    while (input.more()) {
        const std::uint8_t what = input.byte();
        const std::uint32_t offset = ((what >> 4) % 5) * 0x1000U + input.byte() * 4U % 0x100U;
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
            instance.write(offset, 1U << (what >> 4 & 3), input.word(), now);
            break;
        case 4: // bytes into the FIFO
            for (unsigned i = input.byte(); i > 0; --i) {
                instance.write((what >> 4) % 5 * 0x1000U + 0x24, 1, input.byte(), now);
            }
            break;
        case 5:
            (void)instance.power_on();
            break;
        case 6:
            (void)instance.power_off();
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
            engine->health = Health::kDead;
            break;
        case 12:
            engine->complete(static_cast<Answer::Kind>(input.byte() % 4));
            break;
        case 13: // answers of any length; the real link has checked their headers
            engine->response.assign(10 + input.byte() % 200, 0x11);
            engine->complete();
            break;
        case 14:
            (void)instance.state();
            break;
        default:
            (void)instance.json();
            break;
        }
        check(instance, *engine);
        engine->requests.clear();
    }
    return 0;
}
