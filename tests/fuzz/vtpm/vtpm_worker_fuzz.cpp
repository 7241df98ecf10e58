// SPDX-License-Identifier: GPL-2.0-or-later
// A worker that was taken over: it writes anything anywhere into the shared page at any moment, rings or not, dies or
// not, while a guest uses its TPM. Whatever it does, the guest sees responses that are whole, or TPM_RC_FAILURE.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "vtpm/link/mailbox_host.hpp"
#include "vtpm/manager/instance.hpp"

namespace {

using namespace banyan::vtpm;

void require(bool what)
{
    if (!what) {
        std::abort();
    }
}

/// The worker's end: the page, and whether it lives. A new life begins with a page of its own.
struct Page {
    Mailbox box{};
    bool dead = false;
    bool off = true;
};

class PageLink final : public InstanceLink {
public:
    explicit PageLink(std::shared_ptr<Page> page) : page_(std::move(page)) {}

    void set_up(const TpmSetup & /*setup*/) override {}
    banyan::Status start(bool /*restore*/) override
    {
        std::memset(static_cast<void *>(&page_->box), 0, sizeof(page_->box));
        page_->dead = false;
        page_->off = false;
        host_.emplace();
        host_->attach(&page_->box);
        return {};
    }
    void stop() override { page_->dead = true; }
    banyan::Status erase() override { return {}; }
    bool erased() override { return false; }
    Health health() override
    {
        if (page_->off) {
            return Health::kOff;
        }
        if (page_->dead) {
            return !host_->ready() && host_->gave_up() ? Health::kRefused : Health::kDead;
        }
        return host_->ready() ? Health::kReady : Health::kBooting;
    }
    bool established() override { return host_ && host_->established(); }
    banyan::Status post(Op op, std::uint8_t locality, std::span<const std::uint8_t> bytes) override
    {
        if (!host_ || host_->pending() || bytes.size() > kTpmBufferSize) {
            return banyan::fail(banyan::Errc::kBadState);
        }
        host_->post(op, locality, bytes);
        return {};
    }
    std::optional<Answer> collect(std::span<std::uint8_t> into) override
    {
        if (!host_) {
            return std::nullopt;
        }
        const bool pending = host_->pending();
        const auto answer = host_->collect(into);
        require(!answer || (pending && !host_->pending() && answer->size <= into.size()));
        return answer;
    }
    void cancel() override
    {
        if (host_ && host_->pending()) {
            host_->cancel();
        }
    }
    std::shared_ptr<Waiter> waiter() override { return nullptr; }

private:
    std::shared_ptr<Page> page_;
    std::optional<MailboxHost> host_;
};

class Input {
public:
    Input(const std::uint8_t *data, std::size_t size) : data_(data), size_(size) {}
    [[nodiscard]] bool more() const { return at_ < size_; }
    std::uint8_t byte() { return more() ? data_[at_++] : 0; }

private:
    const std::uint8_t *data_;
    std::size_t size_;
    std::size_t at_ = 0;
};

constexpr std::uint32_t kAccessAt = 0x00;
constexpr std::uint32_t kStsAt = 0x18;
constexpr std::uint32_t kFifoAt = 0x24;
constexpr std::uint8_t kCommandReady = 0x40;
constexpr std::uint8_t kTpmGo = 0x20;
constexpr std::uint8_t kDataAvail = 0x10;

void send_command(Instance &instance, std::uint8_t code)
{
    instance.write(kAccessAt, 1, 2, 0);
    instance.write(kStsAt, 1, kCommandReady, 0);
    for (const std::uint8_t byte :
         {std::uint8_t{0x80}, std::uint8_t{1}, std::uint8_t{0}, std::uint8_t{0}, std::uint8_t{0}, std::uint8_t{10},
          std::uint8_t{0}, std::uint8_t{0}, std::uint8_t{1}, code}) {
        instance.write(kFifoAt, 1, byte, 0);
    }
    instance.write(kStsAt, 1, kTpmGo, 0);
}

void read_response(Instance &instance)
{
    const auto more = [&] {
        const auto sts = static_cast<std::uint8_t>(instance.read(kStsAt, 1, 0));
        return sts != 0xff && (sts & kDataAvail) != 0;
    };
    std::vector<std::uint8_t> response;
    while (more()) {
        response.push_back(static_cast<std::uint8_t>(instance.read(kFifoAt, 1, 0)));
        require(response.size() <= kTpmBufferSize);
    }
    require(response.empty() || response_header_ok(response)); // whole: nothing was read of it before
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size)
{
    Input input(data, size);
    auto page = std::make_shared<Page>();
    Instance instance({}, std::make_unique<PageLink>(page));
    (void)instance.power_on();
    auto *bytes = reinterpret_cast<std::uint8_t *>(&page->box);
    Mailbox::Worker &worker = page->box.worker;
    const std::uint8_t launch_data[8] = {};
    while (input.more()) {
        const std::uint8_t what = input.byte();
        const auto next_u32 = [&] {
            return static_cast<std::uint32_t>(input.byte()) | static_cast<std::uint32_t>(input.byte()) << 8 |
                   static_cast<std::uint32_t>(input.byte()) << 24;
        };
        switch (what & 15) {
        case 0: // anywhere in the three pages
            bytes[(static_cast<std::size_t>(input.byte()) << 8 | input.byte()) % sizeof(Mailbox)] = input.byte();
            break;
        case 1: // in the control words of both sides
            bytes[input.byte() % 128U] = input.byte();
            break;
        case 2:
            for (std::size_t i = 0, end = input.byte() % 80U; i < end; ++i) {
                page->box.answer[i] = input.byte();
            }
            break;
        case 3: // answers what was asked
        case 4: {
            static constexpr std::uint8_t kOk[] = {0x80, 1, 0, 0, 0, 12, 0, 0, 0, 0, 0xaa, 0xbb};
            std::memcpy(page->box.answer, kOk, sizeof(kOk));
            worker.size = (what & 0x80) != 0 ? input.byte() : sizeof(kOk);
            worker.status = (what & 0x40) != 0 ? input.byte() % 4 : 0;
            worker.response = page->box.host.request + ((what & 0x20) != 0 ? input.byte() : 0U);
            break;
        }
        case 5:
            worker.size = next_u32();
            break;
        case 6:
            worker.response = next_u32();
            break;
        case 7:
            worker.state = (what & 0x80) != 0 ? next_u32() : 1;
            worker.established = what & 1;
            break;
        case 8:
            page->dead = true;
            break;
        case 9:
        case 10:
            send_command(instance, input.byte());
            break;
        case 11:
            read_response(instance);
            break;
        case 12:
            (void)instance.launch(static_cast<LaunchEvent>(input.byte() % 3),
                                  std::span(launch_data).first(what >> 4 & 7));
            (void)instance.launch_poll();
            break;
        case 13:
            (void)((what & 0x80) != 0 ? instance.power_off() : instance.power_on());
            break;
        case 14:
            instance.write(kStsAt, 1, input.byte(), 0);
            break;
        default:
            (void)instance.state();
            (void)instance.json();
            break;
        }
    }
    return 0;
}
