// SPDX-License-Identifier: GPL-2.0-or-later
// libtpms is one TPM in the global variables of the library: a copy of the library for each TPM, from a memory file of
// its own under a name of its own (the loader knows libraries by name).
#include <climits>
#include <cstdlib>
#include <dlfcn.h>
#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <libtpms/tpm_error.h>
#include <libtpms/tpm_library.h>
#include <libtpms/tpm_nvfilename.h>

#include "tests/bench/vtpm_load/commands.hpp"
#include "tests/bench/vtpm_load/side.hpp"

namespace banyan::bench {
namespace {

extern "C" {
static TPM_RESULT on_init()
{
    return TPM_SUCCESS;
}
static TPM_RESULT on_load(unsigned char ** /*data*/, std::uint32_t * /*length*/, std::uint32_t /*tpm*/,
                          const char * /*name*/)
{
    return TPM_RETRY; // there is none
}
static TPM_RESULT on_store(const unsigned char * /*data*/, std::uint32_t /*length*/, std::uint32_t /*tpm*/,
                           const char * /*name*/)
{
    return TPM_SUCCESS;
}
static TPM_RESULT on_delete(std::uint32_t /*tpm*/, const char * /*name*/, TPM_BOOL /*must_exist*/)
{
    return TPM_SUCCESS;
}
static TPM_RESULT on_locality(TPM_MODIFIER_INDICATOR *locality, std::uint32_t /*tpm*/)
{
    *locality = 0;
    return TPM_SUCCESS;
}
}

class Libtpms final : public Side {
public:
    explicit Libtpms(unsigned count) : each_(count)
    {
        void *first = ::dlopen("libtpms.so.0", RTLD_NOW | RTLD_LOCAL);
        link_map *map = nullptr;
        if (first == nullptr || ::dlinfo(first, RTLD_DI_LINKMAP, &map) != 0) {
            give_up("libtpms.so.0 cannot be loaded");
        }
        std::ifstream file(map->l_name, std::ios::binary);
        image_.assign(std::istreambuf_iterator<char>(file), {});
    }

    void start(unsigned index) override
    {
        One &one = each_[index];
        const int file = ::memfd_create("libtpms", MFD_CLOEXEC);
        if (file < 0 || ::write(file, image_.data(), image_.size()) != static_cast<ssize_t>(image_.size())) {
            give_up("no memory file for a copy of libtpms");
        }
        const int named = ::fcntl(file, F_DUPFD_CLOEXEC, 10000 + static_cast<int>(index)); // never the same number
        ::close(file);
        one.library = ::dlopen(("/proc/self/fd/" + std::to_string(named)).c_str(), RTLD_NOW | RTLD_LOCAL);
        if (one.library == nullptr) {
            give_up(std::string("a copy of libtpms cannot be loaded: ") + ::dlerror());
        }
        libtpms_callbacks callbacks{};
        callbacks.sizeOfStruct = sizeof(callbacks);
        callbacks.tpm_nvram_init = on_init;
        callbacks.tpm_nvram_loaddata = on_load;
        callbacks.tpm_nvram_storedata = on_store;
        callbacks.tpm_nvram_deletename = on_delete;
        callbacks.tpm_io_init = on_init;
        callbacks.tpm_io_getlocality = on_locality;
        one.process = symbol<decltype(&TPMLIB_Process)>(one, "TPMLIB_Process");
        if (symbol<decltype(&TPMLIB_ChooseTPMVersion)>(one, "TPMLIB_ChooseTPMVersion")(TPMLIB_TPM_VERSION_2) != 0 ||
            symbol<decltype(&TPMLIB_RegisterCallbacks)>(one, "TPMLIB_RegisterCallbacks")(&callbacks) != 0 ||
            symbol<decltype(&TPMLIB_MainInit)>(one, "TPMLIB_MainInit")() != 0 ||
            code_of(command(index, startup_clear())) != 0) {
            give_up("a copy of libtpms does not start");
        }
    }

    const Bytes &command(unsigned index, const Bytes &bytes) override
    {
        One &one = each_[index];
        one.request = bytes;
        std::uint32_t size = 0;
        if (one.process(&one.response, &size, &one.room, one.request.data(),
                        static_cast<std::uint32_t>(one.request.size())) != TPM_SUCCESS) {
            give_up("libtpms does not process a command");
        }
        one.answer.assign(one.response, one.response + size);
        return one.answer;
    }

private:
    struct One {
        void *library = nullptr;
        decltype(&TPMLIB_Process) process = nullptr;
        unsigned char *response = nullptr;
        std::uint32_t room = 0;
        Bytes request;
        Bytes answer;
    };

    template <typename Function>
    static Function symbol(const One &one, const char *name)
    {
        void *at = ::dlsym(one.library, name);
        if (at == nullptr) {
            give_up(std::string("libtpms has no ") + name);
        }
        return reinterpret_cast<Function>(at);
    }

    std::vector<char> image_;
    std::vector<One> each_;
};

} // namespace

std::unique_ptr<Side> make_libtpms(unsigned count)
{
    return std::make_unique<Libtpms>(count);
}

} // namespace banyan::bench
