// SPDX-License-Identifier: GPL-2.0-or-later
// tpm2-tools link with libcurl for one tool that fetches certificates from the net. A guest has no net; this stands in
// for libcurl and the 25 libraries behind it, and every attempt to use it fails.

#include <stddef.h>

void *curl_easy_init(void);
int curl_easy_setopt(void *handle, int option, ...);
int curl_easy_perform(void *handle);
void curl_easy_cleanup(void *handle);
const char *curl_easy_strerror(int code);
char *curl_easy_escape(void *handle, const char *string, int length);
char *curl_easy_unescape(void *handle, const char *string, int length, int *out_length);
void curl_free(void *memory);
int curl_global_init(long flags);
void curl_global_cleanup(void);

enum { kFailedInit = 2 }; // CURLE_FAILED_INIT

void *curl_easy_init(void)
{
    return NULL;
}

int curl_easy_setopt(void *handle, int option, ...)
{
    (void)handle;
    (void)option;
    return kFailedInit;
}

int curl_easy_perform(void *handle)
{
    (void)handle;
    return kFailedInit;
}

void curl_easy_cleanup(void *handle)
{
    (void)handle;
}

const char *curl_easy_strerror(int code)
{
    (void)code;
    return "there is no network here";
}

char *curl_easy_escape(void *handle, const char *string, int length)
{
    (void)handle;
    (void)string;
    (void)length;
    return NULL;
}

char *curl_easy_unescape(void *handle, const char *string, int length, int *out_length)
{
    (void)handle;
    (void)string;
    (void)length;
    (void)out_length;
    return NULL;
}

void curl_free(void *memory)
{
    (void)memory;
}

int curl_global_init(long flags)
{
    (void)flags;
    return kFailedInit;
}

void curl_global_cleanup(void)
{
}
