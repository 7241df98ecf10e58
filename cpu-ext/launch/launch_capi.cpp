// SPDX-License-Identifier: GPL-2.0-or-later
#include "banyan/capi/launch.h"

#include <new>

#include "banyan/capi/vtpm.h"
#include "cpu-ext/launch/launch.hpp"

namespace {

using namespace banyan::launch;
using banyan::Errc;

constexpr banyan_status to_c(Errc why)
{
    return -static_cast<banyan_status>(why);
}

class CHost final : public Host {
public:
    CHost(const banyan_launch_host_ops &ops, void *opaque) : ops_(ops), opaque_(opaque) {}

    void window(std::uint32_t domain, std::uint64_t slb, bool closed) override
    {
        ops_.window(opaque_, domain, slb, closed ? 1 : 0);
    }
    bool drained(std::uint32_t domain) override { return ops_.drained(opaque_, domain) != 0; }
    bool read_slb(std::uint32_t domain, std::uint64_t slb, Block &out) override
    {
        return ops_.read_slb(opaque_, domain, slb, out.data()) >= 0;
    }
    bool drtm(std::uint32_t domain, Drtm step, std::span<const std::uint8_t> data) override
    {
        banyan_drtm_step number = BANYAN_DRTM_ABORT;
        switch (step) {
        case Drtm::kStart:
            number = BANYAN_DRTM_START;
            break;
        case Drtm::kData:
            number = BANYAN_DRTM_DATA;
            break;
        case Drtm::kEnd:
            number = BANYAN_DRTM_END;
            break;
        case Drtm::kAbort:
            break;
        }
        return ops_.drtm(opaque_, domain, number, data.data(), static_cast<std::uint32_t>(data.size())) >= 0;
    }
    Poll drtm_poll(std::uint32_t domain) override
    {
        const banyan_status rc = ops_.drtm_poll(opaque_, domain);
        if (rc == BANYAN_BUSY) {
            return Poll::kBusy;
        }
        return rc == BANYAN_OK ? Poll::kDone : Poll::kFailed;
    }
    void digest_begin(std::uint32_t domain, std::span<const std::uint8_t> data) override
    {
        ops_.digest_begin(opaque_, domain, data.data(), data.size());
    }
    std::optional<Digest> digest(std::uint32_t domain) override
    {
        Digest digest;
        if (ops_.digest_poll(opaque_, domain, digest.data()) != BANYAN_OK) {
            return std::nullopt;
        }
        return digest;
    }
    void enter(std::uint32_t core, std::uint32_t domain, const EntryState &entry, const Digest &digest,
               const Times &times) override
    {
        const banyan_launch_entry c_entry{sizeof(c_entry), entry.slb, entry.eip, entry.esp, entry.measured};
        const banyan_launch_times c_times{sizeof(c_times),   times.start_ns, times.hash_start_ns,
                                          times.hash_end_ns, times.entry_ns, times.wait_for_other_domain_ns};
        ops_.enter(opaque_, core, domain, &c_entry, digest.data(), &c_times);
    }

private:
    const banyan_launch_host_ops ops_;
    void *const opaque_;
};

bool complete(const banyan_launch_host_ops &ops)
{
    return ops.window != nullptr && ops.drained != nullptr && ops.read_slb != nullptr && ops.drtm != nullptr &&
           ops.drtm_poll != nullptr && ops.digest_begin != nullptr && ops.digest_poll != nullptr &&
           ops.enter != nullptr;
}

static_assert(kChunk == BANYAN_DRTM_DATA_MAX);

} // namespace

struct banyan_launch {
    CHost host;
    Launches launches;

    banyan_launch(const Config &config, const banyan_launch_host_ops &ops, void *opaque)
        : host(ops, opaque),
          launches(config, host)
    {}
};

banyan_status banyan_launch_create(const banyan_launch_config *config, const banyan_launch_host_ops *ops, void *opaque,
                                   banyan_launch **out)
{
    if (config == nullptr || ops == nullptr || out == nullptr || config->size < sizeof(*config) ||
        ops->size < sizeof(*ops) || !complete(*ops)) {
        return to_c(Errc::kBadArgument);
    }
    *out = new (std::nothrow) banyan_launch({config->hash_rate, config->serial != 0, config->poll_ns}, *ops, opaque);
    return *out == nullptr ? to_c(Errc::kNoSpace) : BANYAN_OK;
}

void banyan_launch_destroy(banyan_launch *launch)
{
    delete launch;
}

banyan_status banyan_launch_begin(banyan_launch *launch, std::uint32_t core, std::uint32_t domain, std::uint64_t slb,
                                  std::int64_t now_ns, std::int64_t *next_ns)
{
    const auto first = launch->launches.begin(core, domain, slb, now_ns);
    if (!first) {
        return to_c(first.error());
    }
    *next_ns = *first;
    return BANYAN_OK;
}

banyan_status banyan_launch_tick(banyan_launch *launch, std::uint32_t domain, std::int64_t now_ns,
                                 std::int64_t *next_ns)
{
    const auto progress = launch->launches.tick(domain, now_ns, *next_ns);
    if (!progress) {
        return to_c(progress.error());
    }
    return *progress == Launches::Progress::kBusy ? BANYAN_BUSY : BANYAN_OK;
}

void banyan_launch_cancel(banyan_launch *launch, std::uint32_t domain)
{
    launch->launches.cancel(domain);
}

int banyan_launch_open(const banyan_launch *launch, std::uint32_t domain)
{
    return launch->launches.is_open(domain) ? 1 : 0;
}

void banyan_launch_reset(banyan_launch *launch)
{
    launch->launches.reset();
}
