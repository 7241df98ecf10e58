// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/serve/control_machine.hpp"

#include <algorithm>
#include <utility>

#include "vtpm/chip/tpm_header.hpp"

namespace banyan::vtpm {
namespace {

using R = swtpm::Result;

constexpr std::uint8_t kDrtmLocality = 4;
constexpr std::uint8_t kLocalityMax = 4;
constexpr std::uint8_t kResetEstablishedFrom = 3; // PTP 1.05, section 3.5.4
constexpr std::size_t kStateHead = 8;             // kind and offset

ServeBytes error_bytes(TpmRc why)
{
    const auto response = error_response(why);
    return {response.begin(), response.end()};
}

ServeBytes state_head(std::uint32_t kind, std::uint32_t offset)
{
    ServeBytes bytes;
    append_be32(bytes, kind);
    append_be32(bytes, offset);
    return bytes;
}

} // namespace

ControlMachine::ControlMachine(const ServePolicy &policy, const TpmInformation &information,
                               std::unique_ptr<InstanceLink> link)
    : policy_(policy),
      information_(information),
      link_(std::move(link)),
      into_(kTpmBufferSize),
      buffer_size_(kTpmBufferSize)
{}

void ControlMachine::answer(Client client, Reply reply)
{
    answers_.push_back({client, std::move(reply)});
}

std::optional<ControlMachine::Answer> ControlMachine::next_answer()
{
    if (answers_.empty()) {
        return std::nullopt;
    }
    Answer first = std::move(answers_.front());
    answers_.pop_front();
    return first;
}

/// What becomes of a request that is not performed.
void ControlMachine::answer_not_done(Client client, const Request &request, R why)
{
    Reply reply{.result = why, .data = {}};
    if (request.verb == Verb::kCommand) {
        reply.data = error_bytes(TpmRc::kFailure);
    }
    answer(client, std::move(reply));
}

/// None: allowed.
std::optional<R> ControlMachine::refusal(const Request &request) const
{
    switch (request.verb) {
    case Verb::kHashStart:
    case Verb::kHashData:
    case Verb::kHashEnd:
        return policy_.drtm_by_client ? std::nullopt : std::optional(R::kBadOrdinal);
    case Verb::kGetState:
    case Verb::kSetState:
        return policy_.state_export ? std::nullopt : std::optional(R::kBadOrdinal);
    case Verb::kSetLocality:
    case Verb::kResetEstablished:
    case Verb::kCommand: {
        const std::uint8_t locality = request.locality.value_or(0);
        const bool allowed = locality <= kLocalityMax && (locality != kDrtmLocality || policy_.drtm_by_client);
        return allowed ? std::nullopt : std::optional(R::kBadLocality);
    }
    default:
        return std::nullopt;
    }
}

bool ControlMachine::answered_at_once(Client client, const Request &request)
{
    Reply reply{.data = {}};
    switch (request.verb) {
    case Verb::kUnknown:
        reply.result = R::kBadOrdinal;
        break;
    case Verb::kGetCapability:
        for (const swtpm::CodeSpec &one : swtpm::kCodes) {
            const bool hash = one.code == swtpm::Code::kHashStart || one.code == swtpm::Code::kHashData ||
                              one.code == swtpm::Code::kHashEnd;
            const bool blob = one.code == swtpm::Code::kGetStateBlob || one.code == swtpm::Code::kSetStateBlob;
            if ((!hash || policy_.drtm_by_client) && (!blob || policy_.state_export)) {
                reply.capabilities |= one.capability;
            }
        }
        break;
    case Verb::kGetConfig:
    case Verb::kLockStorage: // it is locked while the engine runs
        break;
    case Verb::kGetInfo: {
        const std::string &text = information_[request.number & (swtpm::kInfoSpecification | swtpm::kInfoAttributes)];
        const std::size_t total = text.size() + 1; // with the zero at its end
        reply.total = static_cast<std::uint32_t>(total);
        if (request.offset >= total) {
            reply.result = R::kBadParameter;
            break;
        }
        reply.data.assign(text.c_str() + request.offset, text.c_str() + total);
        break;
    }
    case Verb::kSetDataFd:
        reply.result = request.number != 0 ? R::kSuccess : R::kIoError; // a descriptor came along
        break;
    case Verb::kSetBufferSize:
        if (request.number != 0) {
            if (state_ != ServeState::kOff && state_ != ServeState::kFailed) {
                reply.result = R::kBadOrdinal;
                break;
            }
            buffer_size_ = static_cast<std::uint32_t>(
                std::clamp<std::uint64_t>(request.number, swtpm::kBufferMin, swtpm::kBufferMax));
        }
        reply.buffer_size = buffer_size_;
        break;
    case Verb::kSetLocality:
        locality_ = *request.locality;
        break;
    case Verb::kCancel:
        if (state_ == ServeState::kOff) {
            reply.result = R::kBadOrdinal;
        } else if (job_ && job_->request.verb == Verb::kCommand) {
            link_->cancel();
        }
        break;
    case Verb::kSetState:
        reply.result = take_blob_part(request);
        break;
    default:
        return false;
    }
    answer(client, std::move(reply));
    return true;
}

bool ControlMachine::power(Client client, const Request &request)
{
    switch (request.verb) {
    case Verb::kPowerOn:
        if (state_ != ServeState::kOff && state_ != ServeState::kFailed) {
            answer(client, R::kSuccess);
            return true;
        }
        [[fallthrough]];
    case Verb::kInit:
        answer_initializer(R::kFail);
        initializer_ = client;
        ++counters_.inits;
        event(ServeEvent::kInit);
        return true;
    case Verb::kStop:
    case Verb::kShutdown:
        event(ServeEvent::kStop);
        if (request.verb == Verb::kShutdown) {
            be_as_new();
        }
        answer(client, R::kSuccess);
        return true;
    default:
        return false;
    }
}

void ControlMachine::request(Client client, Request request)
{
    if (const auto why = refusal(request)) {
        ++counters_.refused;
        Reply reply{.result = *why, .data = {}};
        if (request.verb == Verb::kCommand) {
            reply.data = error_bytes(TpmRc::kLocality);
        }
        answer(client, std::move(reply));
        return;
    }
    if (answered_at_once(client, request)) {
        return;
    }
    if (power(client, request)) {
        service();
        return;
    }
    if (request.verb == Verb::kHashStart) { // goes before what waits, and ends what runs
        if (job_ && job_->request.verb == Verb::kCommand) {
            link_->cancel();
        }
        waiting_.push_front({client, std::move(request), {}});
    } else {
        waiting_.push_back({client, std::move(request), {}});
    }
    service();
}

void ControlMachine::forget(Client client)
{
    std::erase_if(waiting_, [&](const Job &one) { return one.client == client; });
    std::erase_if(answers_, [&](const Answer &one) { return one.client == client; });
    if (job_ && job_->client == client) {
        job_->client = 0;
    }
    if (initializer_ == client) {
        initializer_.reset();
    }
}

// Power ------------------------------------------------------------------------------------------------------

void ControlMachine::event(ServeEvent what)
{
    if (what == ServeEvent::kDied && (hash_open_ || ++deaths_ > kDeathsMax)) {
        what = ServeEvent::kHopeless;
    }
    const ServeStep result = step(state_, what);
    state_ = result.next;
    switch (result.action) {
    case ServeAction::kIgnore:
        break;
    case ServeAction::kStart:
        start();
        break;
    case ServeAction::kStartAgain:
        put_in_at_ = 0;
        putting_in_ = false;
        ++counters_.restarts;
        start_link(from_checkpoint_);
        break;
    case ServeAction::kRestore:
        fail_job();
        ++counters_.restarts;
        start_link(true);
        break;
    case ServeAction::kServe:
        put_in_.clear();
        put_in_at_ = 0;
        established_ = link_->established() || established_;
        answer_initializer(R::kSuccess);
        break;
    case ServeAction::kStop:
    case ServeAction::kFail:
        fail_job();
        put_in_.clear();
        put_in_at_ = 0;
        putting_in_ = false;
        start_again_.reset();
        link_->stop();
        answer_initializer(R::kFail);
        break;
    }
}

/// What a client set up is not for the next one: swtpm would have ended here.
void ControlMachine::be_as_new()
{
    locality_ = 0;
    buffer_size_ = kTpmBufferSize;
    permanent_ = {};
    volatile_ = {};
}

/// _TPM_Init: from the durable state, from blobs that were put in, or on from where the last life was stored.
void ControlMachine::start()
{
    fail_job();
    put_in_.clear();
    put_in_at_ = 0;
    putting_in_ = false;
    const Blob permanent = std::exchange(permanent_, {});
    const Blob running = std::exchange(volatile_, {});
    const bool blobs = permanent.whole && !permanent.bytes.empty();
    if (blobs) {
        queue_blob(swtpm::BlobType::kPermanent, permanent.bytes);
        if (running.whole) {
            queue_blob(swtpm::BlobType::kVolatile, running.bytes);
        }
        put_in_.push_back({Op::kAdoptState, {}});
    }
    from_checkpoint_ = std::exchange(resume_, false) && !blobs;
    hash_open_ = false;
    established_ = false;
    deaths_ = 0;
    TpmSetup setup;
    setup.buffer_size = buffer_size_;
    setup.client_startup = policy_.startup && !blobs ? 0 : 1;
    link_->set_up(setup);
    start_link(from_checkpoint_);
}

void ControlMachine::start_link(bool restore)
{
    const Status started = link_->start(restore);
    start_again_ = !started && started.error() == Errc::kBusy ? std::optional(restore) : std::nullopt;
    if (!started && !start_again_) {
        event(ServeEvent::kHopeless);
    }
}

void ControlMachine::queue_blob(swtpm::BlobType type, const ServeBytes &bytes)
{
    for (std::size_t at = 0; at < bytes.size();) {
        const std::size_t size = std::min(bytes.size() - at, kTpmBufferSize - kStateHead);
        ServeBytes part = state_head(static_cast<std::uint32_t>(type), static_cast<std::uint32_t>(at));
        part.insert(part.end(), bytes.begin() + static_cast<long>(at), bytes.begin() + static_cast<long>(at + size));
        put_in_.push_back({Op::kWriteState, std::move(part)});
        at += size;
    }
}

void ControlMachine::answer_initializer(R result)
{
    if (initializer_) {
        answer(*std::exchange(initializer_, std::nullopt), result);
    }
}

void ControlMachine::fail_job()
{
    if (job_) {
        answer_not_done(job_->client, job_->request, R::kFail);
        job_.reset();
    }
}

void ControlMachine::service()
{
    if (state_ == ServeState::kStarting || state_ == ServeState::kRecovering) {
        watch_start();
    }
    if (state_ == ServeState::kOn) {
        watch_job();
    }
    begin_next();
}

void ControlMachine::watch_start()
{
    if (start_again_) {
        start_link(*start_again_);
        return;
    }
    switch (link_->health()) {
    case Health::kBooting:
        return;
    case Health::kOff:
    case Health::kRefused:
        event(ServeEvent::kHopeless);
        return;
    case Health::kDead:
        event(putting_in_ && link_->gave_up() ? ServeEvent::kHopeless : ServeEvent::kDied); // a blob that is none
        return;
    case Health::kReady:
        break;
    }
    if (putting_in_) {
        const auto done = link_->collect(into_);
        if (!done) {
            return;
        }
        putting_in_ = false;
        ++put_in_at_;
        if (done->kind != vtpm::Answer::Kind::kOk) {
            event(ServeEvent::kHopeless);
            return;
        }
    }
    if (put_in_at_ == put_in_.size()) {
        event(ServeEvent::kReady);
        return;
    }
    const Operation &next = put_in_[put_in_at_];
    putting_in_ = link_->post(next.op, 0, next.bytes).has_value();
    if (!putting_in_) {
        event(ServeEvent::kHopeless);
    }
}

void ControlMachine::watch_job()
{
    if (job_) {
        if (const auto done = link_->collect(into_)) {
            take_in(*done);
            return;
        }
    }
    if (const Health health = link_->health(); health != Health::kDead && health != Health::kRefused) {
        return;
    }
    if (job_) { // it may have answered with its last breath
        if (const auto done = link_->collect(into_)) {
            take_in(*done);
        }
    }
    if (state_ == ServeState::kOn) {
        event(ServeEvent::kDied);
    }
}

// Work -------------------------------------------------------------------------------------------------------

void ControlMachine::begin_next()
{
    while (!job_ && !waiting_.empty() && state_ != ServeState::kStarting && state_ != ServeState::kRecovering) {
        job_ = std::move(waiting_.front());
        waiting_.pop_front();
        if (state_ == ServeState::kOn) {
            begin();
        } else {
            // The same answer whether its worker's death was seen before the request or after.
            answer_not_done(job_->client, job_->request, state_ == ServeState::kFailed ? R::kFail : R::kBadOrdinal);
            job_.reset();
        }
    }
}

void ControlMachine::begin()
{
    const Request &request = job_->request;
    const auto done = [&](Reply reply) {
        answer(job_->client, std::move(reply));
        job_.reset();
    };
    const auto result = [&](R what) { done(Reply{.result = what, .data = {}}); };
    switch (request.verb) {
    case Verb::kCommand: {
        ++counters_.commands;
        const std::uint8_t locality = request.locality.value_or(locality_);
        if (!command_header_ok(request.data) || request.data.size() > buffer_size_) {
            return done(Reply{.data = error_bytes(TpmRc::kCommandSize)});
        }
        return post(Op::kCommand, locality, request.data);
    }
    case Verb::kGetEstablished:
        return done(Reply{.established = established_, .data = {}});
    case Verb::kResetEstablished:
        if (*request.locality < kResetEstablishedFrom) {
            return result(R::kBadLocality);
        }
        return post(Op::kResetEstablished, *request.locality, {});
    case Verb::kHashStart:
        hash_open_ = true;
        return post(Op::kHashStart, kDrtmLocality, {});
    case Verb::kHashData:
        if (!hash_open_) {
            return result(R::kFail);
        }
        if (request.data.empty()) {
            return result(R::kSuccess);
        }
        return post(Op::kHashData, kDrtmLocality, request.data);
    case Verb::kHashEnd:
        if (!hash_open_) {
            return result(R::kFail);
        }
        return post(Op::kHashEnd, kDrtmLocality, {});
    case Verb::kStoreVolatile:
        resume_ = !hash_open_; // the worker's checkpoint is of now, and stays
        return result(resume_ ? R::kSuccess : R::kFail);
    case Verb::kGetState:
        switch (static_cast<swtpm::BlobType>(request.type)) {
        case swtpm::BlobType::kPermanent:
        case swtpm::BlobType::kVolatile:
            return post_read(0);
        case swtpm::BlobType::kSaveState: // a TPM 2.0 keeps it in the permanent state
            return result(request.offset == 0 ? R::kSuccess : R::kBadParameter);
        }
        return result(R::kBadParameter);
    default:
        return result(R::kBadOrdinal);
    }
}

void ControlMachine::post(Op op, std::uint8_t locality, std::span<const std::uint8_t> bytes)
{
    if (!link_->post(op, locality, bytes)) {
        fail_job();
    }
}

void ControlMachine::post_read(std::uint32_t offset)
{
    post(Op::kReadState, 0, state_head(job_->request.type, offset));
}

void ControlMachine::take_in(const vtpm::Answer &answer_of_worker)
{
    using Kind = vtpm::Answer::Kind;
    if (answer_of_worker.kind == Kind::kHostile) {
        link_->stop();
        event(ServeEvent::kDied);
        return;
    }
    const bool good = answer_of_worker.kind == Kind::kOk;
    Reply reply{.result = good ? R::kSuccess : R::kFail, .data = {}};
    switch (job_->request.verb) {
    case Verb::kCommand:
        if (answer_of_worker.kind == Kind::kRefused) {
            reply.data = error_bytes(TpmRc::kFailure);
        } else {
            reply.data.assign(into_.begin(), into_.begin() + static_cast<long>(answer_of_worker.size));
        }
        break;
    case Verb::kResetEstablished:
        established_ = established_ && !good;
        break;
    case Verb::kHashEnd:
        if (good) {
            hash_open_ = false;
            established_ = true;
        }
        break;
    case Verb::kGetState:
        if (good) {
            return take_in_state(answer_of_worker.size);
        }
        break;
    default:
        break;
    }
    answer(job_->client, std::move(reply));
    job_.reset();
}

void ControlMachine::take_in_state(std::size_t size)
{
    Reply &reply = job_->reply;
    reply.total = load_be32(into_, 0);
    reply.data.insert(reply.data.end(), into_.begin() + sizeof(std::uint32_t), into_.begin() + static_cast<long>(size));
    const std::size_t have = reply.data.size();
    if (reply.total > kStateMax || have > reply.total || (size == sizeof(std::uint32_t) && have < reply.total)) {
        fail_job();
        return;
    }
    if (have < reply.total) {
        post_read(static_cast<std::uint32_t>(have));
        return;
    }
    if (job_->request.offset > reply.total) {
        reply = Reply{.result = R::kBadParameter, .data = {}};
    } else {
        reply.data.erase(reply.data.begin(), reply.data.begin() + job_->request.offset);
    }
    answer(job_->client, std::move(reply));
    job_.reset();
}

R ControlMachine::take_blob_part(const Request &request)
{
    if (state_ != ServeState::kOff && state_ != ServeState::kFailed) {
        return R::kBadOrdinal;
    }
    Blob *blob = nullptr;
    switch (static_cast<swtpm::BlobType>(request.type)) {
    case swtpm::BlobType::kPermanent:
        blob = &permanent_;
        break;
    case swtpm::BlobType::kVolatile:
        blob = &volatile_;
        break;
    case swtpm::BlobType::kSaveState:
        return request.data.empty() ? R::kSuccess : R::kBadParameter;
    }
    if (blob == nullptr) {
        return R::kBadParameter;
    }
    if (request.first) {
        *blob = {};
    }
    if (blob->spoiled || blob->bytes.size() + request.data.size() > kStateMax) {
        *blob = {.bytes = {}, .spoiled = true};
        return R::kSize;
    }
    blob->bytes.insert(blob->bytes.end(), request.data.begin(), request.data.end());
    blob->whole = request.last;
    return R::kSuccess;
}

} // namespace banyan::vtpm
