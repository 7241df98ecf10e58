// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>
#include <sched.h>

#include "tests/bench/vtpm_load/side.hpp"
#include "vtpm/chip/tis_regs.hpp"
#include "vtpm/link/engine_link.hpp"
#include "vtpm/manager/instance.hpp"

namespace banyan::bench {
namespace {

using namespace banyan::vtpm;

class Ours final : public Side {
public:
    Ours(const std::string &engine, const std::string &folder, unsigned count) : answers_(count)
    {
        std::string why;
        EngineLink::Options options;
        options.engine = engine;
        options.platform = folder;
        options.instances = count;
        auto started = EngineLink::start(options, why);
        if (!started) {
            give_up(why);
        }
        engine_ = std::move(*started);
        for (unsigned i = 0; i < count; ++i) {
            InstanceConfig config;
            config.sync_bound_ns = 2'000'000'000; // until the answer is there, as who reads a socket
            instances_.push_back(std::make_unique<Instance>(config, engine_->instance(i)));
        }
    }

    void start(unsigned index) override
    {
        Instance &instance = *instances_[index];
        if (!instance.power_on()) {
            give_up("an instance cannot be powered on");
        }
        PowerState state = PowerState::kStarting;
        while ((state = instance.state()) == PowerState::kStarting) {
            ::sched_yield();
        }
        if (state != PowerState::kReady) {
            engine_->pump();
            std::string why = "instance " + std::to_string(index) + " did not start";
            for (const LinkEvent &event : engine_->take_events()) {
                why += "; " + event.kind + ": " + event.text;
            }
            give_up(why);
        }
        write(instance, tis::Reg::kAccess, tis::Access::RequestUse::kMask, 1);
    }

    const Bytes &command(unsigned index, const Bytes &bytes) override
    {
        Instance &instance = *instances_[index];
        Bytes &answer = answers_[index];
        write(instance, tis::Reg::kSts, tis::Sts::CommandReady::kMask, 1);
        while (!tis::Sts::CommandReady::get(status(instance))) {
        }
        for (std::size_t at = 0; at < bytes.size();) {
            const std::size_t width = bytes.size() - at >= 8 ? 8 : 1;
            std::uint64_t word = 0;
            for (std::size_t i = 0; i < width; ++i) {
                word |= std::uint64_t{bytes[at + i]} << (8 * i);
            }
            write(instance, tis::Reg::kXdataFifo, word, static_cast<unsigned>(width));
            at += width;
        }
        write(instance, tis::Reg::kSts, tis::Sts::TpmGo::kMask, 1);
        std::uint32_t now = 0;
        while (!tis::Sts::DataAvail::get(now = status(instance))) {
        }
        answer.clear();
        for (std::uint32_t left = tis::Sts::BurstCount::get(now); left > 0;) {
            const unsigned width = left >= 8 ? 8 : 1;
            std::uint64_t word = instance.read(static_cast<std::uint32_t>(tis::Reg::kXdataFifo), width, 0);
            for (unsigned i = 0; i < width; ++i, word >>= 8) {
                answer.push_back(static_cast<std::uint8_t>(word));
            }
            left -= width;
        }
        return answer;
    }

private:
    static void write(Instance &instance, tis::Reg reg, std::uint64_t value, unsigned width)
    {
        instance.write(static_cast<std::uint32_t>(reg), width, value, 0);
    }
    static std::uint32_t status(Instance &instance)
    {
        return static_cast<std::uint32_t>(instance.read(static_cast<std::uint32_t>(tis::Reg::kSts), 4, 0));
    }

    std::unique_ptr<EngineLink> engine_;
    std::vector<std::unique_ptr<Instance>> instances_;
    std::vector<Bytes> answers_;
};

} // namespace

std::unique_ptr<Side> make_ours(const std::string &engine, const std::string &folder, unsigned count)
{
    return std::make_unique<Ours>(engine, folder, count);
}

} // namespace banyan::bench
