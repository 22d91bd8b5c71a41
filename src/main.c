/*
 * connectfs: Kafka Connect connectors as files, with their secrets resolved on read.
 */
#include "cli/cli.h"
#include "daemon/daemon.h"

int main(int argc, char **argv)
{
	int status = daemon_role(argc, argv);

	return status >= 0 ? status : cli_main(argc, argv);
}
