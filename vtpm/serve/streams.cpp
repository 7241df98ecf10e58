// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/serve/streams.hpp"

#include <algorithm>
#include <utility>

#include "vtpm/chip/tpm_header.hpp"

namespace banyan::vtpm {
namespace {

constexpr std::size_t kWord = 4;
constexpr std::size_t kPartMax = kTpmBufferSize; // of the data of one request

using Part = std::span<const std::uint8_t>;

ServeBytes copy_of(Part bytes)
{
    return {bytes.begin(), bytes.end()};
}

Verb verb_of(swtpm::Code code)
{
    using C = swtpm::Code;
    switch (code) {
    case C::kGetCapability:
        return Verb::kGetCapability;
    case C::kInit:
        return Verb::kInit;
    case C::kShutdown:
        return Verb::kShutdown;
    case C::kGetTpmEstablished:
        return Verb::kGetEstablished;
    case C::kSetLocality:
        return Verb::kSetLocality;
    case C::kHashStart:
        return Verb::kHashStart;
    case C::kHashData:
        return Verb::kHashData;
    case C::kHashEnd:
        return Verb::kHashEnd;
    case C::kCancelTpmCmd:
        return Verb::kCancel;
    case C::kStoreVolatile:
        return Verb::kStoreVolatile;
    case C::kResetTpmEstablished:
        return Verb::kResetEstablished;
    case C::kGetStateBlob:
        return Verb::kGetState;
    case C::kSetStateBlob:
        return Verb::kSetState;
    case C::kStop:
        return Verb::kStop;
    case C::kGetConfig:
        return Verb::kGetConfig;
    case C::kSetDataFd:
        return Verb::kSetDataFd;
    case C::kSetBufferSize:
        return Verb::kSetBufferSize;
    case C::kGetInfo:
        return Verb::kGetInfo;
    case C::kLockStorage:
        return Verb::kLockStorage;
    }
    return Verb::kUnknown;
}

} // namespace

ClientStream::Taken ControlStream::take_part(Part bytes)
{
    const std::size_t size = static_cast<std::size_t>(std::min<std::uint64_t>({bytes.size(), remaining_, kPartMax}));
    if (size == 0 && remaining_ != 0) {
        return {};
    }
    Request part = head_;
    part.data = copy_of(bytes.first(size));
    remaining_ -= size;
    last_ = remaining_ == 0;
    part.last = last_;
    in_data_ = !last_;
    head_.first = false;
    return {size, std::move(part), false};
}

ClientStream::Taken ControlStream::take(Part bytes)
{
    if (in_data_) {
        return take_part(bytes);
    }
    if (bytes.size() < kWord) {
        return {};
    }
    if (std::exchange(after_locality_, false) && swtpm::is_locality_padding(load_be32(bytes, 0))) {
        return {swtpm::kLocalityPadding, std::nullopt, false};
    }
    head_ = {};
    last_ = true;
    worst_ = swtpm::Result::kSuccess;
    spec_ = swtpm::find(load_be32(bytes, 0));
    if (spec_ == nullptr) {
        return {kWord, Request{}, false};
    }
    const std::size_t size = kWord + spec_->fields;
    if (bytes.size() < size) {
        return {};
    }
    const Part fields = bytes.subspan(kWord, spec_->fields);
    head_.verb = verb_of(spec_->code);
    switch (head_.verb) {
    case Verb::kSetLocality:
    case Verb::kResetEstablished:
        head_.locality = fields[0];
        after_locality_ = true;
        break;
    case Verb::kGetInfo:
        head_.number = (static_cast<std::uint64_t>(load_be32(fields, 0)) << 32) | load_be32(fields, 4);
        head_.offset = load_be32(fields, 8);
        break;
    case Verb::kGetState:
    case Verb::kSetState:
        head_.number = load_be32(fields, 0);
        head_.type = load_be32(fields, 4);
        head_.offset = head_.verb == Verb::kGetState ? load_be32(fields, 8) : 0;
        break;
    case Verb::kInit:
    case Verb::kSetBufferSize:
        head_.number = load_be32(fields, 0);
        break;
    default:
        break;
    }
    if (!spec_->has_data) {
        return {size, head_, false};
    }
    remaining_ = load_be32(fields, fields.size() - kWord);
    Taken taken = take_part(bytes.subspan(size));
    if (!taken.request) { // the head alone: its data follow
        in_data_ = true;
    }
    taken.consumed += size;
    return taken;
}

ClientStream::Encoded ControlStream::encode(const Reply &reply)
{
    if (worst_ == swtpm::Result::kSuccess) {
        worst_ = reply.result;
    }
    if (!last_) {
        return {};
    }
    Encoded out;
    const auto word = [&](std::uint32_t value) { append_be32(out.bytes, value); };
    const Verb verb = spec_ == nullptr ? Verb::kUnknown : head_.verb;
    out.close = verb == Verb::kUnknown; // where the next request begins is not known
    if (verb == Verb::kGetCapability) { // the one reply without a result
        word(static_cast<std::uint32_t>(reply.capabilities >> 32));
        word(static_cast<std::uint32_t>(reply.capabilities));
        return out;
    }
    word(static_cast<std::uint32_t>(worst_));
    if (worst_ != swtpm::Result::kSuccess) {
        return out;
    }
    switch (verb) {
    case Verb::kGetEstablished:
        out.bytes.push_back(reply.established ? 1 : 0);
        out.bytes.insert(out.bytes.end(), 3, 0); // padding of the structure
        break;
    case Verb::kGetConfig:
        word(0); // neither of the two keys
        break;
    case Verb::kSetBufferSize:
        word(reply.buffer_size);
        word(swtpm::kBufferMin);
        word(swtpm::kBufferMax);
        break;
    case Verb::kGetState:
        word(0); // state_flags: not encrypted
        word(reply.total);
        word(static_cast<std::uint32_t>(reply.data.size()));
        break;
    case Verb::kGetInfo:
        word(reply.total);
        word(static_cast<std::uint32_t>(reply.data.size()));
        break;
    default:
        return out;
    }
    out.bytes.insert(out.bytes.end(), reply.data.begin(), reply.data.end());
    return out;
}

ClientStream::Taken CommandStream::take(Part bytes)
{
    if (bytes.size() < kTpmHeaderSize) {
        return {};
    }
    const std::uint32_t size = load_be32(bytes, kTpmSizeAt);
    unusable_ = size < kTpmHeaderSize || size > kTpmBufferSize;
    Request command;
    command.verb = Verb::kCommand;
    if (unusable_) { // the TPM refuses it: it has a size that is not its own
        command.data = copy_of(bytes.first(kTpmHeaderSize));
        return {bytes.size(), std::move(command), false};
    }
    if (bytes.size() < size) {
        return {};
    }
    command.data = copy_of(bytes.first(size));
    return {size, std::move(command), false};
}

ClientStream::Encoded CommandStream::encode(const Reply &reply)
{
    return {reply.data, unusable_};
}

ClientStream::Taken MssimCommandStream::take(Part bytes)
{
    constexpr std::size_t kHead = kWord + 1 + kWord; // code, locality, size
    if (bytes.size() < kWord) {
        return {};
    }
    if (load_be32(bytes, 0) != static_cast<std::uint32_t>(mssim::Code::kSendCommand)) {
        return {bytes.size(), std::nullopt, true}; // the end of the session, or nothing that we know
    }
    if (bytes.size() < kHead) {
        return {};
    }
    const std::uint32_t size = load_be32(bytes, kWord + 1);
    if (size > kTpmBufferSize) {
        return {bytes.size(), std::nullopt, true};
    }
    if (bytes.size() < kHead + size) {
        return {};
    }
    Request command;
    command.verb = Verb::kCommand;
    command.locality = bytes[kWord];
    command.data = copy_of(bytes.subspan(kHead, size));
    return {kHead + size, std::move(command), false};
}

ClientStream::Encoded MssimCommandStream::encode(const Reply &reply)
{
    Encoded out;
    append_be32(out.bytes, static_cast<std::uint32_t>(reply.data.size()));
    out.bytes.insert(out.bytes.end(), reply.data.begin(), reply.data.end());
    append_be32(out.bytes, 0);
    return out;
}

ClientStream::Taken MssimPlatformStream::take(Part bytes)
{
    if (bytes.size() < kWord) {
        return {};
    }
    Request request;
    std::size_t size = kWord;
    unusable_ = false;
    using C = mssim::Code;
    switch (static_cast<C>(load_be32(bytes, 0))) {
    case C::kSignalPowerOn:
        request.verb = Verb::kPowerOn;
        break;
    case C::kSignalPowerOff:
        request.verb = Verb::kStop;
        break;
    case C::kSignalReset:
        request.verb = Verb::kInit;
        break;
    case C::kSignalHashStart:
        request.verb = Verb::kHashStart;
        break;
    case C::kSignalHashData: {
        if (bytes.size() < 2 * kWord) {
            return {};
        }
        const std::uint32_t data = load_be32(bytes, kWord);
        if (data > kPartMax) {
            return {bytes.size(), std::nullopt, true};
        }
        size = 2 * kWord + data;
        if (bytes.size() < size) {
            return {};
        }
        request.verb = Verb::kHashData;
        request.data = copy_of(bytes.subspan(2 * kWord, data));
        break;
    }
    case C::kSignalHashEnd:
        request.verb = Verb::kHashEnd;
        break;
    case C::kSignalCancelOn:
        request.verb = Verb::kCancel;
        break;
    case C::kSignalPhysPresOff:
    case C::kSignalCancelOff:
    case C::kSignalNvOn: // what it already is
        request.verb = Verb::kGetConfig;
        break;
    case C::kSignalPhysPresOn:
    case C::kSignalNvOff:
    case C::kSignalRestart:
    case C::kSendCommand:
        break; // Verb::kUnknown: refused
    case C::kSessionEnd:
    case C::kStop:
        return {bytes.size(), std::nullopt, true};
    default:
        unusable_ = true; // where the next one begins is not known
        break;
    }
    return {size, std::move(request), false};
}

ClientStream::Encoded MssimPlatformStream::encode(const Reply &reply)
{
    Encoded out;
    append_be32(out.bytes, static_cast<std::uint32_t>(reply.result));
    out.close = unusable_;
    return out;
}

} // namespace banyan::vtpm
