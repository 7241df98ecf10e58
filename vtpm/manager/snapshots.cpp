// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/manager/snapshots.hpp"

#include <algorithm>
#include <utility>

#include "vtpm/link/snapshot.hpp"

namespace banyan::vtpm {
namespace {

std::string about(std::size_t instance, const std::string &why)
{
    return "vTPM instance " + std::to_string(instance) + ": " + (why.empty() ? "it failed" : why);
}

} // namespace

Snapshots::Snapshots(EngineLink &engine, std::span<const std::unique_ptr<Instance>> instances, bool incoming)
    : engine_(engine),
      instances_(instances),
      away_(incoming),
      incoming_(incoming)
{}

Result<std::vector<std::uint8_t>> Snapshots::save(std::int64_t now_ns, bool hand_over, std::string &why)
{
    SealOrder order;
    order.count = static_cast<std::uint32_t>(instances_.size());
    std::vector<std::vector<std::uint8_t>> parts;
    for (std::size_t i = 0; i < instances_.size(); ++i) {
        std::string text;
        order.first = i == 0;
        auto part = instances_[i]->save(order, now_ns, text);
        if (!part) {
            why = about(i, text);
            return fail(part.error());
        }
        parts.push_back(std::move(*part));
    }
    if (hand_over) {
        if (const Status yielded = engine_.ask(ControlKind::kYield, 0, nullptr, why); !yielded) {
            return fail(yielded.error());
        }
        const std::lock_guard lock(mutex_);
        away_ = true;
    }
    return frame_snapshot(parts);
}

Status Snapshots::load(std::span<const std::uint8_t> bytes, std::string &why)
{
    BANYAN_TRY(const auto parts, parse_snapshot(bytes, static_cast<std::uint32_t>(instances_.size()), why));
    std::vector<InterfaceImage> images;
    for (std::size_t i = 0; i < parts.size(); ++i) { // all of it is good before any of it counts
        std::string text;
        auto image = instances_[i]->open(parts[i], text);
        if (!image) {
            why = about(i, text);
            return fail(image.error());
        }
        images.push_back(std::move(*image));
    }
    Status all;
    for (std::size_t i = 0; i < images.size(); ++i) {
        std::string text;
        if (const Status resumed = instances_[i]->resume(std::move(images[i]), text); !resumed && all) {
            why = about(i, text);
            all = resumed;
        }
    }
    if (all) {
        const std::lock_guard lock(mutex_);
        away_ = false;
        incoming_ = false;
        deferred_.clear();
    }
    return all;
}

std::vector<std::uint32_t> Snapshots::back_home()
{
    const std::lock_guard lock(mutex_);
    away_ = false;
    return std::exchange(deferred_, {});
}

Status Snapshots::run(std::string &why)
{
    {
        const std::lock_guard lock(mutex_);
        if (!away_) {
            return {};
        }
    }
    const Status taken = engine_.ask(ControlKind::kTake, 0, nullptr, why);
    if (!taken) {
        for (const auto &instance : instances_) {
            instance->lose();
        }
        return taken;
    }
    const auto wanted = back_home();
    if (std::exchange(incoming_, false)) {
        why = "no state of the vTPM came with the machine: its instances stay off until the next reset";
        return fail(Errc::kNotFound);
    }
    for (const std::uint32_t instance : wanted) {
        (void)instances_[instance]->power_on();
    }
    return {};
}

bool Snapshots::defer_power_on(std::uint32_t instance)
{
    const std::lock_guard lock(mutex_);
    if (away_ && std::find(deferred_.begin(), deferred_.end(), instance) == deferred_.end()) {
        deferred_.push_back(instance);
    }
    return away_;
}

} // namespace banyan::vtpm
