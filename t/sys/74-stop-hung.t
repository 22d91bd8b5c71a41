# Stopped while a secret's file lies on a file system that hangs: a thread that not even SIGKILL ends.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_fuse();

# The file system that hangs is a mount of ours whose worker is stopped
my ($far_src, $src) = (tmp_dir(), tmp_dir());
spew("$far_src/s.properties", "k=v\n");
my $far = mount_fs(source => $far_src);
spew("$src/a.properties", "a=\${file:" . $far->path('s.properties') . ":k}\n");
spew("$src/b.properties", "b=1\n");
my $opener = cc_helper('opener');

sub ends_within_a_second {
	my ($m) = @_;
	kill TERM => $m->pid('supervisor');
	my $t0 = time;
	ok($m->{process}->wait_end(patience(4)), 'SIGTERM: it ends');
	cmp_ok(time - $t0, '<', patience(1.2), '… within a second');
	is($m->exit_status, 0, '… exit status 0');
	is(scalar($m->mounts), 0, '… unmounted');
}

for my $n (1, 4) {
	my $m = mount_fs(source => $src, settings => { 'connectfs.wait.ms' => 60_000 });
	kill STOP => $far->pid('worker');
	my @waiting = map { start($opener, $m->path('a.properties')) } 1 .. $n;
	eventually(sub { $m->status->{parked} == $n }, 5, "$n wait for a file system that hangs");
	read_is($m->path('b.properties'), "b=1\n", '… what needs it not is served');
	ends_within_a_second($m);
	ok($_->wait_end(patience(1)), '… who waits is answered') for @waiting;
	like($_->output, qr/^opening\nE/, '… with an error') for @waiting;
	kill CONT => $far->pid('worker');
	ok($m->wait_gone(5), '… and when the file system goes on, nothing is left');
}
ok($far->stop, 'the end');

# So can the new worker of a reload, which reads its settings there: an open that waits in a mount of ours, whose worker
# is stopped before it could hear that nobody waits any more
SKIP: {
	skip 'no ' . test_program() . ' (make check builds it)', 1 unless -x test_program();
	my $s = slow_setup({ 'connectfs.properties' => "connectfs.store.directory=\${slow:dir:k}\n" }, 'connectfs.fresh.ms' => 0);
	slow_set($s, 'dir', "k=$src");
	$far = mount_fs(slow => 1, source => $s->{settings}, settings => { 'connectfs.wait.ms' => 60_000 });
	my $m = mount_fs(source => $far->path('connectfs.properties'));
	slow_set($s, 'dir', "k=$src", 'hold=1');
	my $reload = start(program(), 'reload', $m->dir);
	eventually(sub { $far->status->{parked} == 1 }, 5, 'the new worker of a reload waits for its settings');
	kill STOP => $far->pid('worker');
	read_is($m->path('b.properties'), "b=1\n", '… the old one serves');
	ends_within_a_second($m);
	is($reload->finish(patience(5))->{status}, 1, '… who waits for the reload is told');
	kill CONT => $far->pid('worker');
	slow_set($s, 'dir', "k=$src");
	ok($far->stop, 'the end');
}
done_testing;
