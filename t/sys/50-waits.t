# Nothing but open waits; and who waits can be ended.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_slow();

my $s = slow_setup({ map({ ("c$_.properties" => "name=c$_\npw=\${slow:hang:pw}\n") } 1 .. 60), 'ok.properties' => "pw=\${slow:fine:pw}\n" },
	'connectfs.wait.ms' => 600_000);
slow_set($s, 'hang', 'hang=1', 'pw=never');
slow_set($s, 'fine', 'pw=here');
my $m = mount_fs(slow => 1, source => $s->{settings});
my $opener = cc_helper('opener');

my @parked = map { start($opener, $m->path("c$_.properties")) } 1 .. 40;
eventually(sub { $m->status->{parked} == 40 }, 10, '40 readers of a secret store that hangs are parked');
is(slow_fetches($s, 'hang'), 1, '… for one fetch');

sub at_once {
	my ($what, $status, @cmd) = @_;
	my $r = run(@cmd, { timeout => 10 });
	ok(!$r->{timed_out} && $r->{seconds} < patience(4), "$what answers at once");
	is($r->{status}, $status, '… with exit status ' . $status) or diag $r->{err};
	return $r;
}
at_once('stat', 0, 'stat', map { $m->path("c$_.properties") } 1, 59);
my $r = at_once('ls -l --color', 0, 'ls', '-l', '--color=always', $m->dir);
is(() = ($r->{out} =~ /c\d+\.properties/g), 60, '… with all');
at_once('ls -lR', 0, 'ls', '-laR', $m->dir);
at_once('find', 0, 'find', $m->dir, '-type', 'f', '-size', '-1', '-newermt', '1990-01-01', '-perm', '-u=r');
at_once('test -r', 0, 'test', '-r', $m->path('c59.properties'));
at_once('test -w', 1, 'test', '-w', $m->path('c59.properties')) unless is_root();
at_once('du', 0, 'du', '-a', $m->dir);
at_once('df', 0, 'df', $m->dir);
at_once('realpath', 0, 'realpath', $m->path('c59.properties'));
at_once('bash tab completion', 0, 'bash', '-c', 'compgen -f "$1/c"', 'bash', $m->dir) if find_tool('bash');
if (find_tool('getfattr')) {
	$r = at_once('getfattr -d', 0, 'getfattr', '--absolute-names', '-d', map { $m->path("c$_.properties") } 1, 59);
	like($r->{out}, qr/user\.connectfs\.state="idle"/, '… idle');
}
at_once('connectfs status', 0, program(), 'status', $m->dir);
at_once('the metrics', 0, 'cat', $m->control('metrics'));
my $t0 = time;
read_is($m->path('ok.properties'), "pw=here\n", 'another secret is read');
cmp_ok(time - $t0, '<', patience(4), '… at once');
is(slow_fetches($s, 'hang'), 1, 'still one fetch, and none by looking');
is(scalar(grep { $_->ended } @parked), 0, 'the readers still wait');

# Ctrl-C
my $cat = start('cat', $m->path('c41.properties'));
eventually(sub { $m->status->{parked} == 41 }, 5);
$t0 = time;
$cat->signal('INT');
ok($cat->wait_end(patience(3)), 'Ctrl-C ends a reader');
cmp_ok(time - $t0, '<', patience(2), '… at once');
is($cat->{wait} & 127, 2, '… by the signal');

# SIGKILL
for my $victim (@parked[0 .. 4]) {
	$t0 = time;
	$victim->signal('KILL');
	ok($victim->wait_end(patience(3)), sprintf 'SIGKILL ends a reader (%.3f s)', time - $t0);
}
$cat = start('cat', $m->path('c42.properties'));
$cat->signal('KILL'); # perhaps before the request is out
ok($cat->wait_end(patience(3)), '… also early');

# A handler: EINTR
my $eintr = start($opener, $m->path('c43.properties'));
eventually(sub { $m->status->{parked} == 36 }, 5, 'parked after these: 35 and one');
$eintr->signal('USR1');
is($eintr->finish(patience(5))->{out}, "opening\nEINTR\n", 'a signal with a handler: EINTR');

# A process that waits is not in uninterruptible sleep
isnt($parked[10]->state, 'D', 'a parked reader is not in D state');

# timeout(1), as scripts do
$r = run('timeout', 1, 'cat', $m->path('c44.properties'), { timeout => 10 });
is($r->{status}, 124, 'timeout 1 cat works');
ok(!$r->{timed_out}, '… in time');
eventually(sub { $m->status->{parked} == 35 }, 5, 'those who are gone are parked no more');

# The store answers
slow_set($s, 'hang', 'pw=at last');
for my $p (@parked[5 .. 39]) { $p->wait_end(patience(10)) }
is(scalar(grep { $_->ended && $_->output =~ /^ok \d/m } @parked[5 .. 39]), 35, 'the store answers: all who wait get it');
is(slow_fetches($s, 'hang'), 1, '… from one fetch');
is($m->status->{parked}, 0, '… nobody is parked');
read_is($m->path('c60.properties'), "name=c60\npw=at last\n", '… the next is served');

# Ending with parked readers: answered, and out within a second
slow_set($s, 'hang2', 'hang=1');
spew("$s->{stored}/h2.properties", "a=\${slow:hang2:k}\n");
eventually(sub { $m->stat('h2.properties') }, 5);
my @late = map { start($opener, $m->path('h2.properties')) } 1 .. 5;
eventually(sub { $m->status->{parked} == 5 }, 5, 'five more are parked');
ok($m->stop(3), 'SIGTERM ends all with parked readers');
ok($_->wait_end(patience(3)), '… a reader too') for @late;
unlike(join('', map { $_->output } @late), qr/^ok/m, '… with an error');

done_testing;
