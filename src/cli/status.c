/*
 * connectfs status: reads .connectfs/status.json of a mount and shows it as two tables.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#include "base/clock.h"
#include "base/error.h"
#include "cli/cli.h"
#include "format/utf8.h"

enum {
	COLUMNS = 100,
	GAP = 2,
	NAME_MAX_COLUMNS = 34,                /* of a connector or secret: the rest is the error's */
	STATUS_BYTES_MAX = 256 * 1024 * 1024, /* 100,000 connectors make some 40 MiB */
	OUT_BYTES_MAX = 256 * 1024 * 1024,
};

/* ---- cells ---- */

/* The first character of s: its bytes, its columns, and whether it is to be shown as '?'. */
static size_t next_char(const char *s, size_t len, size_t *ret_columns, bool *ret_bad)
{
	uint32_t c = 0;
	size_t n = utf8_decode(s, len, &c);
	int w;

	*ret_bad = n == 0 || text_is_control(c);
	w = *ret_bad ? 1 : wcwidth((wchar_t)c);
	*ret_columns = w < 0 ? 1 : (size_t)w; /* unknown to the locale: the terminal shows something */
	return n ? n : 1;
}

static size_t columns_of(const char *s, size_t len)
{
	size_t sum = 0, w;
	bool bad;

	while (len > 0) {
		size_t n = next_char(s, len, &w, &bad);
		sum += w;
		s += n;
		len -= n;
	}
	return sum;
}

/* Adds what fits into max columns; returns the columns used. */
static size_t add_fitting(struct buf *out, const char *s, size_t len, size_t max)
{
	size_t sum = 0, w;
	bool bad;

	while (len > 0) {
		size_t n = next_char(s, len, &w, &bad);
		if (sum + w > max)
			break;
		if (bad)
			buf_add_char(out, '?');
		else
			buf_add(out, s, n);
		sum += w;
		s += n;
		len -= n;
	}
	return sum;
}

/* The tail of s that fits into max columns. */
static const char *tail(const char *s, size_t max)
{
	size_t len = strlen(s), sum = columns_of(s, len), w;
	bool bad;

	while (sum > max) {
		size_t n = next_char(s, len, &w, &bad);
		sum -= w;
		s += n;
		len -= n;
	}
	return s;
}

/* Adds s, cut to max columns with an ellipsis: at its end, or in its middle (paths differ in their
 * tails). Returns the columns used. */
static size_t add_cut(struct buf *out, const char *s, size_t max, bool middle)
{
	size_t len = strlen(s), used;

	if (columns_of(s, len) <= max)
		return add_fitting(out, s, len, max);
	if (max == 0)
		return 0;
	used = add_fitting(out, s, len, middle ? (max - 1) / 3 : max - 1);
	buf_add_str(out, "…");
	used++;
	if (middle) {
		const char *end = tail(s, max - used);
		used += add_fitting(out, end, strlen(end), max - used);
	}
	return used;
}

enum column_kind { LEFT, RIGHT, MIDDLE, STATE };

struct column {
	const char *title;
	enum column_kind kind;
	size_t max;   /* columns at most; 0: what is left of the line */
	size_t width; /* found out by measure */
};

enum { COLUMNS_MAX = 6, CELL_MAX = 32 };

/* One row: short cells are made in room, long ones point into the JSON. */
struct row {
	const char *cells[COLUMNS_MAX];
	char room[COLUMNS_MAX][CELL_MAX];
};

static const char *colour_of(const char *state)
{
	if (strcmp(state, "ok") == 0)
		return "\033[32m";
	if (strcmp(state, "failed") == 0)
		return "\033[31m";
	if (strcmp(state, "stale") == 0)
		return "\033[33m";
	return "\033[2m";
}

static void add_spaces(struct buf *out, size_t n)
{
	while (n-- > 0)
		buf_add_char(out, ' ');
}

static void add_cell(struct buf *out, const struct column *c, const char *text, bool colour, bool last)
{
	size_t have = columns_of(text, strlen(text));
	size_t pad = have < c->width ? c->width - have : 0;
	bool paint = colour && c->kind == STATE;

	if (c->kind == RIGHT)
		add_spaces(out, pad);
	if (paint)
		buf_add_str(out, colour_of(text));
	size_t used = add_cut(out, text, c->width, c->kind == MIDDLE);
	if (paint)
		buf_add_str(out, "\033[0m");
	if (!last && c->kind != RIGHT)
		add_spaces(out, c->width - used);
}

static void add_row(struct buf *out, const struct column *columns, size_t n, const char *const *cells,
                    bool colour)
{
	size_t last = n;

	while (last > 0 && !cells[last - 1][0])
		last--; /* no spaces at the end of a line */
	for (size_t i = 0; i < last; i++) {
		if (i > 0)
			add_spaces(out, GAP);
		add_cell(out, &columns[i], cells[i], colour, i + 1 == last);
	}
	buf_add_char(out, '\n');
}

typedef void make_row(json_t *item, int64_t now_ns, struct row *ret);

static void measure(struct column *columns, size_t n, json_t *items, make_row *make, int64_t now_ns)
{
	size_t i, left = COLUMNS, w;
	struct row row;
	json_t *item;

	for (size_t k = 0; k < n; k++)
		columns[k].width = strlen(columns[k].title);
	json_array_foreach(items, i, item) {
		make(item, now_ns, &row);
		for (size_t k = 0; k < n; k++) {
			w = columns_of(row.cells[k], strlen(row.cells[k]));
			if (w > columns[k].max)
				w = columns[k].max;
			if (w > columns[k].width)
				columns[k].width = w;
		}
	}
	for (size_t k = 0; k + 1 < n; k++)
		left -= columns[k].width + GAP; /* their maxima leave room: see the tables below */
	columns[n - 1].width = left;
}

static void add_table(struct buf *out, struct column *columns, size_t n, json_t *items, make_row *make,
                      bool colour, int64_t now_ns)
{
	const char *titles[COLUMNS_MAX];
	struct row row;
	json_t *item;
	size_t i;

	measure(columns, n, items, make, now_ns);
	for (size_t k = 0; k < n; k++)
		titles[k] = columns[k].title;
	add_row(out, columns, n, titles, false);
	json_array_foreach(items, i, item) {
		make(item, now_ns, &row);
		add_row(out, columns, n, row.cells, colour);
	}
}

/* ---- values ---- */

static const char *text_of(json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));

	return s ? s : "";
}

static int64_t number_of(json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key)); /* 0: not there */
}

/* "85ms", "12s", "3m", "5h", "12d": the largest unit alone. ret has CELL_MAX bytes. */
static const char *show_duration(int64_t ms, char *ret)
{
	if (ms < 0)
		ms = 0;
	if (ms < 1000)
		snprintf(ret, CELL_MAX, "%" PRId64 "ms", ms);
	else if (ms < 120 * 1000)
		snprintf(ret, CELL_MAX, "%" PRId64 "s", ms / 1000);
	else if (ms < INT64_C(120) * 60 * 1000)
		snprintf(ret, CELL_MAX, "%" PRId64 "m", ms / 60000);
	else if (ms < INT64_C(48) * 3600 * 1000)
		snprintf(ret, CELL_MAX, "%" PRId64 "h", ms / 3600000);
	else
		snprintf(ret, CELL_MAX, "%" PRId64 "d", ms / 86400000);
	return ret;
}

/* How long ago an RFC 3339 time in UTC is; "-" for none. */
static const char *show_age(const char *time, int64_t now_ns, char *ret)
{
	struct tm tm = { 0 };
	const char *end = strptime(time, "%Y-%m-%dT%H:%M:%S", &tm);

	if (!end)
		return "-";
	int64_t ms = (int64_t)timegm(&tm) * 1000;
	if (*end == '.') {
		int64_t unit = 100;
		for (end++; *end >= '0' && *end <= '9'; end++, unit /= 10)
			ms += (*end - '0') * unit;
	}
	return show_duration(now_ns / 1000000 - ms, ret);
}

static const char *show_size(int64_t bytes, char *ret)
{
	static const char *const units[] = { "", "K", "M", "G", "T" };
	double n = (double)bytes;
	size_t u = 0;

	for (; n >= 1024 && u + 1 < sizeof(units) / sizeof(units[0]); u++)
		n /= 1024;
	snprintf(ret, CELL_MAX, u && n < 10 ? "%.1f%s" : "%.0f%s", n, units[u]);
	return ret;
}

static const char *show_number(int64_t n, char *ret)
{
	snprintf(ret, CELL_MAX, "%" PRId64, n);
	return ret;
}

static const char *show_ms(json_t *object, const char *key, char *ret)
{
	json_t *value = json_object_get(object, key);

	return json_is_integer(value) ? show_duration(json_integer_value(value), ret) : "-";
}

/* ---- the two tables: name, state, three short cells, error. Widths: 34 + 8 + 3 × 8 and gaps. */

static void connector_row(json_t *c, int64_t now_ns, struct row *ret)
{
	const char *unknown = json_string_value(json_array_get(json_object_get(c, "unknown_providers"), 0));
	const char *error = text_of(c, "error");

	if (!*error && unknown) {
		/* Cut by bytes only where a name is longer than the cell; what is half is shown as '?'. */
		snprintf(ret->room[5], CELL_MAX, "left as it is: ${%.*s:…", CELL_MAX - 22, unknown);
		error = ret->room[5];
	}
	ret->cells[0] = text_of(c, "name");
	ret->cells[1] = text_of(c, "state");
	ret->cells[2] = show_number(number_of(c, "version"), ret->room[2]);
	ret->cells[3] = show_age(text_of(c, "rotated"), now_ns, ret->room[3]);
	ret->cells[4] = show_size(number_of(c, "size"), ret->room[4]);
	ret->cells[5] = error;
}

static const char *const connector_titles[COLUMNS_MAX] = {
	"CONNECTOR", "STATE", "VERSION", "ROTATED", "SIZE", "ERROR"
};
static const char *const secret_titles[COLUMNS_MAX] = {
	"SECRET", "STATE", "FETCHED", "NEXT", "USERS", "ERROR"
};

/* The name of a secret is joined from two; it is kept in the object, so that a row can point to it. */
static const char *secret_name(json_t *s)
{
	json_t *name = json_object_get(s, "name");

	if (!name) {
		name = json_sprintf("%s:%s", text_of(s, "provider"), text_of(s, "id"));
		if (json_object_set_new(s, "name", name) < 0)
			return text_of(s, "id"); /* no memory: the path alone says enough */
	}
	return json_string_value(name);
}

static void secret_row(json_t *s, int64_t now_ns, struct row *ret)
{
	(void)now_ns;
	ret->cells[0] = secret_name(s);
	ret->cells[1] = text_of(s, "state");
	ret->cells[2] = show_ms(s, "age_ms", ret->room[2]);
	ret->cells[3] = show_ms(s, "next_ms", ret->room[3]);
	ret->cells[4] = show_number(number_of(s, "users"), ret->room[4]);
	ret->cells[5] = text_of(s, "error");
}

static void add_items(struct buf *out, const char *const *titles, json_t *items, make_row *make, bool colour,
                      int64_t now_ns)
{
	bool secrets = make == secret_row;
	struct column columns[COLUMNS_MAX] = {
		{ titles[0], secrets ? MIDDLE : LEFT, NAME_MAX_COLUMNS, 0 },
		{ titles[1], STATE, 8, 0 },
		{ titles[2], RIGHT, 8, 0 },
		{ titles[3], RIGHT, 8, 0 },
		{ titles[4], RIGHT, 8, 0 },
		{ titles[5], LEFT, 0, 0 },
	};

	add_table(out, columns, COLUMNS_MAX, items, make, colour, now_ns);
}

/* ---- the summary ---- */

static void add_count(struct buf *out, int64_t n, const char *word)
{
	buf_addf(out, "%" PRId64 " %s%s", n, word, n == 1 ? "" : "s");
}

static void add_summary(struct buf *out, json_t *root, int64_t now_ns)
{
	static const char *const states[] = { "ok", "stale", "failed", "idle" };
	json_t *by_state = json_object_get(root, "connectors_by_state");
	json_t *memory = json_object_get(root, "memory");
	json_t *keep = json_object_get(root, "keep");
	const char *separator = ": ";
	struct buf line;
	char room[CELL_MAX];

	buf_init(&line, 65536);
	add_count(&line, (int64_t)json_array_size(json_object_get(root, "connectors")), "connector");
	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		int64_t n = number_of(by_state, states[i]);
		if (n > 0) {
			buf_addf(&line, "%s%" PRId64 " %s", separator, n, states[i]);
			separator = ", ";
		}
	}
	buf_add_str(&line, "; ");
	add_count(&line, (int64_t)json_array_size(json_object_get(root, "secrets")), "secret");
	buf_add_str(&line, "; ");
	add_count(&line, number_of(root, "open_files"), "open file");
	if (number_of(root, "parked") > 0)
		buf_addf(&line, ", %" PRId64 " waiting", number_of(root, "parked"));
	buf_addf(&line, "; up %s", show_age(text_of(root, "started"), now_ns, room));
	buf_addf(&line, "; %s locked", show_size(number_of(memory, "locked") + number_of(keep, "locked"), room));
	if (number_of(root, "worker_restarts") > 0) {
		buf_add_str(&line, "; ");
		add_count(&line, number_of(root, "worker_restarts"), "worker restart");
	}
	if (line.data)
		add_cut(out, line.data, COLUMNS, false);
	buf_add_char(out, '\n');
	buf_free(&line);
	if (number_of(json_object_get(root, "audit"), "dropped") > 0) {
		buf_add_str(out, "the audit log lacks ");
		add_count(out, number_of(json_object_get(root, "audit"), "dropped"), "open");
		buf_add_char(out, '\n');
	}
	const char *fault = text_of(memory, "lock_error");
	if (!*fault)
		fault = text_of(keep, "lock_error");
	if (*fault) {
		buf_add_str(out, "memory is not all locked: ");
		add_cut(out, fault, COLUMNS - 26, false);
		buf_add_char(out, '\n');
	}
}

/* Those that need somebody's attention. */
static void add_providers(struct buf *out, json_t *providers)
{
	size_t i;
	json_t *p;

	json_array_foreach(providers, i, p) {
		const char *name = text_of(p, "name"), *error = text_of(p, "error");

		if (*error)
			buf_addf(out, "provider %s since %s: %s\n", name, text_of(p, "error_since"), error);
		if (json_is_true(json_object_get(p, "insecure")))
			buf_addf(out, "provider %s: the server's certificate is not verified (tls_skip_verify)\n", name);
	}
}

/* What keeps a fault from doing harm, and is not in force; a line each. Of memory the summary tells. */
static void add_lacking(struct buf *out, const char *where, json_t *protections)
{
	const char *name;
	struct buf line;
	json_t *p;

	json_object_foreach(protections, name, p) {
		if (!json_is_false(json_object_get(p, "in_force")) || strcmp(name, "memory_lock") == 0)
			continue;
		buf_init(&line, 65536);
		buf_addf(&line, "not in force%s: %s: %s", where, name, text_of(p, "why"));
		if (line.data)
			add_cut(out, line.data, COLUMNS, false);
		buf_add_char(out, '\n');
		buf_free(&line);
	}
}

static bool any_broken(json_t *connectors)
{
	json_t *c;
	size_t i;

	json_array_foreach(connectors, i, c) {
		const char *state = text_of(c, "state");
		if (strcmp(state, "failed") == 0 || strcmp(state, "stale") == 0)
			return true;
	}
	return false;
}

int cli_status_table(struct slice json, bool colour, int64_t now_ns, struct buf *out, bool *ret_broken)
{
	json_t *root = json_loadb(json.data ? json.data : "", json.len, JSON_ALLOW_NUL, NULL);
	json_t *connectors = json_object_get(root, "connectors"), *secrets = json_object_get(root, "secrets");

	if (!json_is_array(connectors) || !json_is_array(secrets)) {
		json_decref(root);
		return -EINVAL;
	}
	if (json_array_size(connectors)) {
		add_items(out, connector_titles, connectors, connector_row, colour, now_ns);
		buf_add_char(out, '\n');
	}
	if (json_array_size(secrets)) {
		add_items(out, secret_titles, secrets, secret_row, colour, now_ns);
		buf_add_char(out, '\n');
	}
	add_summary(out, root, now_ns);
	add_providers(out, json_object_get(root, "providers"));
	add_lacking(out, "", json_object_get(root, "protections"));
	add_lacking(out, " in the notifier", json_object_get(root, "notifier_protections"));
	*ret_broken = any_broken(connectors);
	json_decref(root);
	return out->err;
}

/* ---- the verb ---- */

/* In the child. */
static int copy_status(int out, void *arg)
{
	const char *mountpoint = arg;
	char path[PATH_MAX], chunk[65536];
	int n = snprintf(path, sizeof(path), "%s/.connectfs/status.json", mountpoint);

	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	for (;;) {
		ssize_t len = read(fd, chunk, sizeof(chunk));
		if (len <= 0)
			return len < 0 ? -errno : 0;
		for (ssize_t done = 0; done < len;) {
			ssize_t w = write(out, chunk + done, (size_t)(len - done));
			if (w < 0)
				return -errno;
			done += w;
		}
	}
}

struct showing {
	bool json, watch;
};

static int show_once(const char *path, const char *mountpoint, const struct showing *how)
{
	bool terminal = isatty(STDOUT_FILENO), broken = false;
	const char *no_color = getenv("NO_COLOR");
	struct buf json, out;
	int status = 0;

	buf_init(&json, STATUS_BYTES_MAX);
	buf_init(&out, OUT_BYTES_MAX);
	int r = cli_guard(copy_status, (void *)(uintptr_t)mountpoint, &json);
	if (r < 0) {
		status = cli_mount_fault(path, r);
	} else {
		r = cli_status_table(buf_slice(&json), terminal && !(no_color && *no_color), clock_real_ns(),
		                     &out, &broken);
		if (r == -EINVAL)
			status = cli_usage("%s: its status can't be read; is it of another version?", path);
		else if (r < 0)
			status = cli_no_memory();
	}
	if (status == 0) {
		const struct buf *shown = how->json ? &json : &out;
		if (how->watch && terminal)
			fputs("\033[H\033[J", stdout);
		fwrite(shown->data, 1, shown->len, stdout);
		if (how->json && shown->len && shown->data[shown->len - 1] != '\n')
			putchar('\n');
		if (fflush(stdout) != 0)
			status = cli_broken("can't write to standard output: %s", strerror(errno));
	}
	buf_free(&json);
	buf_free(&out);
	return status ? status : broken;
}

int cli_status(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "watch", no_argument, NULL, 'w' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct showing how = { false, false };
	char *mountpoint;
	int c, status;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (c == 'j')
			how.json = true;
		else if (c == 'w')
			how.watch = true;
		else
			return cli_option(c);
	}
	if (argc - optind != 1)
		return cli_usage("status: give one MOUNTPOINT");
	do {
		status = cli_find_mount(argv[optind], &mountpoint);
		if (status != 0)
			return status;
		status = show_once(argv[optind], mountpoint, &how);
		free(mountpoint);
	} while (how.watch && status < 2 && !ferror(stdout) && sleep(1) == 0);
	return status;
}
