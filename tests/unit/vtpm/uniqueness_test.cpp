// SPDX-License-Identifier: GPL-2.0-or-later
// No two TPMs, and no two lives of one state, share what has to be theirs alone. BANYAN_TEST_FRESH and
// BANYAN_TEST_RESTORES make a long run of it.
#include <map>
#include <set>
#include <span>

#include "tests/unit/vtpm/platform_folder.hpp"
#include "tests/unit/vtpm/wanted.hpp"
#include "vtpm/engine/tpm_life.hpp"
#include "vtpm/link/control.hpp"

namespace banyan::vtpm::testing {
namespace {

constexpr std::uint32_t kOwner = 0x40000001;
constexpr std::uint32_t kNull = 0x40000007;
constexpr std::uint32_t kEndorsement = 0x4000000b;
constexpr std::uint32_t kPlatform = 0x4000000c;

void append(Bytes &out, const Bytes &more)
{
    out.insert(out.end(), more.begin(), more.end());
}

/// TPM2_CreatePrimary or TPM2_Create of a P-256 key, always from the same template.
Bytes create(std::uint32_t code, std::uint32_t parent, std::uint32_t attributes, const Bytes &symmetric_and_scheme)
{
    Bytes body;
    put32(body, parent);
    append(body, auth_area());
    put16(body, 4); // TPM2B_SENSITIVE_CREATE
    put32(body, 0);
    Bytes area;
    put16(area, 0x0023); // ECC
    put16(area, 0x000b); // SHA-256
    put32(area, attributes);
    put16(area, 0);
    append(area, symmetric_and_scheme);
    put16(area, 0x0003); // P-256
    put16(area, 0x0010);
    put32(area, 0);
    put16(body, static_cast<std::uint32_t>(area.size()));
    append(body, area);
    put16(body, 0);
    put32(body, 0);
    return tpm_command(0x8002, code, body);
}
Bytes create_primary(std::uint32_t hierarchy)
{
    return create(0x131, hierarchy, 0x00030072, {0, 6, 0, 128, 0, 0x43, 0, 0x10}); // storage key, AES-128-CFB
}
Bytes create_key(std::uint32_t parent)
{
    return create(0x153, parent, 0x00040072, {0, 0x10, 0, 0x18, 0, 0x0b}); // signs, ECDSA with SHA-256
}
Bytes start_session()
{
    Bytes body;
    put32(body, kNull);
    put32(body, kNull);
    put16(body, 16); // nonceCaller, always the same
    body.insert(body.end(), 16, 0x4e);
    put16(body, 0);
    body.push_back(0); // HMAC
    put16(body, 0x0010);
    put16(body, 0x000b);
    return tpm_command(0x8001, 0x176, body);
}
Bytes read_public(std::uint32_t handle)
{
    Bytes body;
    put32(body, handle);
    return tpm_command(0x8001, 0x173, body);
}
/// The TPM2B at an offset of a response.
Bytes sized_at(const Bytes &response, std::size_t at)
{
    if (code_of(response) != 0 || response.size() < at + 2) {
        return {};
    }
    const std::size_t size = load_be16(response, at);
    return response.size() < at + 2 + size ? Bytes{}
                                           : Bytes(response.begin() + static_cast<std::ptrdiff_t>(at + 2),
                                                   response.begin() + static_cast<std::ptrdiff_t>(at + 2 + size));
}

/// libtpms answers TPM_RC_RETRY to the first use of a key that is subject to dictionary attack lockout.
template <typename Command>
Bytes again(const Command &command)
{
    const Bytes response = command();
    return code_of(response) == 0x922 ? command() : response;
}

/// Everything seen so far; a second time is an error.
class Seen {
public:
    void add(const std::string &what, const Bytes &value)
    {
        ASSERT_FALSE(value.empty()) << what;
        const auto [at, fresh] = values_.emplace(value, what);
        ASSERT_TRUE(fresh) << what << " is the same as " << at->second;
    }
    [[nodiscard]] std::size_t size() const { return values_.size(); }

private:
    std::map<Bytes, std::string> values_;
};

TEST(FreshInstances, ShareNoEndorsementKeyNoSeedAndNoRandomNumber)
{
    const auto many = static_cast<std::uint32_t>(wanted("BANYAN_TEST_FRESH", 8));
    Seen seen;
    for (std::uint32_t done = 0; done < many;) {
        const std::uint32_t here = std::min(many - done, std::min<std::uint32_t>(kMaxInstances, 64));
        Machine machine({.instances = here});
        ASSERT_EQ(machine.status, 0) << machine.why;
        ASSERT_EQ(banyan_vtpm_unbind(machine.vtpm, 0), 0);
        Guest guest(machine.vtpm, 1);
        for (std::uint32_t i = 0; i < here; ++i, ++done) {
            const std::string who = "instance " + std::to_string(done) + ": ";
            ASSERT_TRUE(machine.power(i)) << machine.describe();
            ASSERT_EQ(banyan_vtpm_bind(machine.vtpm, 1, i), 0);
            for (int n = 0; n < 4; ++n) { // from the first number on
                seen.add(who + "random number", sized_at(guest.command(get_random(32)), 10));
            }
            seen.add(who + "RSA EK", sized_at(guest.command(read_public(0x81010001)), 10));
            seen.add(who + "P-384 EK", sized_at(guest.command(read_public(0x81010016)), 10));
            seen.add(who + "IAK", sized_at(guest.command(read_public(0x81010100)), 10));
            // A primary key from one template is a function of the hierarchy's seed.
            for (const std::uint32_t hierarchy : {kOwner, kEndorsement, kPlatform, kNull}) {
                const Bytes made = guest.command(create_primary(hierarchy));
                ASSERT_EQ(code_of(made), 0U) << who << std::hex << hierarchy;
                seen.add(who + "primary key of a hierarchy", sized_at(made, 18));
                ASSERT_EQ(code_of(guest.command(flush(load_be32(made, 10)))), 0U);
            }
            seen.add(who + "nonce", sized_at(guest.command(start_session()), 14));
            ASSERT_FALSE(HasFatalFailure());
            ASSERT_EQ(banyan_vtpm_unbind(machine.vtpm, 1), 0);
        }
    }
    EXPECT_EQ(seen.size(), 12U * many);
    std::printf("%u instances, %zu values, all different\n", many, seen.size());
}

/// Runs in a child, since a process has one TPM; gives back what it writes.
Bytes in_a_process(const std::function<bool(Bytes &)> &body)
{
    int ends[2];
    if (::pipe(ends) != 0) {
        return {};
    }
    const pid_t child = ::fork();
    if (child == 0) {
        Bytes out;
        const bool good = body(out) && ::write(ends[1], out.data(), out.size()) == static_cast<ssize_t>(out.size());
        ::_exit(good ? 0 : 1);
    }
    ::close(ends[1]);
    Bytes all;
    std::array<std::uint8_t, 4096> part{};
    for (ssize_t got = 0; (got = ::read(ends[0], part.data(), part.size())) > 0;) {
        all.insert(all.end(), part.begin(), part.begin() + got);
    }
    ::close(ends[0]);
    int status = 0;
    ::waitpid(child, &status, 0);
    return status == 0 ? all : Bytes{};
}

struct State {
    Bytes permanent;
    Bytes volatile_state;
    std::uint32_t parent = 0; // a primary key that is loaded in it
};

State a_state()
{
    const Bytes all = in_a_process([](Bytes &out) {
        TpmLife life;
        if (!life.begin({}, {}) || !life.startup_clear()) {
            return false;
        }
        const Bytes made = life.execute(0, create_primary(kOwner));
        const auto kept = life.volatile_state();
        if (code_of(made) != 0 || !kept) {
            return false;
        }
        put32(out, load_be32(made, 10));
        put32(out, static_cast<std::uint32_t>(life.permanent().size()));
        append(out, life.permanent());
        append(out, *kept);
        return true;
    });
    State state;
    if (all.size() > 8) {
        state.parent = load_be32(all, 0);
        const auto border = all.begin() + 8 + load_be32(all, 4);
        state.permanent.assign(all.begin() + 8, border);
        state.volatile_state.assign(border, all.end());
    }
    return state;
}

constexpr std::size_t kNumbers = 16;

/// Random numbers, a nonce and a key (private, public) of a life that begins with the state.
std::vector<Bytes> life_after(const State &state, bool stirred)
{
    const Bytes all = in_a_process([&](Bytes &out) {
        TpmLife life;
        if (!life.begin(state.permanent, state.volatile_state) || (stirred && life.stir() != 0)) {
            return false;
        }
        const auto put = [&out](const Bytes &part) {
            put16(out, static_cast<std::uint32_t>(part.size()));
            append(out, part);
            return !part.empty();
        };
        bool good = true;
        for (std::size_t i = 0; i < kNumbers; ++i) {
            good = good && put(sized_at(life.execute(0, get_random(32)), 10));
        }
        good = good && put(sized_at(life.execute(0, start_session()), 14));
        const Bytes made = again([&] { return life.execute(0, create_key(state.parent)); });
        const Bytes secret = sized_at(made, 14);
        return good && put(secret) && put(sized_at(made, 16 + secret.size()));
    });
    std::vector<Bytes> parts;
    for (std::size_t at = 0; at + 2 <= all.size(); at += 2 + parts.back().size()) {
        const auto begin = all.begin() + static_cast<std::ptrdiff_t>(at + 2);
        parts.emplace_back(begin, begin + load_be16(all, at));
    }
    return parts;
}

TEST(TwoLivesOfOneState, ShareNoRandomNumberNoNonceAndNoLaterKey)
{
    const unsigned long restores = wanted("BANYAN_TEST_RESTORES", 6);
    const State state = a_state();
    ASSERT_FALSE(state.permanent.empty() || state.volatile_state.empty());
    Seen seen;
    for (unsigned long i = 0; i < restores; ++i) {
        const auto parts = life_after(state, true);
        ASSERT_EQ(parts.size(), kNumbers + 3);
        for (std::size_t part = 0; part < parts.size(); ++part) {
            seen.add("restore " + std::to_string(i) + ", part " + std::to_string(part), parts[part]);
        }
        ASSERT_FALSE(HasFatalFailure());
    }
    std::printf("%lu restores, %zu values, all different\n", restores, seen.size());
}

TEST(TwoLivesOfOneState, WouldShareThemIfNobodyStirred)
{
    const State state = a_state();
    const auto one = life_after(state, false);
    const auto other = life_after(state, false);
    ASSERT_EQ(one.size(), kNumbers + 3);
    ASSERT_EQ(other.size(), kNumbers + 3);
    for (std::size_t part = 0; part <= kNumbers; ++part) { // libtpms takes an elliptic key's secret from OpenSSL
        EXPECT_EQ(one[part], other[part]) << "then the test above shows nothing";
    }
}

class TwoMachinesOnCopiesOfOneStore : public PlatformFolder {};

TEST_F(TwoMachinesOnCopiesOfOneStore, ShareTheTpmAndNothingOfItsLife)
{
    const std::string copy = folder_ + "-copy";
    std::filesystem::copy(folder_, copy, std::filesystem::copy_options::recursive);
    Seen seen;
    std::set<Bytes> keys;
    for (const std::string &folder : {folder_, copy}) {
        Machine::Options here = options();
        here.platform = folder;
        Machine machine(here);
        ASSERT_TRUE(machine.power(0)) << machine.describe();
        Guest guest(machine.vtpm);
        keys.insert(guest.command(read_public(0x81010016)));
        for (int n = 0; n < 8; ++n) {
            seen.add(folder + " random number", sized_at(guest.command(get_random(32)), 10));
        }
        seen.add(folder + " nonce", sized_at(guest.command(start_session()), 14));
        const Bytes made = guest.command(create_primary(kOwner));
        ASSERT_EQ(code_of(made), 0U);
        const Bytes key = again([&] { return guest.command(create_key(load_be32(made, 10))); });
        const Bytes secret = sized_at(key, 14);
        seen.add(folder + " key", sized_at(key, 16 + secret.size()));
        seen.add(folder + " null hierarchy", sized_at(guest.command(create_primary(kNull)), 18));
    }
    EXPECT_EQ(keys.size(), 1U);
    std::filesystem::remove_all(copy);
}

} // namespace
} // namespace banyan::vtpm::testing
