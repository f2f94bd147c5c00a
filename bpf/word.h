/* Text that is compared in words of 8 bytes. */
#pragma once

#include <linux/types.h>

/* WORD is the word that the bytes a to h are in memory: the first is the lowest. */
#define WORD(a, b, c, d, e, f, g, h)                                                                                           \
	((__u64)(a) | (__u64)(b) << 8 | (__u64)(c) << 16 | (__u64)(d) << 24 | (__u64)(e) << 32 | (__u64)(f) << 40 |            \
	 (__u64)(g) << 48 | (__u64)(h) << 56)
