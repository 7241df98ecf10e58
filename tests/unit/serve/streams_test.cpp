// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/serve/streams.hpp"

#include <algorithm>

#include <gtest/gtest.h>

#include "vtpm/chip/tpm_header.hpp"

namespace banyan::vtpm {
namespace {

ServeBytes words(std::initializer_list<std::uint32_t> all)
{
    ServeBytes bytes;
    for (const std::uint32_t one : all) {
        append_be32(bytes, one);
    }
    return bytes;
}

/// All requests in `bytes`, given in pieces of `piece`; each is replied to with `reply`.
std::vector<Request> requests_of(ClientStream &stream, const ServeBytes &bytes, std::size_t piece,
                                 const Reply &reply = {}, ServeBytes *sent = nullptr)
{
    std::vector<Request> all;
    ServeBytes in;
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
        const auto end = bytes.begin() + static_cast<long>(std::min(at + piece, bytes.size()));
        in.insert(in.end(), bytes.begin() + static_cast<long>(at), end);
        for (;;) {
            auto taken = stream.take(in);
            in.erase(in.begin(), in.begin() + static_cast<long>(taken.consumed));
            if (taken.request) {
                all.push_back(*taken.request);
                const auto encoded = stream.encode(reply);
                if (sent != nullptr) {
                    sent->insert(sent->end(), encoded.bytes.begin(), encoded.bytes.end());
                }
            } else if (taken.consumed == 0) {
                break;
            }
        }
    }
    EXPECT_TRUE(in.empty());
    return all;
}

TEST(ControlStream, ReadsEachRequestWhole)
{
    for (const swtpm::CodeSpec &spec : swtpm::kCodes) {
        for (const std::size_t piece : {1UL, 3UL, 100UL}) {
            ServeBytes bytes = words({static_cast<std::uint32_t>(spec.code)});
            bytes.insert(bytes.end(), spec.fields, 0);
            if (spec.has_data) {
                bytes.back() = 2;
                bytes.insert(bytes.end(), {0xaa, 0xbb});
            }
            ControlStream stream;
            ServeBytes twice = bytes;
            twice.insert(twice.end(), bytes.begin(), bytes.end());
            std::size_t whole = 0;
            ServeBytes data;
            for (const Request &one : requests_of(stream, twice, piece)) {
                EXPECT_NE(one.verb, Verb::kUnknown) << spec.name;
                whole += one.last ? 1 : 0;
                data.insert(data.end(), one.data.begin(), one.data.end());
            }
            EXPECT_EQ(whole, 2U) << spec.name;
            EXPECT_EQ(data, spec.has_data ? (ServeBytes{0xaa, 0xbb, 0xaa, 0xbb}) : ServeBytes{}) << spec.name;
        }
    }
}

TEST(ControlStream, ALocalityMayBePaddedToAWordWithWhatever)
{
    for (const auto code : {swtpm::Code::kSetLocality, swtpm::Code::kResetTpmEstablished}) {
        for (const std::size_t piece : {1UL, 2UL, 3UL, 5UL, 7UL, 8UL, 9UL, 100UL}) {
            ServeBytes bytes;
            for (const std::uint32_t locality : {0x02000000U, 0x03ffffffU, 0x0100000eU, 0x00000500U}) {
                for (const swtpm::CodeSpec &next : swtpm::kCodes) {
                    for (const bool padded : {true, false}) {
                        append_be32(bytes, static_cast<std::uint32_t>(code));
                        append_be32(bytes, locality);
                        for (std::size_t i = 0; !padded && i < swtpm::kLocalityPadding; ++i) {
                            bytes.pop_back();
                        }
                        append_be32(bytes, static_cast<std::uint32_t>(next.code));
                        bytes.insert(bytes.end(), next.fields, 0); // no data
                    }
                }
            }
            ControlStream stream;
            std::size_t at = 0;
            const auto all = requests_of(stream, bytes, piece);
            ASSERT_EQ(all.size(), 4 * 2 * 2 * swtpm::kCodes.size());
            for (const std::uint8_t locality : {2, 3, 1, 0}) {
                for (const swtpm::CodeSpec &next : swtpm::kCodes) {
                    for (unsigned i = 0; i < 2; ++i) {
                        EXPECT_EQ(all[at++].locality, locality);
                        EXPECT_NE(all[at++].verb, Verb::kUnknown) << next.name;
                    }
                }
            }
        }
    }
}

TEST(ControlStream, AnUnknownRequestAfterALocalityIsStillAnswered)
{
    ControlStream stream;
    ServeBytes bytes = words({static_cast<std::uint32_t>(swtpm::Code::kSetLocality), 0, 0x55});
    bytes.erase(bytes.begin() + 5, bytes.begin() + 8);
    const auto all = requests_of(stream, bytes, 100);
    ASSERT_EQ(all.size(), 2U);
    EXPECT_EQ(all[1].verb, Verb::kUnknown);
}

TEST(ControlStream, DataComeInPartsThatAreNeverLargerThanACommand)
{
    ServeBytes bytes = words({static_cast<std::uint32_t>(swtpm::Code::kHashData), 20000});
    bytes.resize(bytes.size() + 20000, 0x11);
    ControlStream stream;
    ServeBytes sent;
    const auto parts = requests_of(stream, bytes, 8192, {}, &sent);
    std::size_t total = 0;
    for (const Request &part : parts) {
        EXPECT_LE(part.data.size(), kTpmBufferSize);
        EXPECT_EQ(part.first, total == 0);
        total += part.data.size();
        EXPECT_EQ(part.last, total == 20000);
    }
    EXPECT_EQ(total, 20000U);
    EXPECT_EQ(sent, words({0})); // one reply
}

TEST(ControlStream, TheFirstPartThatWasRefusedIsTheReply)
{
    ControlStream stream;
    const ServeBytes head = words({static_cast<std::uint32_t>(swtpm::Code::kHashData), 2});
    ASSERT_EQ(stream.take(head).consumed, 8U);
    ASSERT_TRUE(stream.take(ServeBytes{1}).request);
    EXPECT_TRUE(stream.encode({.result = swtpm::Result::kFail, .data = {}}).bytes.empty());
    ASSERT_TRUE(stream.take(ServeBytes{2}).request);
    EXPECT_EQ(stream.encode(Reply{}).bytes, words({static_cast<std::uint32_t>(swtpm::Result::kFail)}));
}

TEST(ControlStream, AfterAnUnknownRequestThereIsNoWayOn)
{
    ControlStream stream;
    const auto taken = stream.take(words({0x4711, 0, 0}));
    ASSERT_TRUE(taken.request);
    EXPECT_EQ(taken.request->verb, Verb::kUnknown);
    const auto reply = stream.encode({.result = swtpm::Result::kBadOrdinal, .data = {}});
    EXPECT_EQ(reply.bytes, words({0x0a}));
    EXPECT_TRUE(reply.close);
}

TEST(CommandStream, ASizeThatCannotBeEndsTheStreamAfterAnAnswer)
{
    for (const std::uint32_t size : {0U, 9U, 4097U, 0xffffffffU}) {
        CommandStream stream;
        ServeBytes bytes{0x80, 0x01};
        append_be32(bytes, size);
        append_be32(bytes, 0x17b);
        const auto taken = stream.take(bytes);
        ASSERT_TRUE(taken.request);
        EXPECT_FALSE(command_header_ok(taken.request->data));
        EXPECT_TRUE(stream.encode(Reply{}).close);
    }
}

TEST(CommandStream, TakesCommandsOutOfAnyPieces)
{
    ServeBytes command{0x80, 0x01, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 8};
    ServeBytes three;
    for (int i = 0; i < 3; ++i) {
        three.insert(three.end(), command.begin(), command.end());
    }
    for (std::size_t piece = 1; piece <= three.size(); ++piece) {
        CommandStream stream;
        const auto all = requests_of(stream, three, piece);
        ASSERT_EQ(all.size(), 3U);
        for (const Request &one : all) {
            EXPECT_EQ(one.data, command);
        }
    }
}

TEST(MssimCommandStream, FramesACommandAndItsAnswer)
{
    ServeBytes bytes = words({8});
    bytes.push_back(3);
    append_be32(bytes, 12);
    const ServeBytes command{0x80, 0x01, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 8};
    bytes.insert(bytes.end(), command.begin(), command.end());
    for (std::size_t piece = 1; piece <= bytes.size(); ++piece) {
        MssimCommandStream stream;
        ServeBytes sent;
        const auto all = requests_of(stream, bytes, piece, {.data = {1, 2, 3}}, &sent);
        ASSERT_EQ(all.size(), 1U);
        EXPECT_EQ(all[0].data, command);
        EXPECT_EQ(all[0].locality, 3);
        EXPECT_EQ(sent, (ServeBytes{0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 0}));
    }
}

TEST(MssimPlatformStream, KnowsTheSignalsAndRefusesWhatItCannotDo)
{
    const std::pair<mssim::Code, Verb> all[]{
        {mssim::Code::kSignalPowerOn, Verb::kPowerOn},     {mssim::Code::kSignalPowerOff, Verb::kStop},
        {mssim::Code::kSignalReset, Verb::kInit},          {mssim::Code::kSignalCancelOn, Verb::kCancel},
        {mssim::Code::kSignalHashStart, Verb::kHashStart}, {mssim::Code::kSignalHashEnd, Verb::kHashEnd},
        {mssim::Code::kSignalNvOff, Verb::kUnknown},       {mssim::Code::kSignalPhysPresOn, Verb::kUnknown}};
    for (const auto &[code, verb] : all) {
        MssimPlatformStream stream;
        const auto taken = stream.take(words({static_cast<std::uint32_t>(code)}));
        ASSERT_TRUE(taken.request);
        EXPECT_EQ(taken.request->verb, verb);
        EXPECT_FALSE(stream.encode(Reply{}).close);
    }
    MssimPlatformStream stream;
    EXPECT_TRUE(stream.take(words({static_cast<std::uint32_t>(mssim::Code::kSessionEnd)})).broken);
    EXPECT_TRUE(stream.take(words({6, 0xffffffff})).broken);
}

} // namespace
} // namespace banyan::vtpm
