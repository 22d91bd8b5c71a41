package ConnectFS::Test;

# What the system tests have in common. Each test file begins with
#
#     use FindBin;
#     use lib "$FindBin::Bin/../lib";
#     use ConnectFS::Test;
#
# which brings Test::More as well. Environment:
#
#     CONNECTFS               the program (./connectfs)
#     CONNECTFS_TEST_PROGRAM  the same with the slow provider (t/connectfs-test beside it)
#     CONNECTFS_TEST_SCALE    < 1: fewer rounds and more patience (sanitizers: 0.1)
#     CONNECTFS_TEST_HELPERS  where programs of t/sys/helpers lie compiled, for a place without a compiler
#     CONNECTFS_TEST_TIMEOUT  seconds for one test file
#     CONNECTFS_TEST_KEEP     1: leave the temporary directory

use strict;
use warnings;

use ConnectFS::Guard; # first: it forks

use Cwd ();
use Errno qw(:POSIX);
use Exporter qw(import);
use Fcntl qw(:DEFAULT :mode :seek);
use File::Basename qw(dirname basename);
use File::Spec ();
use FindBin ();
use IO::Handle ();
use JSON::PP ();
use List::Util ();
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

use ConnectFS::Mount ();
use ConnectFS::Process ();
use ConnectFS::Watcher ();

our @EXPORT = (
	@Test::More::EXPORT,
	@{$Errno::EXPORT_TAGS{POSIX}},
	qw(O_RDONLY O_WRONLY O_RDWR O_CREAT O_TRUNC O_APPEND O_NONBLOCK SEEK_SET sleep time dirname basename),
	qw(base_dir tmp_dir program two_programs install_program test_program program_env helper_path cc_helper scale patience have find_tool
	   need need_fuse need_root need_slow is_root
	   locks_memory spew replace slurp slurp_errno append run start as_user no_caps
	   mount_fs mount_fails eventually always_within stx xattr xattr_names watch
	   errno_name is_errno read_is ls_names unlocked settings_file slow_setup slow_set slow_log slow_fetches
	   java_helper sha),
);

my %PENDING; # mounts to end

sub base_dir { return $ConnectFS::Guard::BASE }

my $n_tmp = 0;
sub tmp_dir {
	my ($name) = @_;
	my $d = base_dir() . '/' . ($name // 'd' . ++$n_tmp);
	mkdir $d or die "$d: $!";
	return $d;
}

sub _absolute { my ($p) = @_; return Cwd::realpath($p) // File::Spec->rel2abs($p) }

my $PROGRAM = _absolute($ENV{CONNECTFS} || './connectfs');
my $TEST_PROGRAM = _absolute($ENV{CONNECTFS_TEST_PROGRAM} || dirname($PROGRAM) . '/t/connectfs-test');
my $HELPERS = _absolute("$FindBin::Bin/helpers");

sub program { return $PROGRAM }

# Bytes of two programs that differ in their version only, with their versions: ours, and another
sub two_programs {
	my $bytes = slurp(program());
	my ($version) = run(program(), '--version')->{out} =~ /(\d+\.\d+\.\d+)/;
	(my $other = $version) =~ s/(\d)$/($1 + 1) % 10/e;
	(my $patched = $bytes) =~ s/\Q$version\E/$other/g;
	return ($version, $bytes, $other, $patched);
}

# As a package's upgrade does it
sub install_program {
	my ($path, $bytes) = @_;
	spew("$path.new", $bytes);
	chmod 0755, "$path.new";
	rename "$path.new", $path or die "$path: $!";
}
sub test_program { return $TEST_PROGRAM }
# The address and thread sanitizers make mlock(2) do nothing
sub locks_memory { return slurp($PROGRAM) !~ /__[at]san_init/ }
sub helper_path { return "$HELPERS/$_[0]" }

# Messages in English, nothing of the user's own session
$ENV{LC_ALL} = 'C.UTF-8';
$ENV{PYTHONDONTWRITEBYTECODE} = 1;
delete @ENV{qw(LANGUAGE NO_COLOR CLICOLOR_FORCE JOURNAL_STREAM NOTIFY_SOCKET)};
mkdir base_dir() . '/run', 0700;
$ENV{XDG_RUNTIME_DIR} = base_dir() . '/run';
$ENV{HOME} = base_dir() unless -w ($ENV{HOME} // '/nonexistent');
umask 022;
$SIG{PIPE} = 'IGNORE';

sub is_root { return $> == 0 }
sub scale { my ($n) = @_; my $s = $ENV{CONNECTFS_TEST_SCALE} || 1; my $r = int($n * ($s > 1 ? 1 : $s)); return $r < 1 ? 1 : $r }
sub patience { my ($s) = @_; return $s * $ConnectFS::Guard::PATIENCE }

sub have { my ($cmd) = @_; return scalar grep { -x "$_/$cmd" && !-d "$_/$cmd" } split(/:/, $ENV{PATH}), '/usr/sbin', '/sbin' }
# The distribution's own first: a version manager's shim may lie where an ordinary user can't go
sub find_tool {
	for my $name (@_) {
		for my $dir (qw(/usr/bin /bin /usr/local/bin /usr/sbin /sbin), split(/:/, $ENV{PATH})) {
			return "$dir/$name" if -x "$dir/$name" && !-d "$dir/$name";
		}
	}
	return undef;
}

# ---- conditions -------------------------------------------------------------------------------

sub need {
	for my $tool (@_) { plan skip_all => "$tool is not installed" unless find_tool($tool) }
}

sub need_fuse {
	die "$PROGRAM is not there; set CONNECTFS\n" unless -x $PROGRAM;
	plan skip_all => "no /dev/fuse" unless -c '/dev/fuse';
	if (is_root()) {
		my $ok = sysopen(my $f, '/dev/fuse', O_RDWR);
		plan skip_all => "/dev/fuse can't be opened: $!" unless $ok;
	} else {
		plan skip_all => "an ordinary user needs fusermount3" unless find_tool('fusermount3');
		plan skip_all => "/dev/fuse is not open to ordinary users" unless -r '/dev/fuse' && -w _;
	}
}

sub need_root { plan skip_all => "needs root: $_[0]" unless is_root() }

sub need_slow {
	need_fuse();
	plan skip_all => "$TEST_PROGRAM is not there (make check builds it)" unless -x $TEST_PROGRAM;
}

# ---- files ------------------------------------------------------------------------------------

# Writes in place: opens with O_TRUNC, writes, closes
sub spew {
	my ($path, $bytes) = @_;
	sysopen(my $f, $path, O_WRONLY | O_CREAT | O_TRUNC, 0644) or die "$path: $!";
	my $done = 0;
	while ($done < length $bytes) { $done += syswrite($f, $bytes, length($bytes) - $done, $done) // die "$path: $!" }
	close $f or die "$path: $!";
	return $path;
}

# Writes a temporary file and renames it over
sub replace {
	my ($path, $bytes) = @_;
	my $tmp = dirname($path) . '/.' . basename($path) . '.new';
	spew($tmp, $bytes);
	rename $tmp, $path or die "$path: $!";
	return $path;
}

sub append {
	my ($path, $bytes) = @_;
	sysopen(my $f, $path, O_WRONLY | O_CREAT | O_APPEND, 0644) or die "$path: $!";
	syswrite($f, $bytes);
	close $f;
}

# (bytes, errno number): one of them is undef
sub slurp_errno {
	my ($path) = @_;
	sysopen(my $f, $path, O_RDONLY) or return (undef, $! + 0);
	my $all = '';
	while (1) {
		my $n = sysread($f, $all, 65536, length $all);
		return (undef, $! + 0) unless defined $n;
		last if !$n;
	}
	return ($all, undef);
}

sub slurp {
	my ($path) = @_;
	my ($bytes, $errno) = slurp_errno($path);
	die "$path: " . POSIX::strerror($errno) . "\n" if defined $errno;
	return $bytes;
}

sub sha { my ($bytes) = @_; require Digest::SHA; return Digest::SHA::sha1_hex($bytes) }

sub ls_names {
	my ($dir) = @_;
	opendir(my $d, $dir) or return undef;
	return [sort grep { $_ ne '.' && $_ ne '..' } readdir $d];
}

# ---- system calls that Perl lacks -------------------------------------------------------------

my $machine = (POSIX::uname())[4];
my %SYS = $machine eq 'x86_64'
	? (statx => 332, getxattr => 191, listxattr => 194, setxattr => 188, removexattr => 197)
	: (statx => 291, getxattr => 8, listxattr => 11, setxattr => 5, removexattr => 14);

# size, mtime_ns, ctime_ns, ino, mode, uid, gid, nlink, dev; undef and $! on failure. force_sync: the worker is asked,
# whatever the kernel keeps
sub stx {
	my ($path, %o) = @_;
	my $buf = "\0" x 256;
	my $flags = ($o{nofollow} ? 0x100 : 0) | ($o{dont_sync} ? 0x4000 : 0) | ($o{force_sync} ? 0x2000 : 0);
	my $r = syscall($SYS{statx}, -100, "$path", $flags, 0x7ff, $buf);
	return undef if $r != 0;
	my ($nlink, $uid, $gid, $mode) = unpack 'x16 L L L S', $buf;
	my ($ino, $size) = unpack 'x32 Q Q', $buf;
	my ($ctime_s, $ctime_n) = unpack 'x96 q L', $buf;
	my ($mtime_s, $mtime_n) = unpack 'x112 q L', $buf;
	my ($major, $minor) = unpack 'x136 L L', $buf;
	return {
		size => $size, mtime_ns => $mtime_s * 1_000_000_000 + $mtime_n, ctime_ns => $ctime_s * 1_000_000_000 + $ctime_n,
		ino => $ino, mode => $mode & 07777, type => $mode & 0170000, uid => $uid, gid => $gid, nlink => $nlink,
		dev => "$major:$minor",
	};
}

sub xattr {
	my ($path, $name) = @_;
	my $buf = "\0" x 65536;
	my $r = syscall($SYS{getxattr}, "$path", "$name", $buf, length $buf);
	return undef if $r < 0;
	return substr $buf, 0, $r;
}

sub xattr_names {
	my ($path) = @_;
	my $buf = "\0" x 65536;
	my $r = syscall($SYS{listxattr}, "$path", $buf, length $buf);
	return undef if $r < 0;
	return [split /\0/, substr $buf, 0, $r];
}

# ---- processes --------------------------------------------------------------------------------

# Runs a command to its end, with a deadline: run(@cmd, { timeout => s, env => {}, stdin => bytes, dir => path })
# { out, err, status (exit status, -1 for a signal), signal, timed_out, seconds }
sub run {
	my $o = ref $_[-1] eq 'HASH' ? pop : {};
	my $p = start(@_, $o);
	return $p->finish(patience($o->{timeout} // 30));
}

# Starts one in the background: a ConnectFS::Process
sub start {
	my $o = ref $_[-1] eq 'HASH' ? pop : {};
	return ConnectFS::Process->new([@_], $o);
}

# A command as another user (root only). Groups: none.
sub as_user { my ($uid, $gid, @cmd) = @_; return (find_tool('setpriv'), "--reuid=$uid", "--regid=$gid", '--clear-groups', @cmd) }
# A command as the same user without any capability
sub no_caps {
	my @cmd = @_;
	return @cmd unless is_root();
	return (find_tool('setpriv'), '--no-new-privs', '--bounding-set=-all', '--inh-caps=-all', @cmd);
}

# Compiles t/sys/helpers/NAME.c once for this test
my %built;
sub cc_helper {
	my ($name) = @_;
	return $built{$name} if $built{$name};
	my $made = $ENV{CONNECTFS_TEST_HELPERS};
	return $built{$name} = "$made/$name" if $made && -x "$made/$name";
	my $cc = $ENV{CC} ? (split ' ', $ENV{CC})[-1] : find_tool('cc', 'gcc', 'clang');
	$cc = find_tool($cc) // find_tool('cc', 'gcc', 'clang') if defined $cc && $cc !~ m{/};
	plan skip_all => 'no C compiler for the helper ' . $name unless $cc;
	my $out = base_dir() . "/$name";
	my $r = run($cc, qw(-std=gnu11 -O1 -Wall -pthread -o), $out, "$HELPERS/$name.c", { timeout => 60 });
	die "$name.c: $r->{err}" if $r->{status};
	return $built{$name} = $out;
}

# Compiles t/sys/helpers/NAME.java; the words of a command that runs it
my $java_ready;
sub java_helper {
	my ($name, @args) = @_;
	my ($java, $javac) = (find_tool('java'), find_tool('javac'));
	return unless $java && $javac;
	my $out = base_dir() . '/java';
	if (!$java_ready) {
		mkdir $out;
		my $r = run($javac, '-J-Xshare:auto', '-J-XX:TieredStopAtLevel=1', '-d', $out, glob("$HELPERS/*.java"), { timeout => 60 });
		die "javac: $r->{err}" if $r->{status};
		$java_ready = 1;
	}
	return ($java, '-Xshare:auto', '-XX:TieredStopAtLevel=1', '-Xmx64m', '-cp', $out, $name, @args);
}

sub watch { return ConnectFS::Watcher->new(@_) }

# ---- waiting ----------------------------------------------------------------------------------

# Waits until the code is true, $seconds at most; its last value
sub eventually {
	my ($code, $seconds, $name) = @_;
	my $end = time + patience($seconds // 5);
	my $r;
	while (1) {
		$r = $code->();
		last if $r || time > $end;
		sleep 0.01;
	}
	if (defined $name) {
		local $Test::Builder::Level = $Test::Builder::Level + 1;
		ok($r, $name);
	}
	return $r;
}

# True if the code stays true for so long
sub always_within {
	my ($code, $seconds, $name) = @_;
	my $end = time + $seconds;
	my $r = 1;
	while ($r && time < $end) { $r = $code->(); sleep 0.01 }
	if (defined $name) {
		local $Test::Builder::Level = $Test::Builder::Level + 1;
		ok($r, $name);
	}
	return $r;
}

# ---- comparing --------------------------------------------------------------------------------

sub errno_name {
	my ($n) = @_;
	return 'none' unless $n;
	local $! = $n;
	my ($name) = grep { $!{$_} } grep { !/^(?:EWOULDBLOCK|EDEADLOCK|ENOTSUP)$/ } sort keys %!;
	return $name // "errno $n";
}

sub is_errno {
	my ($got, $name, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @names = ref $name ? @$name : ($name);
	my $is = errno_name($got);
	my $ok = scalar grep { $_ eq $is } @names;
	ok($ok, $what) or diag("         got: $is\n    expected: " . join(' or ', @names));
	return $ok;
}

# The file reads as these bytes
sub read_is {
	my ($path, $bytes, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($got, $errno) = slurp_errno($path);
	if (defined $errno) {
		fail($what);
		diag("    reading $path: " . errno_name($errno));
		my $why = xattr($path, 'user.connectfs.error');
		diag("    $why") if defined $why;
		return 0;
	}
	return is($got, $bytes, $what);
}

# ---- mounts -----------------------------------------------------------------------------------

# mount_fs(source => PATH, settings => {…}, options => 'a,b', args => […], mountpoint => PATH,
#          slow => 1, background => 1, env => {…}): a ConnectFS::Mount, or dies with the program's words
sub mount_fs {
	my %o = @_;
	$o{program} //= $o{slow} ? $TEST_PROGRAM : $PROGRAM;
	$o{mountpoint} //= tmp_dir();
	my $m = ConnectFS::Mount->start(%o);
	push @ConnectFS::Mount::ALL, $m;
	die "the mount did not come up: " . ($m->failure // '?') . "\n" unless $m->ready;
	return $m;
}

# The same for a mount that must not come up: what run() returns, and the mount point
sub mount_fails {
	my %o = @_;
	$o{program} //= $o{slow} ? $TEST_PROGRAM : $PROGRAM;
	$o{mountpoint} //= tmp_dir();
	my $r = run(ConnectFS::Mount::command(%o), { timeout => 15, env => $o{env} });
	$r->{mountpoint} = $o{mountpoint};
	$r->{mounts} = [ConnectFS::Guard::mounts_below($o{mountpoint})];
	return $r;
}

# Java .properties text of a hash
sub settings_file {
	my ($path, %s) = @_;
	return spew($path, join '', map { "$_=$s{$_}\n" } sort keys %s);
}

# ---- the slow provider ------------------------------------------------------------------------

# A directory of stored configs, a control directory, and a settings file: { settings, stored, control }
sub slow_setup {
	my ($stored, %extra) = @_;
	my $d = tmp_dir();
	mkdir "$d/$_" for qw(stored control);
	spew("$d/stored/$_", $stored->{$_}) for keys %$stored;
	my $s = { dir => $d, stored => "$d/stored", control => "$d/control", settings => "$d/connectfs.properties" };
	settings_file($s->{settings},
		'config.providers' => 'slow',
		'config.providers.slow.class' => 'slow',
		'config.providers.slow.param.control' => $s->{control},
		'connectfs.store.directory' => $s->{stored},
		%extra);
	return $s;
}

# What the slow provider is to answer for an id: lines; never half-written
sub slow_set { my ($s, $id, @lines) = @_; replace("$s->{control}/$id", join '', map { "$_\n" } @lines) }

sub slow_log { my ($s) = @_; return -e "$s->{control}/log" ? split(/\n/, slurp("$s->{control}/log")) : () }
# How many fetches have been started (of one id, or of all)
sub slow_fetches {
	my ($s, $id) = @_;
	return scalar grep { defined $id ? /^fetch \Q$id\E(?: |$)/ : /^fetch / } slow_log($s);
}

END {
	my $status = $?;
	for my $m (@ConnectFS::Mount::ALL) { $m->end if $m && $m->alive }
	ConnectFS::Process::kill_all();
	$? = $status;
}

1;
