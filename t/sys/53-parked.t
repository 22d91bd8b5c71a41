# 4,096 opens are parked at most.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_slow();

my $s = slow_setup({ 'a.properties' => "a=\${slow:h:k}\n", 'ok.properties' => "a=\${slow:ok:k}\n" }, 'connectfs.wait.ms' => 100_000);
slow_set($s, 'h', 'hold=1');
slow_set($s, 'ok', 'k=v');
my $m = mount_fs(slow => 1, source => $s->{settings});
my $parked = cc_helper('parked');
my $opener = cc_helper('opener');

read_is($m->path('ok.properties'), "a=v\n", 'read');
sub parked_now { return eval { $m->status->{parked} } // -1 }
my $most = start($parked, $m->path('a.properties'), 4000);
eventually(sub { parked_now() == 4000 }, 30, '4,000 are parked') or diag $most->output . $most->errors;
my $more = start($parked, $m->path('a.properties'), 200);
eventually(sub { parked_now() == 4096 }, 15, '96 more, and no one beyond: the status can be read all the same');
my $r = run($opener, $m->path('a.properties'), { timeout => 20 });
is($r->{out}, "opening\nETIMEDOUT\n", 'a further open: ETIMEDOUT');
cmp_ok($r->{seconds}, '<', patience(3), '… at once');
my $t0 = time;
ok($m->stat('a.properties'), 'stat answers');
read_is($m->path('ok.properties'), "a=v\n", '… what is fresh is served');
is($m->metric('connectfs_connectors\{state="ok"\}'), 1, '… the metrics can be read');
cmp_ok(time - $t0, '<', patience(3), '… at once');

slow_set($s, 'h', 'k=v');
my ($r1, $r2) = ($most->finish(patience(30)), $more->finish(patience(30)));
like($r1->{out}, qr/^ok 4000 /m, 'the store answers: the 4,000 get it') or diag $r1->{out};
like($r2->{out}, qr/^ok 96 /m, '… and the 96');
like($r2->{out}, qr/^ETIMEDOUT 104 /m, '… the others had ETIMEDOUT');
my ($max) = $r2->{out} =~ /^ETIMEDOUT 104 \d+ (\d+)/m;
cmp_ok($max // 1e9, '<', patience(5000), '… at once');
is(slow_fetches($s, 'h'), 1, 'one fetch for all');
eventually(sub { parked_now() == 0 }, 5, 'nobody is parked any more');
read_is($m->path('a.properties'), "a=v\n", 'and all is well');

# Killed in mid-wait, thousands at once
slow_set($s, 'h2', 'hold=1');
spew("$s->{stored}/b.properties", "a=\${slow:h2:k}\n");
eventually(sub { $m->stat('b.properties') }, 5);
my $doomed = start($parked, $m->path('b.properties'), 1000);
eventually(sub { parked_now() == 1000 }, 15, '1,000 are parked');
$doomed->signal('KILL');
ok($doomed->wait_end(patience(10)), '… and killed at once');
eventually(sub { parked_now() == 0 }, 10, '… parked no more');
slow_set($s, 'h2', 'k=w');
read_is($m->path('b.properties'), "a=w\n", '… all is well');

done_testing;
