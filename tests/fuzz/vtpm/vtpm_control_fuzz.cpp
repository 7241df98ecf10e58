// SPDX-License-Identifier: GPL-2.0-or-later
// Clients of `banyan vtpm serve` at all four kinds of socket of one instance, and a worker that answers, lies and dies
// as the input says. The first byte is the policy; then actions of one byte each, some with bytes after them.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <vector>

#include "vtpm/serve/control_machine.hpp"
#include "vtpm/serve/streams.hpp"

namespace {

using namespace banyan::vtpm;

void require(bool what)
{
    if (!what) {
        std::abort();
    }
}

/// What the machine asked of its engine, and what the engine does next.
struct Engine {
    bool pending = false;
    Op op{};
    std::optional<Answer::Kind> answer;
    std::size_t size = 0;
    std::vector<std::uint8_t> bytes;
    Health health = Health::kOff;
    bool gave_up = false;
    bool busy = false; // the next start has no room
    bool hash_open = false;
    ServePolicy policy;
};

class Link final : public InstanceLink {
public:
    explicit Link(std::shared_ptr<Engine> engine) : engine_(std::move(engine)) {}
    void set_up(const TpmSetup &setup) override
    {
        require(setup.buffer_size >= swtpm::kBufferMin && setup.buffer_size <= swtpm::kBufferMax);
    }
    banyan::Status start(bool restore) override
    {
        require(!restore || !engine_->hash_open); // no older state comes back
        engine_->hash_open = false;
        engine_->pending = false;
        engine_->answer.reset();
        if (std::exchange(engine_->busy, false)) {
            return banyan::fail(banyan::Errc::kBusy);
        }
        engine_->health = Health::kBooting;
        return {};
    }
    void stop() override { engine_->health = Health::kDead; }
    banyan::Status erase() override { return {}; }
    bool erased() override { return false; }
    Health health() override { return engine_->health; }
    bool gave_up() override { return engine_->gave_up; }
    bool established() override { return false; }
    banyan::Status post(Op op, std::uint8_t locality, std::span<const std::uint8_t> bytes) override
    {
        const bool hash = op == Op::kHashStart || op == Op::kHashData || op == Op::kHashEnd;
        const bool state = op == Op::kReadState || op == Op::kWriteState || op == Op::kAdoptState;
        require(!engine_->pending && bytes.size() <= kTpmBufferSize && locality <= 4);
        require(engine_->policy.drtm_by_client || (!hash && locality < 4));
        require(engine_->policy.state_export || !state);
        require(op != Op::kCommand || command_header_ok(bytes));
        engine_->hash_open = engine_->hash_open || op == Op::kHashStart;
        engine_->pending = true;
        engine_->op = op;
        engine_->answer.reset();
        return {};
    }
    std::optional<Answer> collect(std::span<std::uint8_t> into) override
    {
        if (!engine_->pending || !engine_->answer) {
            return std::nullopt;
        }
        engine_->pending = false;
        const Answer answer{*std::exchange(engine_->answer, std::nullopt), std::min(engine_->size, into.size())};
        std::copy_n(engine_->bytes.begin(), std::min(engine_->bytes.size(), answer.size), into.begin());
        if (engine_->op == Op::kHashEnd && answer.kind == Answer::Kind::kOk) {
            engine_->hash_open = false;
        }
        return answer;
    }
    void cancel() override {}
    std::shared_ptr<Waiter> waiter() override { return nullptr; }

private:
    std::shared_ptr<Engine> engine_;
};

struct Client {
    std::unique_ptr<ClientStream> stream;
    std::vector<std::uint8_t> in;
    bool waiting = false;
    bool gone = false;
};

std::unique_ptr<ClientStream> stream_of(unsigned kind)
{
    switch (kind % 4) {
    case 0:
        return std::make_unique<ControlStream>();
    case 1:
        return std::make_unique<CommandStream>();
    case 2:
        return std::make_unique<MssimCommandStream>();
    default:
        return std::make_unique<MssimPlatformStream>();
    }
}

class Play {
public:
    Play(const std::uint8_t *data, std::size_t size) : data_(data), size_(size)
    {
        const std::uint8_t policy = next();
        engine_->policy = {(policy & 1) != 0, (policy & 2) != 0, (policy & 4) != 0};
        machine_ = std::make_unique<ControlMachine>(engine_->policy, information_, std::make_unique<Link>(engine_));
        for (unsigned i = 0; i < 8; ++i) {
            clients_.push_back({stream_of(i), {}, false, false});
        }
    }

    void run()
    {
        while (at_ < size_) {
            const std::uint8_t what = next();
            Client &client = clients_[what % clients_.size()];
            switch (what >> 5) {
            case 0:
            case 1:
            case 2:
            case 3: // bytes
                for (unsigned i = next() % 64; i > 0 && client.in.size() < ClientStream::kInputMax; --i) {
                    client.in.push_back(next());
                }
                break;
            case 4: // many bytes
                client.in.resize(std::min<std::size_t>(client.in.size() + 1000, ClientStream::kInputMax), what);
                break;
            case 5: // it leaves, another comes
                machine_->forget(1 + what % clients_.size());
                client = {stream_of(what), {}, false, false};
                break;
            case 6:
                engine_->health = static_cast<Health>(next() % 5);
                engine_->busy = (what & 1) != 0;
                engine_->gave_up = (what & 2) != 0;
                break;
            default:
                answer(what);
                break;
            }
            machine_->service();
            deliver();
            for (std::size_t i = 0; i < clients_.size(); ++i) {
                advance(i);
            }
        }
    }

private:
    std::uint8_t next() { return at_ < size_ ? data_[at_++] : std::uint8_t{0}; }

    /// As MailboxHost gives it on: well-formed, or hostile.
    void answer(std::uint8_t what)
    {
        if (!engine_->pending) {
            return;
        }
        engine_->answer = static_cast<Answer::Kind>(what % 4);
        engine_->bytes.assign(4 + next() % 32, next());
        engine_->size = engine_->bytes.size();
        if (engine_->op == Op::kReadState && (what & 8) != 0) {
            std::fill_n(engine_->bytes.begin(), 3, 0);
        }
    }

    void advance(std::size_t which)
    {
        Client &client = clients_[which];
        for (unsigned i = 0; i < 100 && !client.waiting && !client.gone; ++i) {
            auto taken = client.stream->take(client.in);
            require(taken.consumed <= client.in.size());
            client.in.erase(client.in.begin(), client.in.begin() + static_cast<long>(taken.consumed));
            if (taken.broken) {
                client.gone = true;
            } else if (taken.request) {
                require(taken.request->data.size() <= kTpmBufferSize);
                client.waiting = true;
                machine_->request(1 + which, std::move(*taken.request));
                deliver();
            } else if (taken.consumed == 0) {
                require(client.in.size() < ClientStream::kInputMax); // else it would wait for ever
                return;
            }
        }
    }

    void deliver()
    {
        while (auto given = machine_->next_answer()) {
            if (given->client == 0) {
                continue;
            }
            Client &client = clients_.at(given->client - 1);
            require(client.waiting); // one reply to a request
            client.waiting = false;
            const auto encoded = client.stream->encode(given->reply);
            require(encoded.bytes.size() <= 2 * kStateMax);
            client.gone = client.gone || encoded.close;
        }
    }

    const std::uint8_t *data_;
    std::size_t size_;
    std::size_t at_ = 0;
    TpmInformation information_{"{}", "one", "two", "three"};
    std::shared_ptr<Engine> engine_ = std::make_shared<Engine>();
    std::unique_ptr<ControlMachine> machine_;
    std::vector<Client> clients_;
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size)
{
    Play(data, size).run();
    return 0;
}
