# The mount point's place is taken by a symlink; the lock does not depend on the environment.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_fuse();

my $src = tmp_dir();
spew("$src/a.properties", "a=1\n");

# A mount that goes with its directory is still the mount: the next worker serves it there
if (is_root()) {
	my $d = tmp_dir();
	mkdir "$d/$_" for qw(home home/mnt);
	my $m = mount_fs(source => $src, mountpoint => "$d/home/mnt");
	my $worker = $m->pid('worker');
	eventually(sub { $m->log =~ /msg=mounted/ }, 10); # a worker that dies before that ends the start
	rename "$d/home", "$d/moved" or die;
	kill KILL => $worker;
	is(eval { slurp("$d/moved/mnt/a.properties") }, "a=1\n", 'the mount is moved with its directory: the next worker serves it there') or diag $@;
	rename "$d/moved", "$d/home" or die;
	ok($m->stop, '… it can be ended');
}

# Where it must be mounted anew (somebody has aborted the connection) the mount point belongs to whom its
# directory belongs to
sub moved {
	my ($what, $move) = @_;
	my $d = tmp_dir();
	mkdir "$d/$_" for qw(home home/mnt other other/mnt);
	my $m = mount_fs(source => $src, mountpoint => "$d/home/mnt");
	my ($minor) = slurp('/proc/self/mountinfo') =~ m{ \d+:(\d+) / \Q$d\E/home/mnt };
	my $ctl = tmp_dir();
	SKIP: {
		skip 'fusectl can\'t be mounted', 5 if run('mount', '-t', 'fusectl', 'none', $ctl)->{status};
		spew("$ctl/$minor/abort", '1');
		run('umount', $ctl);
		1 while ConnectFS::Guard::mounts_below("$d/home/mnt"); # at once: the next worker starts already
		$move->($d);
		eventually(sub { $m->log =~ /the worker can't start/ }, 5, "$what: the new worker can't start");
		like($m->log, qr/not a directory|symlink/, '… and it says why');
		is(scalar(ConnectFS::Guard::mounts_below($d)), 0, '… and nothing is mounted elsewhere') or diag explain [ConnectFS::Guard::mounts_below($d)];
		ok($m->stop, '… it can be ended');
		is(scalar(ConnectFS::Guard::mounts_below($d)), 0, '… nothing is left');
	}
}
if (is_root()) {
	moved('a symlink in its place', sub { my ($d) = @_; rmdir "$d/home/mnt"; symlink "$d/other/mnt", "$d/home/mnt" or die });
	moved('a symlink in the path', sub { my ($d) = @_; rename "$d/home", "$d/gone"; symlink "$d/other", "$d/home" or die });
}

# Two starts with different environments
my $mnt = tmp_dir();
mkdir base_dir() . "/run$_", 0700 for 1, 2;
if (is_root()) {
	my $m = mount_fs(source => $src, mountpoint => $mnt, env => { XDG_RUNTIME_DIR => base_dir() . '/run1' });
	my $r = mount_fails(source => $src, mountpoint => $mnt, env => { XDG_RUNTIME_DIR => base_dir() . '/run2' });
	is($r->{status}, 2, 'root: mounted twice, with another XDG_RUNTIME_DIR');
	ok($m->stop, 'ends');
}
SKIP: {
	my @as = ();
	if (is_root()) {
		skip 'no setpriv, no fusermount3, or /dev/fuse is not open to all', 3
			unless find_tool('setpriv') && find_tool('fusermount3') && ((stat '/dev/fuse')[2] & 06) == 06;
		chmod 0711, base_dir();
		chown 65534, 65534, $mnt, map { base_dir() . "/run$_" } 1, 2;
		@as = as_user(65534, 65534);
	}
	my %o = (source => $src, mountpoint => $mnt, prefix => \@as);
	my $p = start(ConnectFS::Mount::command(%o, program => program()), { env => { XDG_RUNTIME_DIR => base_dir() . '/run1' } });
	my $up = eventually(sub { $p->ended || $p->errors =~ /msg=mounted/ }, 10);
	skip 'an ordinary user can\'t mount here: ' . $p->errors, 3 if $p->ended;
	my $r = mount_fails(%o, env => { XDG_RUNTIME_DIR => base_dir() . '/run2' });
	is($r->{status}, 2, 'an ordinary user: mounted twice, with another XDG_RUNTIME_DIR');
	like($r->{err}, qr/already served/, '… it says so');
	ok(!$p->ended, '… and the first lives');
	$p->signal('TERM');
	$p->wait_end(patience(5));
}
done_testing;
