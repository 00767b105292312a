/* In place of string_gpr.c where libc's or a sanitizer's memcpy() is linked. */
#include "base/light.h"

const bool light_code = false;
