/*
 * The log: logfmt lines on standard error, in the journal's form ("<6>…") where standard
 * error is the journal (JOURNAL_STREAM names its device and inode, systemd.exec(5)).
 *
 * One write(2) a line, so that lines of several processes do not mix; a line that would
 * block is dropped and counted. Values are quoted where logfmt asks for it, and what a terminal
 * may take for a command (text_is_control) is escaped. A line has 4096 bytes at most; what does not
 * fit is left out, and the line ends in cut=true. Only callers in src/core/, src/fs/, src/daemon/
 * and src/cli/ log; library code returns errors.
 * Any thread. Never a secret: the caller passes names, paths and sentences only.
 *
 *     log_info("rotated", "connector", name, "version", "7", NULL);
 *     → time=2026-11-24T22:24:24.123Z level=info msg=rotated connector=orders version=7
 */
#ifndef CONNECTFS_BASE_LOG_H
#define CONNECTFS_BASE_LOG_H

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG
};

/* "error", "warn", "info", "debug" → the level, or -EINVAL. */
int log_level_parse(const char *s);
void log_set_level(enum log_level level);
enum log_level log_get_level(void);
/* A field that stands in every line ("role", "worker"). Both must outlive the process. */
void log_set_role(const char *role);
/* For tests: lines go to fn instead of standard error. NULL: standard error again. */
void log_set_sink(void (*fn)(const char *line, void *arg), void *arg);
/* Makes standard error non-blocking safe and finds out whether it is the journal. */
void log_init(void);
unsigned long log_dropped(void); /* lines, by this process */

/* msg, then pairs of key and value (both const char *; a NULL value leaves the pair out),
 * then NULL. */
void log_write(enum log_level level, const char *msg, ...) __attribute__((sentinel));
#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
