// SPDX-License-Identifier: GPL-2.0-or-later
// Stands in for libFuzzer where there is only g++: runs every file of the corpus, then seeded mutations of them.
// The sequence depends on the arguments alone, so a failure repeats; the input that fails is left behind.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <signal.h>
#include <string>
#include <unistd.h>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size);

namespace {

using Input = std::vector<std::uint8_t>;

constexpr std::size_t kMaxSize = 8192;

Input current;

void keep_input(int signal_number)
{
    const char name[] = "fuzz-failure.bin"; // only calls that a signal handler may make
    if (FILE *file = std::fopen(name, "wb"); file != nullptr) {
        (void)std::fwrite(current.data(), 1, current.size(), file);
        (void)std::fclose(file);
    }
    std::fprintf(stderr, "fuzz: signal %d on an input of %zu bytes, kept in %s\n", signal_number, current.size(), name);
    ::signal(signal_number, SIG_DFL);
    ::raise(signal_number);
}

void run(const Input &input)
{
    current = input;
    (void)LLVMFuzzerTestOneInput(current.data(), current.size());
}

Input mutate(const std::vector<Input> &corpus, std::mt19937_64 &random)
{
    const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
    Input input = corpus[below(corpus.size())];
    for (std::size_t steps = 1 + below(6); steps > 0; --steps) {
        if (input.empty()) {
            input.resize(1 + below(64));
        }
        const std::size_t at = below(input.size());
        switch (below(7)) {
        case 0:
            input[at] ^= static_cast<std::uint8_t>(1U << below(8));
            break;
        case 1:
            input[at] = static_cast<std::uint8_t>(random());
            break;
        case 2: { // a boundary value, two bytes wide
            constexpr std::uint16_t kInteresting[] = {0, 1, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff};
            const std::uint16_t word = kInteresting[below(std::size(kInteresting))];
            input[at] = static_cast<std::uint8_t>(word >> 8);
            if (at + 1 < input.size()) {
                input[at + 1] = static_cast<std::uint8_t>(word);
            }
            break;
        }
        case 3:
            input.resize(at);
            break;
        case 4:
            input.insert(input.begin() + static_cast<std::ptrdiff_t>(at), 1 + below(16),
                         static_cast<std::uint8_t>(random()));
            break;
        case 5: { // the head of this, the tail of another
            const Input &other = corpus[below(corpus.size())];
            const std::size_t from = other.empty() ? 0 : below(other.size());
            input.resize(at);
            input.insert(input.end(), other.begin() + static_cast<std::ptrdiff_t>(from), other.end());
            break;
        }
        default: { // a piece of itself again
            const std::size_t from = below(input.size());
            const Input piece(input.begin() + static_cast<std::ptrdiff_t>(std::min(at, from)),
                              input.begin() + static_cast<std::ptrdiff_t>(std::max(at, from)));
            input.insert(input.end(), piece.begin(), piece.end());
            break;
        }
        }
        input.resize(std::min(input.size(), kMaxSize));
    }
    return input;
}

} // namespace

int main(int argc, char **argv)
{
    unsigned long runs = 0;
    std::vector<std::filesystem::path> files;
    for (int i = 1; i < argc; ++i) {
        const std::string arg = argv[i];
        if (arg.rfind("-runs=", 0) == 0) {
            runs = std::strtoul(arg.c_str() + std::strlen("-runs="), nullptr, 10);
        } else if (std::filesystem::is_directory(arg)) {
            for (const auto &entry : std::filesystem::directory_iterator(arg)) {
                files.push_back(entry.path());
            }
        } else {
            files.emplace_back(arg);
        }
    }
    std::sort(files.begin(), files.end()); // a directory's own order is not fixed

    std::vector<Input> corpus;
    for (const auto &path : files) {
        std::ifstream file(path, std::ios::binary);
        if (!file) {
            std::fprintf(stderr, "fuzz: cannot read %s\n", path.c_str());
            return 2;
        }
        corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    }
    if (corpus.empty()) {
        corpus.emplace_back();
    }

    for (const int number : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) {
        ::signal(number, keep_input);
    }
    for (const Input &input : corpus) {
        run(input);
    }
    std::mt19937_64 random(1);
    for (unsigned long i = 0; i < runs; ++i) {
        run(mutate(corpus, random));
    }
    std::printf("fuzz: %zu inputs of the corpus and %lu mutations\n", corpus.size(), runs);
    return 0;
}
