# Three processes; what happens when one dies.
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
my $mnt = tmp_dir();
my $m = mount_fs(source => $src, mountpoint => $mnt);
my $f = $m->path('a.properties');
read_is($f, "k=1\n", 'read');

my %pid = %{$m->pids};
is(scalar(grep { $_ > 1 } values %pid), 3, 'three processes: supervisor, worker, notifier');
my %seen;
$seen{$_}++ for values %pid;
is(scalar keys %seen, 3, '… different ones');
is($pid{supervisor}, $m->{process}->pid, 'in the foreground the supervisor is the process that was started');
my $all = ConnectFS::Guard::processes();
is($all->{$pid{worker}}[0], $pid{supervisor}, "the worker is the supervisor's child");
is($all->{$pid{notifier}}[0], $pid{supervisor}, '… the notifier too');
# (its number is known before it has been executed)
sub holds { my ($pid, $what) = @_; return scalar grep { $_ =~ $what } map { eval { readlink "/proc/$pid/fd/$_" } // () } @{ls_names("/proc/$pid/fd") // []} }
ok(eventually(sub { !holds($pid{notifier}, qr{/dev/fuse}) }, 5), 'the notifier does not hold the device') if is_root();
like(slurp("/proc/$_/cmdline"), qr/connectfs/, 'named connectfs') for values %pid;
is(slurp("/proc/$pid{$_}/environ") =~ /\Q$S\E/ ? 1 : 0, 0, "$_: nothing of the secret in its environment") for is_root() ? keys %pid : ();

# Who has the last descriptor of an inotify waits long for its own end
sub holds_watches { return eventually(sub { holds($pid{supervisor}, qr/inotify/) == 1 }, 5) }
ok(holds_watches(), "the supervisor holds the worker's watches") if is_root();

sub alive { my ($pid) = @_; return !ConnectFS::Mount::process_gone($pid) }

# The worker dies
for my $sig (qw(KILL SEGV)) {
	my $before = { %{$m->pids} };
	kill $sig => $before->{worker};
	ok(eventually(sub { !alive($before->{worker}) }, 5), "the worker is ended by SIG$sig");
	ok(eventually(sub { my $p = eval { $m->pids }; $p && $p->{worker} > 1 && $p->{worker} != $before->{worker} }, 15), '… another takes its place');
	read_is($f, "k=1\n", '… and serves') or diag $m->log;
	is($m->pids->{supervisor}, $pid{supervisor}, '… of the same supervisor');
	cmp_ok($m->status->{worker_restarts}, '>=', 1, '… which counts');
	ok(holds_watches(), '… and holds its watches, and those of no other') if is_root();
	my $w = watch($f);
	my $v = "after-$sig";
	spew($S, "k=$v\n");
	ok($w->await('ATTRIB', 5), '… and rotates');
	read_is($f, "k=$v\n", '… to the new value');
	spew($S, "k=1\n");
	ok(eventually(sub { slurp($f) eq "k=1\n" }, 3));
}
like($m->log, qr/worker/, 'the log tells of it');

# The notifier dies
my $old = $m->pids->{notifier};
kill KILL => $old;
ok(eventually(sub { my $p = $m->pids; $p->{notifier} > 1 && $p->{notifier} != $old }, 10), 'the notifier is killed: another takes its place');
my $w = watch($f, $mnt);
spew($S, "k=3\n");
ok($w->await('ATTRIB', 10), '… and touches go on');
read_is($f, "k=3\n", '… the value is new');
spew("$src/b.properties", "b=1\n");
ok($w->await('CREATE', 10, 'b.properties'), '… names come');
$old = $m->pids->{notifier};
kill KILL => $old;
spew($S, "k=4\n");
read_is($f, "k=4\n", 'a rotation right at its death: the value is new');
ok(eventually(sub { $m->pids->{notifier} != $old }, 10), '… there is another one');
$w->drain(0.5);
spew($S, "k=5\n");
ok($w->await('ATTRIB', 10), '… and touches go on');

# A notifier that hangs does not stop readers
kill STOP => $m->pids->{notifier};
my $t0 = time;
spew($S, "k=6\n");
read_is($f, "k=6\n", 'a stopped notifier: readers get the new value');
cmp_ok(time - $t0, '<', patience(3), '… at once');
spew("$src/c.properties", "c=1\n");
ok(eventually(sub { $m->stat('c.properties') }, 5), '… a new name comes without the event after a second');
read_is($m->path('c.properties'), "c=1\n", '… and is read');
unlink "$src/c.properties";
ok(eventually(sub { !$m->stat('c.properties') }, 5), '… and goes');
ok(eventually(sub { scalar $m->log_lines(qr/level=(?:warn|error).*notifier|notifier.*level=(?:warn|error)/) }, 5), '… and the log says so') or diag $m->log;
kill CONT => grep { $_ } $m->{pids}{notifier};
eventually(sub { my $p = eval { $m->pids } or return 0; $p->{notifier} > 1 && alive($p->{notifier}) }, 10);

# The supervisor dies
my %last = %{$m->pids};
kill KILL => $last{supervisor};
ok(eventually(sub { !alive($last{worker}) && !alive($last{notifier}) }, 5), 'the supervisor is killed: worker and notifier leave');
my @mounts = $m->mounts;
is(scalar @mounts, 1, '… a dead mount stays');
# (ECONNABORTED as long as the kernel is still closing what the dead had open)
ok(eventually(sub { ((slurp_errno($f))[1] // 0) == ENOTCONN }, 5), '… ENOTCONN, never an empty directory');

# Starting again replaces it
my $m2 = mount_fs(source => $src, mountpoint => $mnt);
@mounts = $m2->mounts;
is(scalar @mounts, 1, 'started again: it replaces the dead one');
read_is($m2->path('a.properties'), "k=6\n", '… and serves');
ok($m2->stop, '… ends');

done_testing;
