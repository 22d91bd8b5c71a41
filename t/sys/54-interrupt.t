# An interrupt is answered at once, whatever the event thread does just now: who is killed must not stay.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_slow();
need_root('only root may trace the worker');

my $s = slow_setup({ 'a.properties' => "a=\${slow:h:k}\n", 'b.properties' => "b=1\n" }, 'connectfs.wait.ms' => 100_000);
slow_set($s, 'h', 'hold=1');
my $m = mount_fs(slow => 1, source => $s->{settings}, env => { MALLOC_PERTURB_ => 165 });
my ($opener, $freeze) = (cc_helper('opener'), cc_helper('freeze'));
sub opening { return start($opener, $m->path('a.properties')) }
sub at_once { my ($p, $what) = @_; ok($p->wait_end(patience(1)), "$what: at once") }

read_is($m->path('b.properties'), "b=1\n", 'what has been read');
my @before = map { opening() } 1 .. 3;
eventually(sub { $m->status->{parked} == 3 }, 5, 'three wait');
my $ice = start($freeze, $m->pid('worker'));
eventually(sub { $ice->output =~ /\n/ }, 5);
if ($ice->output ne "frozen\n") {
	diag $ice->output;
	plan skip_all => 'this root may not trace';
}
read_is($m->path('b.properties'), "b=1\n", '… is served while the event thread stands still');
my @after = map { opening() } 1 .. 3;
my $status = start('cat', $m->control('status.json'));
my $refresh = start('sh', '-c', 'echo b >"$0"', $m->control('refresh'));
eventually(sub { (grep { $_->output eq "opening\n" } @after) == 3 }, 5);
sleep 0.2;
$_->signal('KILL') for $before[0], $after[0], $status, $refresh;
at_once($before[0], 'SIGKILL of one that waited before');
at_once($after[0], '… of one that came later');
at_once($status, '… of a reader of the status');
at_once($refresh, '… of a writer of refresh');
$_->signal('USR1') for $before[1], $after[1];
at_once($before[1], 'a signal that is handled');
at_once($after[1], '… of one that came later');
is($_->output, "opening\nEINTR\n", '… EINTR') for $before[1], $after[1];

$ice->signal('KILL');
eventually(sub { $m->status->{parked} == 2 }, 5, 'the event thread goes on: two wait');
slow_set($s, 'h', 'k=v');
for ($before[2], $after[2]) { $_->wait_end(patience(5)); is($_->output, "opening\nok 4\n", '… and are served') }
eventually(sub { my $st = $m->status; $st->{parked} == 0 }, 5, 'nobody waits any more');
ok($m->stop, 'it ends');
unlike($m->log, qr/level=error|Sanitizer|died/, '… and nobody died');
done_testing;
