// SPDX-License-Identifier: GPL-2.0-or-later
#include "attest/platform.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <optional>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "attest/evidence.hpp"

namespace banyan::attest {

namespace {

namespace fs = std::filesystem;

constexpr unsigned kPrivateFile = 0600;
constexpr unsigned kPublicFile = 0644;
constexpr std::size_t kFileMax = std::size_t{64} * 1024;

tl::unexpected<std::string> cannot(const char *what, const fs::path &path, std::string_view why)
{
    return problem(std::string("cannot ") + what + " " + path.string() + ": " + std::string(why));
}

/// Absolute, without "." and without a slash at its end.
fs::path plain(const fs::path &path)
{
    std::error_code error;
    const fs::path place = fs::absolute(path, error).lexically_normal();
    return place.has_filename() ? place : place.parent_path();
}

/// A folder beside its later place, gone with this object unless it was moved there.
class Draft {
public:
    static Expected<Draft> beside(const fs::path &place, unsigned mode)
    {
        std::error_code error;
        const fs::path parent = place.parent_path();
        fs::create_directories(parent, error);
        std::string name = (parent / (".banyan-platform-XXXXXX")).string();
        if (::mkdtemp(name.data()) == nullptr || ::chmod(name.c_str(), mode) != 0) {
            return cannot("make a folder in", parent, std::strerror(errno));
        }
        return Draft(name);
    }

    ~Draft()
    {
        if (!folder_.empty()) {
            std::error_code ignored;
            fs::remove_all(folder_, ignored);
        }
    }
    Draft(Draft &&other) noexcept : folder_(std::exchange(other.folder_, {})) {}
    Draft(const Draft &) = delete;
    Draft &operator=(const Draft &) = delete;
    Draft &operator=(Draft &&) = delete;

    [[nodiscard]] const fs::path &folder() const { return folder_; }

    Expected<void> move_to(const fs::path &place)
    {
        std::error_code error;
        fs::rename(folder_, place, error); // replaces an empty folder, no other
        if (error) {
            return cannot("make", place, error.message());
        }
        folder_.clear();
        return {};
    }

private:
    explicit Draft(fs::path folder) : folder_(std::move(folder)) {}
    fs::path folder_;
};

Expected<void> make_folder(const fs::path &path, unsigned mode)
{
    if (::mkdir(path.c_str(), mode) != 0) {
        return cannot("make", path, std::strerror(errno));
    }
    return {};
}

Expected<void> write_private_key(const fs::path &path, EVP_PKEY *key)
{
    ATTEST_TRY(std::string pem, private_key_to_pem(key));
    auto written = write_new_file(path, view_of(pem), kPrivateFile);
    OPENSSL_cleanse(pem.data(), pem.size());
    return written;
}

Expected<void> must_be_free(const fs::path &place)
{
    std::error_code error;
    const fs::file_status status = fs::symlink_status(place, error);
    if (status.type() == fs::file_type::not_found || (fs::is_directory(status) && fs::is_empty(place, error))) {
        return {};
    }
    return problem(place.string() + " is there already; a platform is never overwritten: name a new folder");
}

bool is_inside(const fs::path &inner, const fs::path &outer)
{
    const fs::path relative = inner.lexically_relative(outer);
    return !relative.empty() && *relative.begin() != "..";
}

Expected<Certificate> only_certificate(View pem)
{
    ATTEST_TRY(std::vector<Certificate> list, Certificate::list_from_pem(pem));
    if (list.size() != 1) {
        return problem(std::to_string(list.size()) + " certificates where one must be");
    }
    return std::move(list.front());
}

Expected<Manufacturer> read_manufacturer(const fs::path &ca)
{
    const auto key = [&](const char *name) -> Expected<Key> {
        ATTEST_TRY(Bytes pem, read_file(ca / name, kFileMax));
        auto read = private_key_from_pem(pem);
        OPENSSL_cleanse(pem.data(), pem.size());
        return read;
    };
    const auto certificate = [&](const char *name) -> Expected<Certificate> {
        ATTEST_TRY(const Bytes pem, read_file(ca / name, kFileMax));
        return only_certificate(pem);
    };
    ATTEST_TRY(Key root_key, key("root.key"));
    ATTEST_TRY(Certificate root, certificate("root.crt"));
    ATTEST_TRY(Key intermediate_key, key("intermediate.key"));
    ATTEST_TRY(Certificate intermediate, certificate("intermediate.crt"));
    return Manufacturer{std::move(root_key), std::move(root), std::move(intermediate_key), std::move(intermediate)};
}

Expected<void> write_manufacturer(const fs::path &folder, const Manufacturer &ca)
{
    ATTEST_CHECK(write_private_key(folder / "root.key", ca.root_key.get()));
    ATTEST_CHECK(write_new_file(folder / "root.crt", view_of(ca.root.pem()), kPrivateFile));
    ATTEST_CHECK(write_private_key(folder / "intermediate.key", ca.intermediate_key.get()));
    return write_new_file(folder / "intermediate.crt", view_of(ca.intermediate.pem()), kPrivateFile);
}

Expected<Bytes> certify(const Manufacturer &ca, const Subject &subject, Role role, View public_key)
{
    ATTEST_TRY(const Key key, public_key_from_der(public_key));
    ATTEST_TRY(const Certificate certificate,
               issue(subject, role, key.get(), {&ca.intermediate, ca.intermediate_key.get()}));
    return certificate.der();
}

/// Where a platform's instances are made.
struct Workshop {
    const fs::path &in;  // private
    const fs::path &out; // public
    const Manufacturer &ca;
    const std::string &platform_class;
    const MachineId machine;
    const StoreKeyBytes &store_key;
    const ManufactureInstance &manufacture;

    [[nodiscard]] fs::path names_of(unsigned i) const { return in / "instances" / (instance_number(i) + ".names"); }
    [[nodiscard]] fs::path folder_of(unsigned i) const { return out / "instances" / instance_number(i); }

    /// Its names last: where they are, the instance is whole.
    [[nodiscard]] Expected<void> make(unsigned i) const
    {
        const auto certify_keys = [&](const InstanceKeys &keys) -> Expected<InstanceCertificates> {
            const Subject ek{ek_common_name(i), platform_class, machine};
            const Subject iak{iak_common_name(i), platform_class, machine};
            InstanceCertificates certificates;
            ATTEST_TRY(certificates.ek_rsa, certify(ca, ek, Role::kEk, keys.ek_rsa));
            ATTEST_TRY(certificates.ek, certify(ca, ek, Role::kEk, keys.ek));
            if (!keys.ek_p256.empty()) {
                ATTEST_TRY(certificates.ek_p256, certify(ca, ek, Role::kEk, keys.ek_p256));
            }
            ATTEST_TRY(certificates.iak, certify(ca, iak, Role::kIak, keys.iak));
            return certificates;
        };
        ATTEST_TRY(const ManufacturedInstance made, manufacture(in, i, store_key, certify_keys));
        const fs::path folder = folder_of(i);
        ATTEST_TRY(const Key iak, public_key_from_der(made.keys.iak));
        ATTEST_TRY(const std::string ak_pem, public_key_to_pem(iak.get()));
        ATTEST_CHECK(make_folder(folder, 0755));
        ATTEST_CHECK(write_new_file(folder / "ek.crt", made.certificates.ek, kPublicFile));
        ATTEST_CHECK(write_new_file(folder / "ek-rsa.crt", made.certificates.ek_rsa, kPublicFile));
        if (!made.certificates.ek_p256.empty()) {
            ATTEST_CHECK(write_new_file(folder / "ek-p256.crt", made.certificates.ek_p256, kPublicFile));
        }
        ATTEST_CHECK(write_new_file(folder / "iak.crt", made.certificates.iak, kPublicFile));
        ATTEST_CHECK(write_new_file(folder / "ak.pem", view_of(ak_pem), kPublicFile));
        return write_new_file(names_of(i), view_of(made.names_json), kPrivateFile);
    }

    /// What an interrupted make() left.
    [[nodiscard]] Expected<void> clear(unsigned i) const
    {
        std::error_code error;
        fs::remove(in / "instances" / (instance_number(i) + ".nvstore"), error);
        if (!error) {
            fs::remove_all(folder_of(i), error);
        }
        if (error) {
            return cannot("clear away what is left of instance", instance_number(i), error.message());
        }
        return {};
    }
};

/// The folder's lock against a machine that runs on it, held while this lives.
class PlatformLock {
public:
    static Expected<PlatformLock> take(const fs::path &private_folder)
    {
        const fs::path file = private_folder / "store.key";
        const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            return cannot("open", file, std::strerror(errno));
        }
        if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
            ::close(fd);
            return problem(private_folder.string() + " is in use by a machine that runs; wait for its end");
        }
        return PlatformLock(fd);
    }
    ~PlatformLock()
    {
        if (fd_ >= 0) {
            ::close(fd_);
        }
    }
    PlatformLock(PlatformLock &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    PlatformLock(const PlatformLock &) = delete;
    PlatformLock &operator=(const PlatformLock &) = delete;
    PlatformLock &operator=(PlatformLock &&) = delete;

private:
    explicit PlatformLock(int fd) : fd_(fd) {}
    int fd_;
};

} // namespace

std::string instance_number(unsigned instance)
{
    const std::string digits = std::to_string(instance);
    return std::string(digits.size() < 3 ? 3 - digits.size() : 0, '0') + digits;
}

Expected<void> new_platform(const PlatformOptions &wanted, const ManufactureInstance &manufacture)
{
    PlatformOptions options = wanted;
    options.private_folder = plain(wanted.private_folder);
    options.public_folder = plain(wanted.public_folder);
    if (options.instances == 0 || options.instances > kInstancesMax) {
        return problem("a platform has 1 to " + std::to_string(kInstancesMax) + " instances, not " +
                       std::to_string(options.instances));
    }
    ATTEST_CHECK(must_be_free(options.private_folder));
    ATTEST_CHECK(must_be_free(options.public_folder));
    if (is_inside(options.public_folder, options.private_folder) ||
        is_inside(options.private_folder, options.public_folder)) {
        return problem("the private folder " + options.private_folder.string() + " and the public folder " +
                       options.public_folder.string() + " must not lie in each other");
    }
    ATTEST_TRY(Draft secret, Draft::beside(options.private_folder, 0700));
    ATTEST_TRY(Draft open, Draft::beside(options.public_folder, 0755));
    const fs::path &in = secret.folder();
    const fs::path &out = open.folder();
    for (const char *sub : {"ca", "instances"}) {
        ATTEST_CHECK(make_folder(in / sub, 0700));
    }
    ATTEST_CHECK(make_folder(out / "instances", 0755));

    const std::string &cls = options.platform_class;
    ATTEST_TRY(Manufacturer ca,
               options.manufacturer.empty() ? new_manufacturer(cls) : read_manufacturer(options.manufacturer));
    ATTEST_TRY(const Subject authority, ca.intermediate.subject());
    if (authority.platform_class != cls) {
        ATTEST_CHECK(add_intermediate(ca, cls));
    }
    ATTEST_TRY(const Key platform_key, new_signing_key());
    ATTEST_TRY(const Certificate platform, issue({std::string(kPlatformCommonName), cls, {}}, Role::kPlatform,
                                                 platform_key.get(), {&ca.intermediate, ca.intermediate_key.get()}));
    StoreKeyBytes store_key{};
    if (RAND_priv_bytes(store_key.data(), static_cast<int>(store_key.size())) != 1) {
        return problem("no random numbers for store.key: " + openssl_errors());
    }

    ATTEST_CHECK(write_manufacturer(in / "ca", ca));
    ATTEST_CHECK(write_private_key(in / "platform.key", platform_key.get()));
    ATTEST_CHECK(write_new_file(in / "platform.crt", view_of(platform.pem()), kPrivateFile));
    ATTEST_CHECK(write_new_file(in / "store.key", store_key, kPrivateFile));
    ATTEST_CHECK(write_new_file(in / "class", view_of(cls + "\n"), kPrivateFile));

    ATTEST_CHECK(write_new_file(out / "manufacturer.pem", view_of(ca.root.pem()), kPublicFile));
    ATTEST_CHECK(write_new_file(out / "chain.pem", view_of(ca.intermediate.pem() + platform.pem()), kPublicFile));
    ATTEST_CHECK(write_new_file(out / "platform.crt", view_of(platform.pem()), kPublicFile));

    const Workshop shop{in, out, ca, cls, platform.machine_id(), store_key, manufacture};
    for (unsigned i = 0; i < options.instances; ++i) {
        ATTEST_CHECK(shop.make(i));
    }
    OPENSSL_cleanse(store_key.data(), store_key.size());
    // The private folder last: where it is, the platform is whole.
    ATTEST_CHECK(open.move_to(options.public_folder));
    if (auto moved = secret.move_to(options.private_folder); !moved) {
        std::error_code ignored;
        fs::remove_all(options.public_folder, ignored);
        return moved;
    }
    return {};
}

Expected<unsigned> add_instances(const fs::path &private_folder, const fs::path &public_folder, unsigned instances,
                                 const ManufactureInstance &manufacture)
{
    const fs::path in = plain(private_folder);
    const fs::path out = plain(public_folder);
    if (instances > kInstancesMax) {
        return problem("a platform has at most " + std::to_string(kInstancesMax) + " instances, not " +
                       std::to_string(instances));
    }
    ATTEST_TRY(const PlatformLock lock, PlatformLock::take(in));
    ATTEST_TRY(const PlatformFacts facts, read_public_platform(out));
    ATTEST_TRY(const Bytes pem, read_file(in / "platform.crt", kFileMax));
    ATTEST_TRY(const Certificate platform, only_certificate(pem));
    if (platform.machine_id() != facts.machine) {
        return problem(in.string() + " and " + out.string() + " are not of one platform");
    }
    ATTEST_TRY(const Manufacturer ca, read_manufacturer(in / "ca"));
    ATTEST_TRY(Bytes key, read_file(in / "store.key", kFileMax));
    StoreKeyBytes store_key{};
    if (key.size() != store_key.size()) {
        return problem((in / "store.key").string() + " does not hold " + std::to_string(store_key.size()) + " bytes");
    }
    std::copy(key.begin(), key.end(), store_key.begin());
    OPENSSL_cleanse(key.data(), key.size());

    const Workshop shop{in, out, ca, facts.platform_class, facts.machine, store_key, manufacture};
    unsigned added = 0;
    std::error_code error;
    for (unsigned i = 0; i < instances; ++i) {
        if (fs::exists(shop.names_of(i), error)) {
            if (!fs::exists(shop.folder_of(i), error)) {
                return problem(shop.folder_of(i).string() + " is lost: instance " + std::to_string(i) +
                               " is in use, and nothing is made in its place");
            }
            continue;
        }
        ATTEST_CHECK(shop.clear(i));
        ATTEST_CHECK(shop.make(i));
        ++added;
    }
    OPENSSL_cleanse(store_key.data(), store_key.size());
    return added;
}

Expected<Manufacturer> hold_manufacturer(const fs::path &ca, std::string_view platform_class)
{
    const fs::path place = plain(ca);
    std::error_code error;
    if (fs::exists(place / "root.crt", error)) {
        return read_manufacturer(place);
    }
    ATTEST_CHECK(must_be_free(place));
    ATTEST_TRY(Draft draft, Draft::beside(place, 0700));
    ATTEST_TRY(Manufacturer made, new_manufacturer(platform_class));
    ATTEST_CHECK(write_manufacturer(draft.folder(), made));
    ATTEST_CHECK(draft.move_to(place));
    return made;
}

Expected<PlatformFacts> read_public_platform(const fs::path &public_folder)
{
    if (const auto around = private_folder_around(public_folder)) {
        return problem(around->string() + " is a platform's private folder; name the public one");
    }
    const auto read = [&](const char *name) { return read_file(public_folder / name, kFileMax); };
    ATTEST_TRY(const Bytes root_pem, read("manufacturer.pem"));
    ATTEST_TRY(const Bytes chain_pem, read("chain.pem"));
    ATTEST_TRY(const Bytes platform_pem, read("platform.crt"));
    ATTEST_TRY(const std::vector<Certificate> roots, Certificate::list_from_pem(root_pem));
    ATTEST_TRY(const std::vector<Certificate> chain, Certificate::list_from_pem(chain_pem));
    ATTEST_TRY(const Certificate platform, only_certificate(platform_pem));
    if (roots.size() != 1 || !roots[0].has_role(Role::kRoot) || !platform.has_role(Role::kPlatform)) {
        return problem(public_folder.string() + " does not hold one root and one platform certificate");
    }
    ATTEST_CHECK(check_chain(platform, chain, roots));
    ATTEST_TRY(const Subject subject, platform.subject());
    PlatformFacts facts{subject.platform_class, platform.machine_id(), roots[0].subject_text(),
                        digest_bytes(roots[0].der()).sha256, 0};
    std::error_code error;
    while (fs::exists(public_folder / "instances" / instance_number(facts.instances), error)) {
        ++facts.instances;
    }
    return facts;
}

} // namespace banyan::attest
