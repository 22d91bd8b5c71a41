/*
 * For the tests of the audit log: other sockets than the system's. Linked into connectfs-test, never into the
 * installed program.
 */
#include <stdlib.h>

#include "fs/auditsink.h"

__attribute__((constructor)) static void set_sockets(void)
{
	audit_sink_set_sockets(getenv("CONNECTFS_TEST_JOURNAL"), getenv("CONNECTFS_TEST_SYSLOG"));
}
