/*
 * The provider "env": environment variables, as Kafka's EnvVarConfigProvider: those of this
 * process as they were when the provider was opened, or with the parameter environment.file those
 * of a file, which may change.
 *
 * The file is written as systemd's EnvironmentFile=, or, where it holds a NUL, as /proc/PID/environ.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/secmem.h"
#include "format/limits.h"
#include "provider/filejob.h"

/* A pattern for names of variables needs a few hundred; one that backtracks without end is cut. */
enum { MATCH_LIMIT = 100000, HEAP_LIMIT_KIB = 1024 };

struct env_self {
	struct filejob_conf conf;
	pcre2_code *pattern;        /* NULL: all are allowed */
	pcre2_match_context *limits;
	char *file;                 /* environment.file, or NULL */
	char *block;                /* else the environment, NUL-separated, in secret memory */
	size_t block_len;
};

/* A fetch without a file, which needs no thread. */
struct env_fetch {
	struct filejob *job;
	struct loop_timer *timer;
};

/* The variables asked for, as they are found. */
struct collector {
	struct filejob *job;
	struct secret_field *found;
	bool *wanted;               /* allowed and in job->fields, by index */
	bool first_wins;
};

static void collect(struct collector *c, struct slice name, struct slice value)
{
	struct filejob *j = c->job;

	for (size_t i = 0; i < j->n_fields; i++) {
		if (!c->wanted[i] || !slice_eq(j->fields[i], name))
			continue;
		if (c->found[i].key.data && c->first_wins)
			return;
		c->found[i] = (struct secret_field){ .key = j->fields[i], .value = value };
	}
}

/* NAME=VALUE, each ended by a NUL. Of two with one name the first counts, as for getenv(3) and
 * Java; a '=' may begin a name, as there. */
static void scan_block(struct collector *c, struct slice block)
{
	size_t pos = 0;

	c->first_wins = true;
	while (pos < block.len) {
		const char *entry = block.data + pos;
		const char *end = memchr(entry, '\0', block.len - pos);
		size_t len = end ? (size_t)(end - entry) : block.len - pos;
		const char *eq = len > 1 ? memchr(entry + 1, '=', len - 1) : NULL;

		if (eq)
			collect(c, slice_of(entry, (size_t)(eq - entry)),
			        slice_of(eq + 1, len - (size_t)(eq + 1 - entry)));
		pos += len + 1;
	}
}

/* A text of lines that is decoded where it stands: decoding never makes it longer. */
struct lines {
	char *p, *end;
	unsigned line;
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static void skip_line(struct lines *in)
{
	char *nl = memchr(in->p, '\n', (size_t)(in->end - in->p));

	in->p = nl ? nl + 1 : in->end;
	in->line++;
}

/* Reads from after the opening quote to after the closing one. False: there is none. */
static bool read_quoted(struct lines *in, char quote, char **out)
{
	while (in->p < in->end) {
		char c = *in->p++;

		if (c == quote)
			return true;
		if (c == '\n')
			in->line++;
		if (c == '\\' && quote == '"' && in->p < in->end && strchr("\"\\`$\n", *in->p)) {
			c = *in->p++;
			if (c == '\n') {
				in->line++;
				continue;
			}
		}
		*(*out)++ = c;
	}
	return false;
}

/* Reads a bare part of a value, to a quote or the line's end; blanks at its end don't count. */
static void read_bare(struct lines *in, char **out)
{
	char *kept = *out;

	while (in->p < in->end && *in->p != '\n') {
		char c = *in->p++;

		if (c == '\\' && in->p < in->end) {
			c = *in->p++;
			if (c == '\n') {
				in->line++;
				continue;
			}
			*(*out)++ = c;
			kept = *out;
			continue;
		}
		*(*out)++ = c;
		if (!is_blank(c))
			kept = *out;
	}
	*out = kept;
}

static bool read_value(struct lines *in, struct slice *ret)
{
	char *start = in->p, *out = in->p;

	/* As systemd: quoted parts follow one another; a bare one takes the rest of the line. */
	for (;;) {
		while (in->p < in->end && is_blank(*in->p))
			in->p++;
		if (in->p >= in->end || *in->p == '\n')
			break;
		if (*in->p == '"' || *in->p == '\'') {
			char quote = *in->p++;

			if (!read_quoted(in, quote, &out))
				return false;
		} else {
			read_bare(in, &out);
			break;
		}
	}
	*ret = slice_of(start, (size_t)(out - start));
	return true;
}

/* 0, or the line where a quote begins that never ends. */
static unsigned scan_lines(struct collector *c, char *text, size_t len)
{
	struct lines in = { .p = text, .end = text + len, .line = 1 };

	c->first_wins = false;
	while (in.p < in.end) {
		unsigned line = in.line;
		char *name, *name_end, *eq, *nl;
		struct slice value;

		while (in.p < in.end && is_blank(*in.p))
			in.p++;
		if (in.p >= in.end)
			break;
		nl = memchr(in.p, '\n', (size_t)(in.end - in.p));
		eq = memchr(in.p, '=', (size_t)((nl ? nl : in.end) - in.p));
		if (*in.p == '#' || *in.p == ';' || !eq) {
			skip_line(&in);
			continue;
		}
		name = in.p;
		for (name_end = eq; name_end > name && is_blank(name_end[-1]);)
			name_end--;
		in.p = eq + 1;
		if (!read_value(&in, &value))
			return line;
		collect(c, slice_of(name, (size_t)(name_end - name)), value);
		skip_line(&in);
	}
	return 0;
}

/* By the pattern, which must match the whole name. */
static bool name_allowed(const struct env_self *s, struct slice name, pcre2_match_data *match)
{
	if (!s->pattern)
		return true;
	return pcre2_match(s->pattern, (PCRE2_SPTR)(name.data ? name.data : ""), name.len, 0, 0, match,
	                   s->limits) >= 0;
}

static int collector_init(struct collector *c, struct filejob *j, const struct env_self *s)
{
	pcre2_match_data *match = s->pattern ? pcre2_match_data_create(1, NULL) : NULL;

	*c = (struct collector){ .job = j };
	c->found = calloc(j->n_fields + 1, sizeof(*c->found));
	c->wanted = calloc(j->n_fields + 1, sizeof(*c->wanted));
	if (!c->found || !c->wanted || (s->pattern && !match)) {
		pcre2_match_data_free(match);
		free(c->found);
		free(c->wanted);
		filejob_fail(j, EIO, true, "out of memory");
		return -ENOMEM;
	}
	for (size_t i = 0; i < j->n_fields; i++) {
		c->wanted[i] = name_allowed(s, j->fields[i], match);
		if (!c->wanted[i])
			filejob_note(j, "the variable %.*s is not allowed by allowlist.pattern",
			             SLICE_FMT(j->fields[i]));
	}
	pcre2_match_data_free(match);
	return 0;
}

static void collector_finish(struct collector *c)
{
	struct filejob *j = c->job;
	size_t n = 0;

	for (size_t i = 0; i < j->n_fields; i++) {
		if (!c->found[i].key.data)
			continue;
		if (!filejob_is_utf8(c->found[i].value)) {
			filejob_note(j, "the value of the variable %.*s is not UTF-8",
			             SLICE_FMT(j->fields[i]));
			continue;
		}
		c->found[n++] = c->found[i];
	}
	filejob_succeed(j, c->found, n);
}

static void collector_done(struct collector *c)
{
	free(c->found);
	free(c->wanted);
}

static void parse_file(struct filejob *j, struct buf *text)
{
	const struct env_self *s = (const struct env_self *)j->conf;
	struct collector c;
	unsigned line = 0;

	if (collector_init(&c, j, s) < 0)
		return;
	if (text->len > 0 && memchr(text->data, '\0', text->len))
		scan_block(&c, buf_slice(text));
	else if (text->len > 0)
		line = scan_lines(&c, text->data, text->len);
	if (line > 0)
		filejob_fail(j, EIO, true, "%s:%u: a quote that does not end", s->file, line);
	else
		collector_finish(&c);
	collector_done(&c);
}

static void file_work(struct filejob *j)
{
	const char *path = ((struct env_self *)j->conf)->file;
	struct file_read got = { .local = false };
	struct error why = ERROR_INIT;
	struct buf text;
	int r;

	buf_init_secret(&text, LIMIT_SECRET_BYTES);
	r = file_read_all(path, &text, &got, &why);
	if (r < 0)
		got.local = filejob_is_local(path);
	if (filejob_add_file(j, path, &got.stamp, got.local) == 0) {
		if (r < 0)
			filejob_fail_read(j, r, path, &why);
		else
			parse_file(j, &text);
	}
	buf_free(&text);
}

static void env_timer(void *arg)
{
	struct env_fetch *e = arg;
	struct filejob *j = e->job;
	const struct env_self *s = (const struct env_self *)j->conf;
	struct collector c;

	loop_timer_free(e->timer);
	free(e);
	if (collector_init(&c, j, s) == 0) {
		scan_block(&c, slice_of(s->block, s->block_len));
		collector_finish(&c);
		collector_done(&c);
	}
	filejob_tell(j, true);
	filejob_free(j);
}

static int env_fetch(void *self, struct fetch *f)
{
	struct env_self *s = self;
	struct env_fetch *e;

	if (s->file)
		return filejob_fetch(self, f);
	e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	e->job = filejob_new(&s->conf, f);
	e->timer = loop_timer_new(s->conf.env->loop, env_timer, e);
	if (!e->job || !e->timer) {
		loop_timer_free(e->timer);
		if (e->job)
			filejob_free(e->job);
		free(e);
		return -ENOMEM;
	}
	e->job->fetch = f;
	f->priv = e;
	loop_timer_set(e->timer, 0);
	return 0;
}

static void env_cancel(void *self, struct fetch *f)
{
	struct env_fetch *e = f->priv;

	if (((struct env_self *)self)->file) {
		filejob_cancel(self, f);
	} else if (e) {
		loop_timer_free(e->timer);
		filejob_free(e->job);
		free(e);
		f->priv = NULL;
	}
}

static int env_map(void *self, struct slice path, struct slice key, struct buf *ret_id, struct buf *ret_field,
                   struct error *ret_err)
{
	const struct env_self *s = self;
	int r = 0;

	if (path.len > 0)
		return error_set(ret_err, EIO,
		                 "Path is not supported for EnvVarConfigProvider, invalid value '%.*s'",
		                 SLICE_FMT(path));
	if (s->file)
		r = buf_add_str(ret_id, s->file);
	if (r == 0)
		r = buf_add_slice(ret_field, key);
	if (r == -ENOMEM)
		return error_set(ret_err, ENOMEM, "out of memory");
	return r < 0 ? error_set(ret_err, EIO, "the key is too long") : 0;
}

static void env_free(struct filejob_conf *c)
{
	struct env_self *s = (struct env_self *)c;

	pcre2_code_free(s->pattern);
	pcre2_match_context_free(s->limits);
	free(s->file);
	secmem_free(s->block);
	filejob_conf_done(c);
	free(s);
}

static int compile_pattern(struct env_self *s, const char *pattern, struct error *err)
{
	PCRE2_UCHAR text[256] = "";
	PCRE2_SIZE at;
	int code;

	if (!pattern)
		return 0;
	s->pattern = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
	                           PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_UTF, &code, &at, NULL);
	if (!s->pattern) {
		(void)pcre2_get_error_message(code, text, sizeof(text));
		return error_set(err, EINVAL, "the pattern %s: %s at character %zu", pattern, (char *)text,
		                 at);
	}
	s->limits = pcre2_match_context_create(NULL);
	if (!s->limits)
		return error_set(err, ENOMEM, "out of memory");
	(void)pcre2_set_match_limit(s->limits, MATCH_LIMIT);
	(void)pcre2_set_depth_limit(s->limits, MATCH_LIMIT);
	(void)pcre2_set_heap_limit(s->limits, HEAP_LIMIT_KIB);
	return 0;
}

/*
 * The values are copied once, into secret memory; what is found of them later points there. The strings
 * of environ itself stay: libc and libraries keep pointers into them and read them at any time (LANG, TZ,
 * PATH, NOTIFY_SOCKET, JOURNAL_STREAM, SSL_CERT_FILE, …), another instance of this provider is opened
 * after this one, and /proc/PID/environ shows to the same user what the kernel put there in any case.
 * Who minds has a file instead: environment.file.
 */
static int capture_environment(struct env_self *s)
{
	size_t len = 0;
	char *pos;

	for (char **e = environ; e && *e; e++)
		len += strlen(*e) + 1;
	s->block = secmem_alloc(len);
	if (!s->block)
		return -ENOMEM;
	s->block_len = len;
	pos = s->block;
	for (char **e = environ; e && *e; e++) {
		size_t n = strlen(*e) + 1;

		memcpy(pos, *e, n);
		pos += n;
	}
	return 0;
}

static int set_file(struct env_self *s, const char *file, struct error *err)
{
	if (file[0] == '/')
		s->file = strdup(file);
	else if (!s->conf.cwd)
		return error_set(err, EINVAL, "Path %s is not absolute, and the working directory is unknown",
		                 file);
	else if (asprintf(&s->file, "%s/%s", s->conf.cwd, file) < 0)
		s->file = NULL;
	return s->file ? 0 : error_set(err, ENOMEM, "out of memory");
}

static int env_open(const struct provider_env *env, const char *class_name, const struct strmap *params,
                    void **ret_self, const char **ret_param, struct error *ret_err)
{
	const char *file = strmap_get_str(params, "environment.file");
	struct env_self *s = calloc(1, sizeof(*s));
	int r;

	(void)class_name;
	*ret_param = NULL;
	if (!s)
		return error_set(ret_err, ENOMEM, "out of memory");
	r = filejob_conf_init(&s->conf, env, file_work, env_free, NULL, ret_param, ret_err);
	if (r < 0) {
		free(s);
		return r;
	}
	r = compile_pattern(s, strmap_get_str(params, "allowlist.pattern"), ret_err);
	if (r < 0) {
		*ret_param = "allowlist.pattern";
	} else if (file && file[0]) {
		r = set_file(s, file, ret_err);
		if (r < 0)
			*ret_param = "environment.file";
	} else if (capture_environment(s) < 0) {
		r = error_set(ret_err, ENOMEM, "out of memory");
	}
	if (r < 0) {
		env_free(&s->conf);
		return r;
	}
	*ret_self = s;
	return 0;
}

/* With a file: the directory in which it lies, as the worker has it. */
static void env_reads(void *self, void (*add)(void *arg, const char *path), void *arg)
{
	struct env_self *s = self;

	if (s->file)
		add(arg, s->file);
}

static const char *const classes[] = {
	"org.apache.kafka.common.config.provider.EnvVarConfigProvider",
	NULL,
};

const struct provider_ops provider_env_var = {
	.name = "env",
	.classes = classes,
	.open = env_open,
	.map = env_map,
	.reads = env_reads,
	.fetch = env_fetch,
	.cancel = env_cancel,
	.close = filejob_close,
};
