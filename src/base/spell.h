/*
 * How far two spellings are from one another, for "did you mean …?".
 */
#ifndef CONNECTFS_BASE_SPELL_H
#define CONNECTFS_BASE_SPELL_H

#include <stddef.h>

/* Longer words are far from everything: nobody's key or option is. */
enum { SPELL_LONGEST = 63 };

/* Levenshtein's distance: bytes changed, added or left out. Pure; any thread. */
size_t spell_distance(const char *a, const char *b);

#endif
