// SPDX-License-Identifier: GPL-2.0-or-later
#include "cpu-ext/launch/launch.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "require.hpp"

// Any block header, any answers of the machine, any times of ticks and cancels: what is hashed is the measured prefix in
// order, entry comes after it, and the DMA window is closed for as long as a launch has begun to read.

using namespace banyan;
using namespace banyan::launch;

namespace {

struct FuzzHost : Host {
    const std::uint8_t *answers;
    std::size_t left;
    Block block{};
    bool closed[16] = {};
    std::uint32_t hashed[16] = {};
    bool failed[16] = {};

    FuzzHost(const std::uint8_t *data, std::size_t size) : answers(data), left(size) {}

    std::uint8_t next()
    {
        if (left == 0) {
            return 0xFF; // at the end everything succeeds
        }
        --left;
        return *answers++;
    }

    void window(std::uint32_t domain, std::uint64_t, bool close) override
    {
        REQUIRE(closed[domain] != close);
        closed[domain] = close;
        hashed[domain] = 0;
        failed[domain] = false;
    }
    bool drained(std::uint32_t) override { return next() > 20; }
    bool read_slb(std::uint32_t domain, std::uint64_t, Block &out) override
    {
        REQUIRE(closed[domain]);
        out = block;
        return next() > 3;
    }
    bool drtm(std::uint32_t domain, Drtm step, std::span<const std::uint8_t> data) override
    {
        REQUIRE(closed[domain]);
        if (step == Drtm::kData) {
            REQUIRE(!data.empty() && data.size() <= kChunk && hashed[domain] + data.size() <= kSlbSize);
            REQUIRE(std::equal(data.begin(), data.end(), block.begin() + hashed[domain]));
            hashed[domain] += static_cast<std::uint32_t>(data.size());
        }
        failed[domain] = failed[domain] || step == Drtm::kAbort;
        return next() > 1;
    }
    Poll drtm_poll(std::uint32_t) override
    {
        const std::uint8_t answer = next();
        return answer < 3 ? Poll::kFailed : answer < 60 ? Poll::kBusy : Poll::kDone;
    }
    void digest_begin(std::uint32_t, std::span<const std::uint8_t> bytes) override
    {
        REQUIRE(!bytes.empty() && bytes.size() <= kSlbSize);
    }
    std::optional<Digest> digest(std::uint32_t) override
    {
        return next() < 40 ? std::nullopt : std::optional(Digest{});
    }
    void enter(std::uint32_t, std::uint32_t domain, const EntryState &entry, const Digest &,
               const Times &times) override
    {
        REQUIRE(closed[domain]);
        REQUIRE(failed[domain] || hashed[domain] == entry.measured);
        REQUIRE(times.start_ns <= times.hash_start_ns && times.hash_start_ns <= times.hash_end_ns);
        REQUIRE(times.hash_end_ns <= times.entry_ns && times.wait_for_other_domain_ns >= 0);
        closed[domain] = false; // the loader lifts it
    }
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size)
{
    if (size < 8) {
        return 0;
    }
    FuzzHost host(data + 8, size - 8);
    std::memcpy(host.block.data(), data, 4);
    for (std::size_t i = 4; i < host.block.size(); ++i) {
        host.block[i] = static_cast<std::uint8_t>(i * 7 + i / 256);
    }
    const std::uint64_t rates[] = {0, 1, 999, 1'000'000, ~std::uint64_t{0}};
    Launches launches({rates[data[4] % 5], (data[5] & 1) != 0, data[6]}, host);
    std::int64_t due[16] = {};
    std::int64_t now = 0;
    const auto pick = [&] { return static_cast<std::uint32_t>(host.next() & 15); };
    for (int i = 0; i < 4000; ++i) {
        const std::uint32_t domain = host.left != 0 ? pick() : static_cast<std::uint32_t>(i & 15);
        const std::uint8_t what = host.next();
        if (!launches.is_open(domain)) {
            if (host.left != 0) {
                const auto first = launches.begin(domain, domain, std::uint64_t{domain} << 16, now);
                REQUIRE(first && *first == now);
                due[domain] = now;
            }
        } else if (what < 8) {
            launches.cancel(domain);
            REQUIRE(!host.closed[domain]);
        } else {
            now = std::max(now, what < 30 ? now : due[domain]); // sometimes too early
            std::int64_t next = 0;
            const auto progress = launches.tick(domain, now, next);
            if (progress && *progress == Launches::Progress::kBusy) {
                REQUIRE(next > now);
                due[domain] = next;
            } else {
                REQUIRE(!launches.is_open(domain) && !host.closed[domain]);
            }
        }
        if (host.left == 0) {
            bool open = false;
            for (std::uint32_t d = 0; d < 16; ++d) {
                open = open || launches.is_open(d);
            }
            if (!open) {
                return 0;
            }
        }
    }
    launches.reset();
    for (const bool closed : host.closed) {
        REQUIRE(!closed);
    }
    return 0;
}
