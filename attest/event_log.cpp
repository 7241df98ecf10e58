// SPDX-License-Identifier: GPL-2.0-or-later
#include "attest/event_log.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace banyan::attest {

namespace {

static_assert(std::endian::native == std::endian::little, "the log is little-endian");

constexpr std::uint32_t kNoAction = 3;                          // EV_NO_ACTION, table 14
constexpr std::string_view kSignature{"Spec ID Event03\0", 16}; // TCG_EfiSpecIDEvent, 10.4.5.1
constexpr std::size_t kEventsMax = 4096;
constexpr std::size_t kSha1Size = 20;

/// TCG_EfiSpecIDEvent after the signature.
struct SpecIdFacts {
    std::uint32_t platform_class;
    std::uint8_t version_minor;
    std::uint8_t version_major;
    std::uint8_t errata;
    std::uint8_t uintn_size; // 1: 32 bits, 2: 64 bits
};
static_assert(sizeof(SpecIdFacts) == 8);

class Cursor {
public:
    explicit Cursor(View bytes) : bytes_(bytes) {}

    template <typename T>
    Expected<T> number()
    {
        T value{};
        if (bytes_.size() < sizeof(T)) {
            return ended();
        }
        std::memcpy(&value, bytes_.data(), sizeof(T));
        bytes_ = bytes_.subspan(sizeof(T));
        return value;
    }

    Expected<View> take(std::size_t size)
    {
        if (bytes_.size() < size) {
            return ended();
        }
        const View taken = bytes_.first(size);
        bytes_ = bytes_.subspan(size);
        return taken;
    }

    [[nodiscard]] bool at_end() const { return bytes_.empty(); }

private:
    static tl::unexpected<std::string> ended() { return problem("it ends in the middle of an event"); }
    View bytes_;
};

Expected<std::vector<Bank>> parse_spec_id(View data)
{
    Cursor cursor(data);
    ATTEST_TRY(const View signature, cursor.take(kSignature.size()));
    if (text_of(signature) != kSignature) {
        return problem("its header is not \"Spec ID Event03\"");
    }
    ATTEST_CHECK(cursor.take(sizeof(SpecIdFacts)));
    ATTEST_TRY(const std::uint32_t count, cursor.number<std::uint32_t>());
    std::vector<Bank> banks;
    for (std::uint32_t i = 0; i < count; ++i) {
        ATTEST_TRY(const std::uint16_t algorithm, cursor.number<std::uint16_t>());
        ATTEST_TRY(const std::uint16_t size, cursor.number<std::uint16_t>());
        const auto bank = static_cast<Bank>(algorithm);
        if (!is_bank(algorithm) || size != digest_size(bank) || std::ranges::find(banks, bank) != banks.end()) {
            return problem("its header names algorithm " + std::to_string(algorithm) + " with " + std::to_string(size) +
                           " bytes, which is unknown, wrong or repeated");
        }
        banks.push_back(bank);
    }
    ATTEST_TRY(const std::uint8_t vendor, cursor.number<std::uint8_t>());
    ATTEST_CHECK(cursor.take(vendor));
    if (!cursor.at_end() || banks.empty()) {
        return problem("its header is malformed");
    }
    return banks;
}

template <typename T>
void put(Bytes &out, T value)
{
    const auto at = out.size();
    out.resize(at + sizeof(T));
    std::memcpy(out.data() + at, &value, sizeof(T));
}

void put(Bytes &out, View bytes)
{
    out.insert(out.end(), bytes.begin(), bytes.end());
}

} // namespace

Expected<EventLog> parse_event_log(View bytes)
{
    EventLog log;
    Cursor cursor(bytes);
    // TCG_PCClientPCREvent, 10.2.1: the header has the older form.
    ATTEST_TRY(const std::uint32_t pcr, cursor.number<std::uint32_t>());
    ATTEST_TRY(const std::uint32_t type, cursor.number<std::uint32_t>());
    ATTEST_CHECK(cursor.take(kSha1Size));
    ATTEST_TRY(const std::uint32_t size, cursor.number<std::uint32_t>());
    ATTEST_TRY(const View data, cursor.take(size));
    if (pcr != 0 || type != kNoAction) {
        return problem("it does not begin with a Spec ID event");
    }
    ATTEST_TRY(log.banks, parse_spec_id(data));

    while (!cursor.at_end()) { // TCG_PCR_EVENT2, 10.2.2
        if (log.events.size() == kEventsMax) {
            return problem("it has more than " + std::to_string(kEventsMax) + " events");
        }
        Event event;
        ATTEST_TRY(event.pcr, cursor.number<std::uint32_t>());
        ATTEST_TRY(event.type, cursor.number<std::uint32_t>());
        ATTEST_TRY(const std::uint32_t count, cursor.number<std::uint32_t>());
        const std::string which = "event " + std::to_string(log.events.size() + 1);
        if (event.pcr >= kPcrCount || count != log.banks.size()) {
            return problem(which + " has PCR " + std::to_string(event.pcr) + " and " + std::to_string(count) +
                           " digests; the log's header names " + std::to_string(log.banks.size()));
        }
        for (std::uint32_t i = 0; i < count; ++i) {
            ATTEST_TRY(const std::uint16_t algorithm, cursor.number<std::uint16_t>());
            const auto bank = static_cast<Bank>(algorithm);
            if (std::ranges::find(log.banks, bank) == log.banks.end() || event.digests.contains(bank)) {
                return problem(which + " has a digest of algorithm " + std::to_string(algorithm) +
                               ", which its header does not name or which comes twice");
            }
            ATTEST_TRY(const View digest, cursor.take(digest_size(bank)));
            event.digests[bank] = Bytes(digest.begin(), digest.end());
        }
        ATTEST_TRY(const std::uint32_t length, cursor.number<std::uint32_t>());
        ATTEST_TRY(const View payload, cursor.take(length));
        event.data.assign(payload.begin(), payload.end());
        log.events.push_back(std::move(event));
    }
    return log;
}

Bytes encode_event_log(const EventLog &log)
{
    Bytes spec;
    put(spec, view_of(kSignature));
    put(spec, SpecIdFacts{0, 0, 2, 0, 2});
    put(spec, static_cast<std::uint32_t>(log.banks.size()));
    for (const Bank bank : log.banks) {
        put(spec, static_cast<std::uint16_t>(bank));
        put(spec, static_cast<std::uint16_t>(digest_size(bank)));
    }
    put(spec, std::uint8_t{0});

    Bytes out;
    put(out, std::uint32_t{0});
    put(out, kNoAction);
    put(out, View(Bytes(kSha1Size)));
    put(out, static_cast<std::uint32_t>(spec.size()));
    put(out, View(spec));
    for (const Event &event : log.events) {
        put(out, event.pcr);
        put(out, event.type);
        put(out, static_cast<std::uint32_t>(event.digests.size()));
        for (const auto &[bank, digest] : event.digests) {
            put(out, static_cast<std::uint16_t>(bank));
            put(out, View(digest));
        }
        put(out, static_cast<std::uint32_t>(event.data.size()));
        put(out, View(event.data));
    }
    return out;
}

Expected<PcrValues> replay(const EventLog &log, PcrValues start)
{
    for (const Event &event : log.events) {
        if (event.type == kNoAction) {
            continue;
        }
        for (auto &[bank, values] : start) {
            const auto digest = event.digests.find(bank);
            if (digest == event.digests.end()) {
                return problem(std::string("it has no ") + name_of(bank) + " digests");
            }
            values.at(event.pcr) = extend(bank, values.at(event.pcr), digest->second);
        }
    }
    return start;
}

std::string describe(const Event &event, std::size_t index)
{
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string type;
    for (std::uint32_t rest = event.type; rest != 0 || type.empty(); rest /= 16) {
        type.insert(type.begin(), kDigits[rest % 16]);
    }
    return "event " + std::to_string(index) + " (PCR " + std::to_string(event.pcr) + ", type 0x" + type + ", " +
           in_quotes(text_of(event.data)) + ")";
}

} // namespace banyan::attest
