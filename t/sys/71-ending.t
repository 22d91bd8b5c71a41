# Ending: SIGTERM, SIGINT, umount, also with open files; nothing is left.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_fuse();

my $src = tmp_dir();
my $sec = tmp_dir();
my $S = "$sec/s.properties";
spew($S, "k=1\n");
spew("$src/a.properties", "k=\${file:$S:k}\n");

sub ended {
	my ($m, $what, $status) = @_;
	ok($m->wait_gone(4), "$what: mount and processes are gone") or diag $m->log;
	cmp_ok($m->{end_seconds}, '<', patience(2), sprintf '… within a second or so (%.2f s)', $m->{end_seconds});
	is($m->exit_status, $status << 8, "… exit status $status") if !$m->{background};
	is_deeply(ls_names($m->dir), [], '… the directory below is as it was');
}

for my $sig (qw(TERM INT)) {
	my $m = mount_fs(source => $src);
	slurp($m->path('a.properties'));
	kill $sig => $m->pid('supervisor');
	ended($m, "SIG$sig", 0);
	unlike($m->log, qr/level=error/, '… no error in the log');
}
{
	my $m = mount_fs(source => $src);
	sysopen(my $held, $m->path('a.properties'), O_RDONLY) or die;
	sysread($held, my $x, 1);
	opendir(my $d, $m->dir) or die;
	my $cwd = start('sleep', 60, { dir => $m->dir });
	eventually(sub { (readlink('/proc/' . $cwd->pid . '/cwd') // '') eq $m->dir }, 5);
	kill TERM => $m->pid('supervisor');
	ended($m, 'SIGTERM with an open file, an open directory and a working directory', 0);
	my $n = sysread($held, $x, 10);
	ok(!defined $n || $n == 0, '… the open file ends in an error');
	$cwd->signal('KILL');
}
{
	my $m = mount_fs(source => $src);
	my $r = is_root() ? run('umount', $m->dir) : run('fusermount3', '-u', $m->dir);
	is($r->{status}, 0, (is_root() ? 'umount' : 'fusermount3 -u') . ' works') or diag $r->{err};
	ended($m, '… and all ends', 0);
}
if (is_root() && find_tool('fusermount3')) {
	my $m = mount_fs(source => $src);
	my $r = run('fusermount3', '-u', $m->dir);
	is($r->{status}, 0, 'fusermount3 -u by root works') or diag $r->{err};
	ended($m, '… and all ends', 0);
}
{
	my $m = mount_fs(source => $src);
	sysopen(my $held, $m->path('a.properties'), O_RDONLY) or die;
	my $r = is_root() ? run('umount', '-l', $m->dir) : run('fusermount3', '-u', '-z', $m->dir);
	is($r->{status}, 0, 'a lazy unmount with an open file works') or diag $r->{err};
	sysread($held, my $x, 100);
	is($x, "k=1\n", '… the open file goes on');
	close $held;
	ended($m, '… and with its close all ends', 0);
}

# In the background
{
	my $m = mount_fs(source => $src, background => 1);
	is($m->{run}{status}, 0, 'in the background: returns 0');
	is($m->{run}{out}, '', '… with nothing on standard output');
	unlike($m->{run}{err}, qr/level=(?:warn|error)/, '… and no complaint');
	ok($m->mounted, '… when it is mounted');
	read_is($m->path('a.properties'), "k=1\n", '… and ready');
	my $sup = $m->pid('supervisor');
	my $w = watch($m->path('a.properties'));
	spew($S, "k=2\n");
	ok($w->await('ATTRIB', 5), '… it rotates');
	is(readlink "/proc/$sup/cwd", '/', '… its working directory is /') if is_root();
	my @stat = split ' ', (split /\) /, slurp("/proc/$sup/stat"))[1];
	isnt($stat[3], (split ' ', (split /\) /, slurp("/proc/$$/stat"))[1])[3], '… in a session of its own');
	kill TERM => $sup;
	ended($m, '… SIGTERM', 0);
	spew($S, "k=1\n");
}
{
	my $m = mount_fs(source => $src, background => 1);
	my $r = is_root() ? run('umount', $m->dir) : run('fusermount3', '-u', $m->dir);
	ended($m, 'in the background, unmounted', 0);
}
# A pipe that waits for the end of output is not held open by the daemon
{
	my $mnt = tmp_dir();
	my $r = run('sh', '-c', '"$0" "$1" "$2" 2>&1 | cat', program(), $src, $mnt, { timeout => 15 });
	ok(!$r->{timed_out}, 'started from a pipeline, it does not hold the pipe');
	is_root() ? run('umount', $mnt) : run('fusermount3', '-u', $mnt);
}

# The directory that is mounted over goes away, the source too: still ends
{
	my $d = tmp_dir();
	mkdir "$d/src";
	spew("$d/src/a.properties", "a=1\n");
	my $m = mount_fs(source => "$d/src");
	rename "$d/src", "$d/away";
	kill TERM => $m->pid('supervisor');
	ended($m, 'SIGTERM after the source went away', 0);
}

# SIGTERM while it starts leaves nothing
for my $i (1 .. 6) {
	my $mnt = tmp_dir();
	my $p = start(program(), '-f', $src, $mnt);
	sleep 0.004 * $i * $i;
	$p->signal('TERM');
	ok($p->wait_end(patience(5)), "SIGTERM right after the start ($i): ends");
	ok(eventually(sub { !ConnectFS::Guard::mounts_below($mnt) }, 3), '… nothing mounted');
}

done_testing;
