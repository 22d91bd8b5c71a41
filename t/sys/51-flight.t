# Single flight, shared deadlines, back-off.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use ConnectFS::Test;

need_slow();

my $s = slow_setup({ map({ ("c$_.properties" => "name=c$_\na=\${slow:one:a}\nb=\${slow:one:b$_}\n") } 1 .. 50),
	'dead.properties' => "a=\${slow:dead:k}\n", 'dead2.properties' => "b=\${slow:dead:k}\n",
	'err.properties' => "a=\${slow:err:k}\n", 'none.properties' => "a=\${slow:none:k}\n",
	'two.properties' => "a=\${slow:t1:k}\nb=\${slow:t2:k}\n", 'default.properties' => "a=\${slow:k}\n" },
	'connectfs.wait.ms' => 2000);
my $m = mount_fs(slow => 1, source => $s->{settings});
my $parked = cc_helper('parked');
slow_set($s, 'one', 'hold=1');

# Many connectors, many readers, one fetch
my @r = map { start('cat', $m->path("c$_.properties")) } 1 .. 50;
eventually(sub { $m->status->{parked} == 50 }, 10, '50 readers of 50 connectors wait');
slow_set($s, 'one', 'a=A', map { "b$_=B$_" } 1 .. 50);
$_->wait_end(patience(10)) for @r;
is(join('', map { $_->output } @r), join('', map { "name=c$_\na=A\nb=B$_\n" } 1 .. 50), 'all get their values') or diag join '', map { $_->errors } @r;
my @log = grep { /^fetch one/ } slow_log($s);
# The first open asks for its own fields; what the others want besides is in the next call, with all
cmp_ok(scalar @log, '<=', 3, 'one secret, a call or two with all the fields asked for') or diag join "\n", @log;
my $before = slow_fetches($s, 'one');
slurp($m->path("c$_.properties")) for 1 .. 50;
is(slow_fetches($s, 'one'), $before, 'what is fresh is served without a fetch');

slow_set($s, 'default', 'k=dflt');
read_is($m->path('default.properties'), "a=dflt\n", 'a reference without a path');

# One deadline, shared by all who wait for the fetch
slow_set($s, 'dead', 'hang=1');
my $t0 = time;
my $first = start($parked, $m->path('dead.properties'), 10);
eventually(sub { $m->status->{parked} == 10 }, 5);
sleep 1;
my $second = start($parked, $m->path('dead2.properties'), 10);
my $r1 = $first->finish(patience(10));
my $r2 = $second->finish(patience(10));
like($r1->{out}, qr/^ETIMEDOUT 10 /m, 'no answer: ETIMEDOUT for all');
like($r2->{out}, qr/^ETIMEDOUT 10 /m, '… also for who came later');
my ($min, $max) = $r1->{out} =~ /^ETIMEDOUT 10 (\d+) (\d+)/m;
cmp_ok($min, '>=', 1500, '… after connectfs.wait.ms (2 s)');
cmp_ok($max, '<=', patience(5000), '… not much later');
($min, $max) = $r2->{out} =~ /^ETIMEDOUT 10 (\d+) (\d+)/m;
cmp_ok($max, '<=', 1700, '… the later ones share the deadline of the fetch');
is(slow_fetches($s, 'dead'), 1, '… of one fetch');
like($m->attr('dead.properties', 'error') // '', qr/slow.*dead/, '.error names provider and path');
is($m->connector('dead2.properties')->{errno}, 'ETIMEDOUT', '… the status has the errno');

# After a failure the next opens are answered at once, until the back-off ends (1 s at least)
$t0 = time;
is_errno(($m->cat('dead.properties'))[1], 'ETIMEDOUT', 'then: ETIMEDOUT') for 1 .. 5;
cmp_ok(time - $t0, '<', 1, '… at once');

slow_set($s, 'err', 'error=ECONNREFUSED', 'outage=1', 'text=connection refused by 127.0.0.1:8200');
$t0 = time;
is_errno(($m->cat('err.properties'))[1], 'ECONNREFUSED', 'refused: ECONNREFUSED');
while (time - $t0 < 0.8) { $m->cat('err.properties'); sleep 0.02 }
is(slow_fetches($s, 'err'), 1, '… not asked again for the first second, however often it is opened');
like($m->attr('err.properties', 'error'), qr/slow.*connection refused by 127\.0\.0\.1:8200/s, '… .error has the whole sentence');
is(scalar $m->log_lines(qr/\berr\b.*connection refused by/), 1, '… one line in the log') or diag $m->log;
slow_set($s, 'err', 'k=well');
eventually(sub { defined(($m->cat('err.properties'))[0]) }, 6, '… and asked again after it');
read_is($m->path('err.properties'), "a=well\n", '… served');
cmp_ok(slow_fetches($s, 'err'), '<=', 5, '… by few fetches');

# Two secrets in one connector are fetched at the same time
slow_set($s, $_, 'delay=700', 'k=v') for 't1', 't2';
$t0 = time;
read_is($m->path('two.properties'), "a=v\nb=v\n", 'two secrets of one connector');
cmp_ok(time - $t0, '<', patience(1.3), '… are fetched side by side');

# What the store says about the secret itself
for my $e (['ENOKEY', 'Required key not available'], ['EKEYREVOKED', 'Key has been revoked'], ['EKEYREJECTED', 'Key was rejected by service'],
	['EKEYEXPIRED', 'Key has expired'], ['EHOSTUNREACH', 'No route to host'], ['EPROTO', 'Protocol error'], ['EIO', 'Input/output error'],
	['ETIMEDOUT', 'Connection timed out']) {
	my ($errno, $say) = @$e;
	spew("$s->{stored}/e-$errno.properties", "a=\${slow:e-$errno:k}\n");
	slow_set($s, "e-$errno", "error=$errno", "text=sentence of $errno");
	eventually(sub { $m->stat("e-$errno.properties") }, 5);
	my $r = run('cat', $m->path("e-$errno.properties"));
	like($r->{err}, qr/\Q$say\E/, "cat says: $say");
	is($m->connector("e-$errno.properties")->{errno}, $errno, "… $errno");
	like($m->attr("e-$errno.properties", 'error'), qr/sentence of $errno/, '… with the sentence');
}
is_errno(($m->cat('none.properties'))[1], 'ENOKEY', 'no such secret: ENOKEY');

done_testing;
