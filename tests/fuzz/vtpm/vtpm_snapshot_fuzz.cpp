// SPDX-License-Identifier: GPL-2.0-or-later
// What a snapshot may bring. The first byte says what the rest is: a whole snapshot as QEMU's stream hands it over, a
// part as the keeper gets it, or an instance's interface as it comes out of a part.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>

#include "tests/unit/vtpm/fake_link.hpp"
#include "vtpm/link/snapshot.hpp"
#include "vtpm/manager/instance.hpp"
#include "vtpm/store/snapshot_seal.hpp"

namespace {

using namespace banyan::vtpm;
using Input = std::span<const std::uint8_t>;

void require(bool claim)
{
    if (!claim) {
        std::abort();
    }
}

/// An engine that opens whatever it is given and hands out what it was asked to seal.
class OpenLink final : public testing::FakeLink {
public:
    OpenLink(std::shared_ptr<testing::FakeEngine> engine, Input interface)
        : FakeLink(std::move(engine)),
          interface_(interface)
    {}

    banyan::Result<std::vector<std::uint8_t>> seal(const SealOrder &, Input interface, std::string &) override
    {
        return std::vector<std::uint8_t>(interface.begin(), interface.end());
    }
    banyan::Result<std::vector<std::uint8_t>> open(Input, std::string &) override
    {
        return std::vector<std::uint8_t>(interface_.begin(), interface_.end());
    }
    banyan::Status install(std::string &) override { return {}; }

private:
    Input interface_;
};

void whole(Input input)
{
    std::string why;
    const auto parts = parse_snapshot(input, 3, why);
    require(parts ? parts->size() == 3 : !why.empty());
    if (parts) {
        std::vector<std::vector<std::uint8_t>> copies;
        for (const auto &part : *parts) {
            require(parse_part(part).has_value() && part.size() <= kSnapshotPartMax);
            copies.emplace_back(part.begin(), part.end());
        }
        const auto again = frame_snapshot(copies);
        require(std::equal(again.begin(), again.end(), input.begin(), input.end()));
    }
}

void part(Input input)
{
    if (const auto head = parse_part(input)) {
        const auto bytes = write_head(*head);
        require(std::equal(bytes.begin(), bytes.end(), input.begin()));
    }
    require(!open_part({}, input)); // nobody forges a tag
}

/// What is taken is a state that the instance could be in: it goes on from there and is saved as the same bytes.
void interface(Input input)
{
    InstanceConfig config;
    config.deterministic = true;
    config.irq = [](bool) {};
    config.setup.interface = input.size() > 1 && input[1] != 0 ? InterfaceKind::kCrb : InterfaceKind::kTis;
    config.setup.interrupts = input.size() > 2 && input[2] != 0;
    auto image = parse_interface(input, config.setup);
    if (!image) {
        return;
    }
    const PowerState state = image->state;
    const bool held = image->held;
    auto engine = std::make_shared<testing::FakeEngine>();
    Instance instance(config, std::make_unique<OpenLink>(engine, input));
    std::string why;
    require(instance.resume(std::move(*image), why).has_value());
    if (!held) { // nothing has happened since: it is saved as it came, but for what an instance without power forgets
        const auto saved = instance.save({}, 0, why);
        constexpr std::size_t kTime = 25; // of a response that is not there
        require(saved.has_value());
        if (state != PowerState::kOff) {
            require(saved->size() == input.size() &&
                    std::equal(saved->begin(), saved->begin() + kTime, input.begin()) &&
                    std::equal(saved->begin() + kTime + 8, saved->end(), input.begin() + kTime + 8));
        }
    }
    std::int64_t now = 0;
    for (std::uint32_t at = 0; at < 0x5000; at += 0x200) {
        for (const std::uint32_t reg : {0x00U, 0x18U, 0x24U, 0x80U}) {
            (void)instance.read((at & ~0xfffU) + reg, 4, now);
            instance.write((at & ~0xfffU) + reg, 1, at >> 9 | 0x20, now);
            now += 1'000'000;
        }
    }
    require(instance.state() == state || engine->health == Health::kDead);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size)
{
    if (size == 0) {
        return 0;
    }
    const Input rest(data + 1, size - 1);
    switch (data[0] % 3) {
    case 0:
        whole(rest);
        break;
    case 1:
        part(rest);
        break;
    default:
        interface(rest);
        break;
    }
    return 0;
}
