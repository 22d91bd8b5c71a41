# A worker that hangs is noticed by its silence and replaced; a request that kills workers is answered in the end.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_fuse();

my $src = tmp_dir();
spew("$src/a.properties", "a=1\n");
my $m = mount_fs(source => $src);
read_is($m->path('a.properties'), "a=1\n", 'reads');
my $worker = $m->pid('worker');
my $supervisor = $m->pid('supervisor');

# Nothing of it moves any more; not even its death could be told from the outside
kill STOP => $worker;
my $p = start('cat', $m->path('a.properties'));
ok(eventually(sub { ConnectFS::Mount::process_gone($worker) }, 40), 'a worker that hangs is killed');
$p->wait_end(patience(10));
is($p->output, "a=1\n", '… the reader that waited has its answer') or diag $p->errors;
like($m->log, qr/the worker hung; starting another/, '… the log says so');
isnt($m->pids->{worker}, $worker, '… another one serves');

# A supervisor that was stopped itself for longer than that has heard nothing, and does not kill for it
$worker = $m->pids->{worker};
kill STOP => $supervisor;
sleep 17;
kill CONT => $supervisor;
sleep 1;
is($m->pids->{worker}, $worker, 'a supervisor that was stopped itself kills nobody');
ok($m->stop, 'ends');

# The same signal again and again at the same request: each reader has an answer
$m = mount_fs(source => $src);
my $f = $m->path('a.properties');
my $crashes = 0;
my $reader = start('sh', '-c', 'for i in 1 2 3 4 5 6 7 8 9 10; do cat "$0"; done', $f);
for (1 .. scale(20)) {
	my $pid = $m->worker_now;
	$crashes += kill SEGV => $pid if $pid;
	select undef, undef, undef, 0.05;
}
$reader->wait_end(patience(60));
is($reader->output, "a=1\n" x 10, "crashes ($crashes) that no request is to blame for: no reader notices") or diag $reader->errors;
ok(eventually(sub { $m->status->{parked} == 0 }, 30), '… nothing waits any more');
read_is($f, "a=1\n", '… and it serves');
ok($m->stop, 'ends');
done_testing;
