// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/baremetal/lib/selftest.hpp"

#include "tests/baremetal/lib/cores.hpp"
#include "tests/baremetal/lib/domain.hpp"

extern "C" {
extern const banyan::bare::Case __start_banyan_selftests[];
extern const banyan::bare::Case __stop_banyan_selftests[];
extern char interrupt_entries[], protected_call_fault[], trampoline[], trampoline_end[];
extern banyan::bare::u32 start_info, starting_core, in_guest, guest_function, guest_argument;
[[noreturn]] void run_selftests();
[[noreturn]] void guest_main();
[[noreturn]] void core_main();
void trap(banyan::bare::Frame *frame);
void *memcpy(void *to, const void *from, std::size_t size);
void *memset(void *to, int value, std::size_t size);
int memcmp(const void *a, const void *b, std::size_t size);
}

// The compiler may call these.
void *memcpy(void *to, const void *from, std::size_t size)
{
    void *result = to;
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
    return result;
}

void *memset(void *to, int value, std::size_t size)
{
    void *result = to;
    asm volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
    return result;
}

int memcmp(const void *a, const void *b, std::size_t size)
{
    const auto *x = static_cast<const unsigned char *>(a);
    const auto *y = static_cast<const unsigned char *>(b);
    for (std::size_t i = 0; i < size; ++i) {
        if (x[i] != y[i]) {
            return x[i] < y[i] ? -1 : 1;
        }
    }
    return 0;
}

namespace banyan::bare {

namespace {

constinit PerCore per_core[kCores]{};

struct Gate {
    u64 low, high;
};
alignas(16) constinit Gate interrupt_table[256]{};

struct [[gnu::packed]] TableRegister {
    u16 limit;
    u64 base;
};

const Case *current = nullptr;
u32 phase = 0;

// ---- COM1 ---------------------------------------------------------------------------------------------------------------

constexpr u16 kCom1 = 0x3F8;

void put(char c)
{
    while ((in8(kCom1 + 5) & 0x20) == 0) {
    }
    out8(kCom1, static_cast<u8>(c));
}

char get()
{
    while ((in8(kCom1 + 5) & 1) == 0) {
        pause();
    }
    return static_cast<char>(in8(kCom1));
}

// ---- words that outlive a reset: RTC memory that no firmware uses -----------------------------------------------------

constexpr u8 kMark = 0x68; // mark, number of the case, phase
constexpr u8 kMarked = 0xB5;

u8 nvram(u8 index)
{
    out8(0x70, index | 0x80);
    return in8(0x71);
}

void nvram(u8 index, u8 value)
{
    out8(0x70, index | 0x80);
    out8(0x71, value);
}

// ---- command line --------------------------------------------------------------------------------------------------------

const char *command_line()
{
    const u64 text = start_info == 0 ? 0 : read<u64>(start_info + 24); // hvm_start_info.cmdline_paddr
    return text == 0 ? "" : reinterpret_cast<const char *>(text);
}

/// The value of NAME=VALUE, or nullptr; ends at a blank.
const char *option(const char *name)
{
    for (const char *p = command_line(); *p != '\0';) {
        const char *n = name;
        const char *q = p;
        while (*n != '\0' && *q == *n) {
            ++n;
            ++q;
        }
        if (*n == '\0' && *q == '=') {
            return q + 1;
        }
        while (*p != '\0' && *p != ' ') {
            ++p;
        }
        while (*p == ' ') {
            ++p;
        }
    }
    return nullptr;
}

bool same_word(const char *text, const char *name)
{
    while (*name != '\0' && *text == *name) {
        ++text;
        ++name;
    }
    return *name == '\0' && (*text == '\0' || *text == ' ' || *text == ',');
}

[[noreturn]] void halt()
{
    for (;;) {
        asm volatile("cli; hlt");
    }
}

[[noreturn]] void stop_program()
{
    nvram(kMark, 0);
    say("STOP\n"); // the runner ends the machine
    halt();
}

void report_failure(const char *expression, const char *file, u64 line)
{
    say("FAIL ");
    say(current == nullptr ? "start" : current->name);
    say(": ");
    say(expression);
    say(" at ");
    say(file);
    say(":");
    say_decimal(line);
}

} // namespace

// ---- words to the runner ----------------------------------------------------------------------------------------------

void say(const char *text)
{
    for (; *text != '\0'; ++text) {
        put(*text);
    }
}

void say_hex(u64 value)
{
    say("0x");
    bool begun = false;
    for (int shift = 60; shift >= 0; shift -= 4) {
        const u64 digit = value >> shift & 0xF;
        begun = begun || digit != 0 || shift == 0;
        if (begun) {
            put("0123456789abcdef"[digit]);
        }
    }
}

void say_decimal(u64 value)
{
    if (value >= 10) {
        say_decimal(value / 10);
    }
    put(static_cast<char>('0' + value % 10));
}

void begin_question()
{
    say("ASK ");
}

u64 end_question()
{
    say("\n");
    u64 value = 0;
    char c = get();
    if (c == '?') {
        while (c != '\n') {
            c = get();
        }
        give_up("the runner has no answer");
    }
    for (; c != '\n'; c = get()) {
        value = value * 10 + static_cast<u64>(c - '0');
    }
    return value;
}

void expect_reset(u32 next)
{
    nvram(kMark + 1, static_cast<u8>(current - __start_banyan_selftests));
    nvram(kMark + 2, static_cast<u8>(next));
    nvram(kMark, kMarked);
    say("RESETS\n");
}

void reset_machine()
{
    expect_reset(phase + 1);
    say("RESET\n");
    halt();
}

u32 boot_phase()
{
    return phase;
}

bool machine_has(const char *word)
{
    for (const char *p = option("has"); p != nullptr && *p != '\0' && *p != ' ';) {
        if (same_word(p, word)) {
            return true;
        }
        while (*p != '\0' && *p != ' ' && *p != ',') {
            ++p;
        }
        p += *p == ',' ? 1 : 0;
    }
    return false;
}

// ---- outcomes -----------------------------------------------------------------------------------------------------------

void fail_expectation(const char *expression, const char *file, int line)
{
    if (in_guest != 0) {
        guest::fail(expression, file, line, 0, 0);
    }
    report_failure(expression, file, static_cast<u64>(line));
    say("\n");
    stop_program();
}

void fail_expectation(const char *expression, const char *file, int line, u64 seen, u64 expected)
{
    if (in_guest != 0) {
        guest::fail(expression, file, line, seen, expected);
    }
    report_failure(expression, file, static_cast<u64>(line));
    say(" (");
    say_hex(seen);
    say(", ");
    say_hex(expected);
    say(")\n");
    stop_program();
}

void report_guest_failure(const char *expression, const char *file, u64 line, u64 seen, u64 expected)
{
    report_failure(expression, file, line);
    say(" in the domain (");
    say_hex(seen);
    say(", ");
    say_hex(expected);
    say(")\n");
    stop_program();
}

void skip(const char *condition)
{
    say("SKIP ");
    say(current->name);
    say(": ");
    say(condition);
    say("\n");
    say("AGAIN\n"); // the machine starts again behind this test
    halt();
}

void give_up(const char *reason)
{
    say("ERROR ");
    say(current == nullptr ? "start" : current->name);
    say(": ");
    say(reason);
    say("\n");
    stop_program();
}

// ---- cores ----------------------------------------------------------------------------------------------------------------

namespace {

struct Mailbox {
    volatile bool idle;
    void (*volatile job)(u64);
    u64 argument;
};
Mailbox mailbox[kCores];

void set_gate(u32 vector, u64 handler)
{
    constexpr u64 kInterruptGate = 0x8E00ull << 32 | 0x08ull << 16; // 4.8.4; the 64-bit code segment
    interrupt_table[vector].low = (handler & 0xFFFF) | kInterruptGate | (handler >> 16 & 0xFFFF) << 48;
    interrupt_table[vector].high = handler >> 32;
}

} // namespace

void set_up_core(u32 number)
{
    for (u32 vector = 0; vector < 256; ++vector) {
        set_gate(vector, address_of(interrupt_entries) + vector * 16);
    }
    const TableRegister table{sizeof interrupt_table - 1, address_of(interrupt_table)};
    asm volatile("lidt %0" : : "m"(table));
    PerCore &core = per_core[number];
    core.self = &core;
    core.number = number;
    core.recovery = 0;
    wrmsr(msr::kGsBase, address_of(&core));
    lapic::enable();
}

void prepare_trampoline(u32 number)
{
    memcpy(reinterpret_cast<void *>(u64{kTrampoline}), trampoline,
           static_cast<std::size_t>(trampoline_end - trampoline));
    starting_core = number;
    mailbox[number].idle = false;
    mailbox[number].job = nullptr;
}

bool try_start_core(u32 number, bool with_init, u64 limit)
{
    prepare_trampoline(number);
    if (with_init) {
        lapic::send(number, lapic::kInit | lapic::kAssert);
        spin(2 * kMillisecond);
    }
    lapic::send(number, lapic::kStartup | lapic::kAssert | kTrampoline >> 12);
    return eventually([&] { return mailbox[number].idle; }, limit);
}

void start_core(u32 number, bool with_init)
{
    BANYAN_EXPECT(try_start_core(number, with_init, 20 * kSecond));
}

bool core_is_idle(u32 number)
{
    return mailbox[number].idle && mailbox[number].job == nullptr;
}

void begin_on(u32 number, void (*job)(u64), u64 argument)
{
    BANYAN_EXPECT(core_is_idle(number));
    mailbox[number].argument = argument;
    mailbox[number].job = job;
    lapic::send(number, lapic::kFixed | lapic::kAssert | kWakeVector);
}

bool finished_on(u32 number, u64 limit)
{
    return eventually([&] { return mailbox[number].job == nullptr; }, limit);
}

void run_on(u32 number, void (*job)(u64), u64 argument)
{
    begin_on(number, job, argument);
    BANYAN_EXPECT(finished_on(number));
}

} // namespace banyan::bare

using namespace banyan::bare;

void core_main()
{
    const u32 number = starting_core;
    set_up_core(number);
    mailbox[number].idle = true;
    for (;;) {
        cli();
        while (mailbox[number].job == nullptr) {
            sti_hlt();
        }
        mailbox[number].job(mailbox[number].argument);
        mailbox[number].job = nullptr;
    }
}

// ---- faults and interrupts ------------------------------------------------------------------------------------------------

void trap(Frame *frame)
{
    PerCore &core = this_core();
    const auto vector = static_cast<u8>(frame->vector);
    const bool is_interrupt = vector >= 32 || vector == kNmi;
    if (is_interrupt || core.hook != nullptr) {
        core.interrupts[vector] = core.interrupts[vector] + 1;
        if (core.hook != nullptr) {
            core.hook(*frame);
        }
        if (vector >= 32) {
            lapic::set(lapic::kEoi, 0);
        }
        return;
    }
    core.fault = {true, vector, frame->error, read_cr2(), frame->rip};
    if (core.recovery != 0) {
        frame->rip = address_of(protected_call_fault);
        frame->rsp = core.recovery;
        frame->cs = 0x08;
        frame->ss = 0x10;
        frame->rflags &= ~u64{1u << 10};
        return;
    }
    core.interrupts[vector] = core.interrupts[vector] + 1;
    if (in_guest != 0) {
        guest::fail("an unexpected exception (vector, rip)", "trap", 0, vector, frame->rip);
    }
    report_failure("an unexpected exception", "trap", vector);
    say(" rip ");
    say_hex(frame->rip);
    say(" error ");
    say_hex(frame->error);
    say(" cr2 ");
    say_hex(read_cr2());
    say("\n");
    stop_program();
}

// ---- the program ----------------------------------------------------------------------------------------------------------

void guest_main()
{
    set_up_core(0);
    reinterpret_cast<void (*)(u64)>(u64{guest_function})(guest_argument);
    guest::poweroff();
}

void run_selftests()
{
    out8(0x21, 0xFF); // both 8259s masked
    out8(0xA1, 0xFF);
    set_up_core(0);
    say("BOOT\n");
    const char *only = option("only");
    const char *after = option("after");
    const Case *first = __start_banyan_selftests;
    if (after != nullptr) {
        while (first != __stop_banyan_selftests && !same_word(after, first->name)) {
            ++first;
        }
        first += first != __stop_banyan_selftests ? 1 : 0;
    }
    if (nvram(kMark) == kMarked) {
        first = __start_banyan_selftests + nvram(kMark + 1);
        phase = nvram(kMark + 2);
        nvram(kMark, 0);
        current = first;
    }
    for (const Case *c = first; c < __stop_banyan_selftests; ++c) {
        if (only != nullptr && !same_word(only, c->name)) {
            continue;
        }
        current = c;
        say("CASE ");
        say(c->name);
        say("\n");
        c->run();
        say("PASS ");
        say(c->name);
        say("\n");
        phase = 0;
    }
    say("DONE\n");
    halt();
}
