/*
 * Levenshtein's distance, one row at a time.
 */
#include "base/spell.h"

#include <stdint.h>
#include <string.h>

size_t spell_distance(const char *a, const char *b)
{
	size_t row[SPELL_LONGEST + 1], la = strlen(a), lb = strlen(b);

	if (la > SPELL_LONGEST || lb > SPELL_LONGEST)
		return SIZE_MAX / 2;
	for (size_t j = 0; j <= lb; j++)
		row[j] = j;
	for (size_t i = 1; i <= la; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= lb; j++) {
			size_t best = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[lb];
}
